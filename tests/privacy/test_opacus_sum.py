"""Opacus as a second opinion on the clipped sum and its noise; what Opacus would let pass, refused.

Opacus clips to clip / (norm + 1e-6), which ours need not repeat: the tolerance allows for it.
"""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional

from metaward.client.models import Architecture, network
from metaward.client.models.conv import Conv
from metaward.client.models.mlp import Mlp
from metaward.client.tasks.base import TaskSpec
from metaward.client.tasks.kinds import CLASSIFICATION
from metaward.privacy.clipping import clipped_sum
from metaward.privacy.session import gradient
from tests.privacy.opacus_sum import check_module, opacus_sum

CASES: dict[str, tuple[Architecture, tuple[int, ...]]] = {
    "conv-2d": (Conv(8, 2, 4), (1, 8, 8)),
    "conv-2d-stride": (Conv(8, 2, 4, "stride"), (3, 9, 7)),
    "conv-1d": (Conv(8, 2, 4), (2, 17)),
    "mlp": (Mlp((6, 5)), (2, 3)),
    "logistic": (Mlp(()), (4,)),
}
N = 12


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cross_entropy(outputs: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, y, reduction="none")


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opacus_gives_the_same_sum(name: str, dtype: torch.dtype) -> None:
    """With a clip that cuts all records, one that cuts half of them, and one that cuts none."""
    architecture, shape = CASES[name]
    net = network(architecture, TaskSpec(CLASSIFICATION, shape, 3, 3, True), 3)
    phi = net.initial(1).to(dtype)
    x = torch.randn(N, *shape, generator=generator(2), dtype=dtype)
    y = torch.randint(3, (N,), generator=generator(3))
    one = gradient(lambda phi, x, y: cross_entropy(net.forward(phi, x), y))
    norms = torch.func.vmap(one, (None, 0, 0))(phi, x, y).norm(dim=1)
    clips = [float(norms.min()) / 2, float(norms.median()), float(norms.max()) * 2]
    assert [int((norms > clip).sum()) for clip in clips] == [N, N // 2, 0]
    for clip in clips:
        ours = clipped_sum(lambda x, y: one(phi, x, y), x, y, torch.arange(N), N, clip)
        theirs = opacus_sum(net.module, phi, cross_entropy, x, y, clip)
        slack = N * 2e-6 + (1e-4 * clip if dtype == torch.float32 else 0)
        assert theirs.dtype == dtype
        assert float((ours - theirs).norm()) < slack
        assert float(ours.norm()) > 20 * slack, "a comparison with nothing"


def test_the_sum_is_divided_by_a_public_constant() -> None:
    """By 7, whatever the number of records; Opacus would take theirs."""
    module, phi = nn.Linear(2, 1, bias=False), torch.zeros(2)
    x = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    found = opacus_sum(module, phi, lambda out, y: out[:, 0] * y, x, torch.ones(2), 1.0, 0.0, 7)
    torch.testing.assert_close(found, torch.tensor([0.6, 1.8]) / 7, rtol=1e-5, atol=0)


def test_the_noise_of_a_step_has_the_promised_deviation() -> None:
    """sigma * C / B = 1.5 * 2 / 4 on each of 100,000 coordinates; the known sum is taken off.

    Kolmogorov-Smirnov at level 1e-6: D must stay below sqrt(ln(2e6) / 2n) = 0.0085; a deviation
    1.1 times off moves the distribution function by 0.023.
    """
    module, phi = nn.Linear(100_000, 1, bias=False), torch.zeros(100_000)
    x = torch.zeros(3, 100_000)
    x[:, 0] = 5.0
    noise = generator(1)

    def step(sigma: float) -> Tensor:
        return opacus_sum(
            module, phi, lambda out, y: out[:, 0], x, torch.zeros(3), 2.0, sigma, 4, noise
        )

    drawn = (step(1.5) - step(0.0)).numpy()
    for factor, fits in ((1.0, True), (0.5, False), (1.1, False)):
        p = stats.kstest(drawn, "norm", args=(0, factor * 0.75)).pvalue
        assert (p > 1e-6) == fits, factor
    assert not torch.equal(step(1.5), step(1.5)), "one generator over all steps"


def test_the_noise_comes_from_the_given_generator_and_from_nowhere_else() -> None:
    module, x = nn.Linear(50, 1), torch.zeros(1, 50)
    before = torch.get_rng_state()
    one, same, other = (
        opacus_sum(
            module, torch.zeros(51), lambda out, y: out[:, 0], x, x, 1.0, 1.0, 1, generator(k)
        )
        for k in (5, 5, 6)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_network_and_its_vector_are_left_alone() -> None:
    module, phi = nn.Linear(2, 2), torch.arange(6.0)
    before = [p.clone() for p in module.parameters()]
    opacus_sum(module, phi, cross_entropy, torch.ones(1, 2), torch.tensor([0]), 1.0)
    assert all(torch.equal(p, q) for p, q in zip(module.parameters(), before, strict=True))
    assert all(p.grad is None and not hasattr(p, "grad_sample") for p in module.parameters())
    assert not module._forward_hooks
    assert phi.tolist() == [0, 1, 2, 3, 4, 5]


def test_why_it_is_a_reference_only() -> None:
    """One record that is not finite: Opacus's sum is NaN, ours leaves that record out."""
    module, phi = nn.Linear(2, 1, bias=False), torch.zeros(2)
    x = torch.tensor([[math.inf, 0.0], [0.0, 1.0]])
    theirs = opacus_sum(module, phi, lambda out, y: out[:, 0], x, torch.zeros(2), 1.0)
    one = gradient(lambda phi, x, y: x @ phi)
    ours = clipped_sum(lambda x, y: one(phi, x, y), x, torch.zeros(2), torch.arange(2), 2, 1.0)
    assert theirs.isnan().any()
    assert ours.tolist() == pytest.approx([0.0, 1.0])


# -------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm1d(4),
        nn.BatchNorm1d(4, affine=False),
        nn.BatchNorm1d(4, track_running_stats=False),
        nn.BatchNorm1d(4, affine=False, track_running_stats=False),
        nn.BatchNorm1d(4).requires_grad_(False),
        nn.BatchNorm2d(4),
        nn.SyncBatchNorm(4),
    ],
)
def test_batch_norm_is_refused_in_every_disguise(norm: nn.Module) -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.Sequential(norm), nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"'1\.0' is a .*BatchNorm.*use GroupNorm"):
        check_module(module)
    with pytest.raises(ValueError, match="use GroupNorm"):
        opacus_sum(module, torch.zeros(1), cross_entropy, torch.ones(2, 3), torch.zeros(2), 1.0)


def test_buffers_are_refused() -> None:
    with pytest.raises(ValueError, match="buffers"):
        check_module(
            nn.Sequential(nn.Conv1d(1, 2, 3), nn.InstanceNorm1d(2, track_running_stats=True))
        )


def test_what_opacus_refuses_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Opacus refuses.*training mode"):
        check_module(nn.Linear(2, 2).eval())
    with pytest.raises(ValueError, match=r"Opacus refuses.*LSTM"):
        check_module(nn.LSTM(2, 2))


def test_our_networks_pass() -> None:
    for architecture, shape in CASES.values():
        check_module(network(architecture, TaskSpec(CLASSIFICATION, shape, 3, 3, True), 3).module)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phi": torch.zeros(5)}, r"shape \(5,\).*6 values"),
        ({"clip": 0.0}, "clip = 0.0"),
        ({"noise_multiplier": 1.0}, "generator"),
        ({"batch_size": 0}, "batch_size = 0"),
    ],
)
def test_bad_arguments_are_named(changes: dict[str, object], message: str) -> None:
    good = {
        "module": nn.Linear(2, 2),
        "phi": torch.zeros(6),
        "losses": cross_entropy,
        "x": torch.ones(1, 2),
        "y": torch.tensor([0]),
        "clip": 1.0,
    }
    assert opacus_sum(**good).shape == (6,)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        opacus_sum(**good | changes)  # type: ignore[arg-type]
