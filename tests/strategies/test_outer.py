"""Server optimisers: cases of three numbers solved by hand, and Adam beside torch's."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from metaward.strategies import OUTER
from metaward.strategies.combine import Mean
from metaward.strategies.outer import Adam, Momentum, Outer, Scheduled, Sgd

Vector = NDArray[np.float32]
THETA = np.array([1.0, -2.0, 0.5], np.float32)
STEPS = [np.array(v, np.float32) for v in ([2, 4, -8], [1, 0, 2], [-1, 2, 0.5])]


def run(outer: Outer, steps: list[Vector], rounds: int) -> list[Vector]:
    """theta after each step, in a run of ``rounds`` rounds."""
    theta, state, path = THETA, outer.init(THETA), []
    for number, combined in enumerate(steps):
        theta, state = outer.step(theta, combined, state, number / rounds)
        path.append(theta)
    return path


@pytest.mark.parametrize(
    ("outer", "rounds", "expected"),
    [
        # theta + eps * combined, eps = 1/2 throughout
        (Sgd(lr=0.5), 4, [[2, 0, -3.5], [2.5, 0, -2.5], [2, 1, -2.25]]),
        # eps = 1, 3/4, 1/2: from 1 to 0 over four rounds
        (Sgd(lr=1.0, schedule="linear"), 4, [[3, 2, -7.5], [3.75, 2, -6], [3.25, 3, -5.75]]),
        # eps = 1, 7/8, 3/4: from 1 to 1/2 over four rounds
        (
            Sgd(lr=1.0, schedule="linear", final_lr=0.5),
            4,
            [[3, 2, -7.5], [3.875, 2, -5.75], [3.125, 3.5, -5.375]],
        ),
        # (1 + cos(pi at)) / 2 = 1, 3/4, 1/4 at 0, 1/3, 2/3
        (Sgd(lr=1.0, schedule="cosine"), 3, [[3, 2, -7.5], [3.75, 2, -6], [3.5, 2.5, -5.875]]),
        # the same between 1 and 1/2: eps = 1, 7/8, 5/8
        (
            Sgd(lr=1.0, schedule="cosine", final_lr=0.5),
            3,
            [[3, 2, -7.5], [3.875, 2, -5.75], [3.25, 3.25, -5.4375]],
        ),
        # v = u1; u2 + v/2; u3 + v/2, eps = 1:  [2,4,-8], [2,2,-2], [0,3,-0.5]
        (Momentum(lr=1.0, beta=0.5), 4, [[3, 2, -7.5], [5, 4, -9.5], [5, 7, -10]]),
        # the same velocities, eps = 1, 1/2
        (Momentum(lr=1.0, beta=0.5, schedule="linear"), 2, [[3, 2, -7.5], [4, 3, -8.5]]),
        (Momentum(lr=0.5, beta=0.0), 4, [[2, 0, -3.5], [2.5, 0, -2.5], [2, 1, -2.25]]),
    ],
)
def test_hand_solved(outer: Outer, rounds: int, expected: list[list[float]]) -> None:
    found = run(outer, STEPS[: len(expected)], rounds)
    np.testing.assert_allclose(found, np.array(expected, np.float32), rtol=1e-6)


def test_adam_hand_solved() -> None:
    """beta1 = beta2 = 0: each coordinate moves by eps times its sign. With beta1 = 1/2,
    beta2 = 0: m_hat = u1, then (u1/4 + u2/2) / (3/4), over |u2|."""
    first = run(Adam(lr=0.25, beta1=0.0, beta2=0.0), STEPS[:1], 4)
    np.testing.assert_allclose(first, [[1.25, -1.75, 0.25]], rtol=1e-6)
    two = run(Adam(lr=0.75, beta1=0.5, beta2=0.0), [STEPS[0], np.full(3, 2, np.float32)], 4)
    np.testing.assert_allclose(two[0], [1.75, -1.25, -0.25], rtol=1e-6)
    # moves: (0.5 + 1) / 0.75 / 2 = 1, (1 + 1) / 0.75 / 2 = 4/3, (-2 + 1) / 0.75 / 2 = -2/3
    np.testing.assert_allclose(two[1], [1.75 + 0.75, -1.25 + 1, -0.25 - 0.5], rtol=1e-6)


def test_adam_with_schedule_hand_solved() -> None:
    """Signs only (both betas 0): eps = 1, 1/2 linear; 1, 1/2 cosine at 0 and 1/2."""
    for schedule in ("linear", "cosine"):
        outer = Adam(lr=1.0, beta1=0.0, beta2=0.0, schedule=schedule)  # type: ignore[arg-type]
        found = run(outer, [STEPS[0], STEPS[2]], 2)
        np.testing.assert_allclose(found, [[2, -1, -0.5], [1.5, -0.5, 0]], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("lr", "betas", "epsilon"),
    [(0.01, (0.9, 0.999), 1e-8), (0.5, (0.5, 0.9), 1e-2), (1.0, (0.0, 0.99), 1e-4)],
)
def test_adam_is_torchs_over_twenty_steps(
    lr: float, betas: tuple[float, float], epsilon: float
) -> None:
    rng = np.random.default_rng(4)
    theta = rng.normal(size=50).astype(np.float32)
    parameter = torch.nn.Parameter(torch.from_numpy(theta.copy()))
    reference = torch.optim.Adam([parameter], lr=lr, betas=betas, eps=epsilon, maximize=True)
    outer = Adam(lr=lr, beta1=betas[0], beta2=betas[1], epsilon=epsilon)
    state = outer.init(theta)
    for _ in range(20):
        combined = (rng.normal(size=50) * 10.0 ** rng.integers(-3, 3, 50)).astype(np.float32)
        theta, state = outer.step(theta, combined, state, 0.0)
        parameter.grad = torch.from_numpy(combined)
        reference.step()
        np.testing.assert_allclose(theta, parameter.detach().numpy(), rtol=2e-5, atol=2e-6)


def test_momentum_is_torchs_over_twenty_steps() -> None:
    rng = np.random.default_rng(5)
    theta = rng.normal(size=50).astype(np.float32)
    parameter = torch.nn.Parameter(torch.from_numpy(theta.copy()))
    reference = torch.optim.SGD([parameter], lr=0.3, momentum=0.9, maximize=True)
    outer, state = Momentum(lr=0.3, beta=0.9), Momentum().init(theta)
    for _ in range(20):
        combined = rng.normal(size=50).astype(np.float32)
        theta, state = outer.step(theta, combined, state, 0.0)
        parameter.grad = torch.from_numpy(combined)
        reference.step()
        np.testing.assert_allclose(theta, parameter.detach().numpy(), rtol=2e-5, atol=2e-6)


@given(st.floats(0.015625, 1, width=32), st.integers(1, 9))
def test_sgd_on_mean_updates_is_reptiles_outer_step(eps: float, hospitals: int) -> None:
    """theta + eps * (mean(phi) - theta), Nichol, Achiam, Schulman 2018, equation of section 3."""
    rng = np.random.default_rng(hospitals)
    phi = rng.normal(size=(hospitals, 7))
    theta = rng.normal(size=7).astype(np.float32)
    updates = (phi - theta).astype(np.float32)
    found, _ = Sgd(lr=eps).step(theta, Mean()(updates), {}, 0.0)
    expected = theta + eps * (phi.mean(axis=0) - theta)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cls", OUTER.values())
@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_rate_goes_from_lr_to_final_lr(cls: type[Scheduled], schedule: str) -> None:
    outer = cls(lr=2.0, schedule=schedule, final_lr=0.5)  # type: ignore[arg-type]
    rates = [outer.rate(at) for at in np.linspace(0, 1, 11)]
    assert rates[0] == 2.0
    if schedule == "constant":
        assert set(rates) == {2.0}
    else:
        assert rates[-1] == pytest.approx(0.5)
        assert rates[5] == pytest.approx(1.25), "both are half-way at half-time"
        assert rates == sorted(rates, reverse=True)
    if schedule == "cosine":
        assert rates[1] > 2.0 - 0.15, "cosine starts flat"


@pytest.mark.parametrize("cls", OUTER.values())
def test_steps_are_pure(cls: type[Outer]) -> None:
    """The same inputs give the same outputs, and none of them is written to or shared."""
    outer = cls()
    theta, combined = THETA.copy(), STEPS[0].copy()
    state = outer.init(theta)
    _, state = outer.step(theta, STEPS[1], state, 0.0)
    kept = {key: value.copy() for key, value in state.items()}
    one_theta, one_state = outer.step(theta, combined, state, 0.5)
    two_theta, two_state = outer.step(theta, combined, state, 0.5)
    np.testing.assert_array_equal(theta, THETA)
    np.testing.assert_array_equal(combined, STEPS[0])
    assert one_theta.tobytes() == two_theta.tobytes()
    for key, value in kept.items():
        np.testing.assert_array_equal(state[key], value)
        np.testing.assert_array_equal(one_state[key], two_state[key])
    assert not np.shares_memory(one_theta, theta)
    assert not np.shares_memory(one_theta, combined)


@pytest.mark.parametrize("cls", OUTER.values())
def test_state_keeps_its_keys_shapes_and_types(cls: type[Outer]) -> None:
    """A checkpoint must be able to hold it: named float32 vectors, the same every round."""
    outer = cls()
    first = outer.init(THETA)
    theta, second = outer.step(THETA, STEPS[0], first, 0.0)
    assert theta.dtype == np.float32
    assert theta.shape == THETA.shape
    layout = [{k: (v.shape, v.dtype) for k, v in state.items()} for state in (first, second)]
    assert layout[0] == layout[1]
    assert all(dtype == np.float32 for _, dtype in layout[0].values())


@pytest.mark.parametrize("cls", OUTER.values())
def test_positive_direction_moves_theta_up(cls: type[Outer]) -> None:
    """Updates are directions, not gradients: every optimiser adds."""
    theta, _ = cls().step(THETA, np.ones(3, np.float32), cls().init(THETA), 0.0)
    assert (theta > THETA).all()
