"""Mechanism hospital: the trusted server's noise is as large as its price says, always fresh."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import kstest, pearsonr

from metaward.options import ConfigError
from metaward.privacy import UNITS
from metaward.privacy.accounting import enforced_epsilon
from metaward.privacy.event import gaussian
from metaward.privacy.price import over_run, profiles
from metaward.server.protection import noise_multiplier, protection
from metaward.sim import Sim
from metaward.strategies.checks import check_release
from metaward.strategies.combine import Mean
from tests.mechanisms import spelled
from tests.server.small import small

CLIP, HOSPITALS, DIM = 0.5, 4, 100_000
RUN = small(
    f"privacy={{mechanism: whole, unit: hospital, clip_norm: {CLIP}}}", "client.schedule=passes"
)
Vectors = NDArray[np.float32]


def updates(norm: float = 0.9 * CLIP, hospitals: int = HOSPITALS) -> Vectors:
    """Inside the clip norm, so that the mean is known."""
    drawn = np.random.default_rng(1).normal(size=(hospitals, DIM))
    return (norm * drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def noise(given: Vectors, round: int = 1, run: Sim = RUN, **options: Any) -> NDArray[np.float64]:
    """What the server's direction holds beyond the mean."""
    found = protection(run, **{"simulated": False} | options)(given, Mean(), round)
    assert (found.shape, found.dtype) == ((DIM,), np.float32)
    return found.astype(np.float64) - given.astype(np.float64).mean(axis=0)


def fit(values: NDArray[np.float64], deviation: float) -> float:
    """p-value of a Kolmogorov-Smirnov test against a normal with this standard deviation."""
    return float(kstest(values / deviation, "norm").pvalue)


@pytest.mark.parametrize("simulated", [True, False])
@pytest.mark.parametrize("hospitals", [1, 4])
def test_noise_is_normal_with_deviation_z_times_clip_over_hospitals(
    hospitals: int, simulated: bool
) -> None:
    """z * S / m. Real noise is random, so that the test fails by chance once in 10^6 runs. A scale
    that is wrong by 5 % moves the distribution function by up to 0.05 * max(x pdf(x)) = 0.012,
    which is 3.8 / sqrt(n) for n = 10^5: p = 2 exp(-2 * 3.8^2) = 5e-13."""
    expected = noise_multiplier(RUN) * CLIP / hospitals
    found = noise(updates(hospitals=hospitals), simulated=simulated)
    assert fit(found, expected) > 1e-6
    for wrong in (0.95, 1.05, 0.5, 1 / 3 if hospitals == 4 else 2):
        assert fit(found, wrong * expected) < 1e-6


def test_noise_is_priced_for_a_hospital_that_is_always_chosen() -> None:
    """Three of four take part in a round, but the price is that of all six rounds."""
    assert RUN.strategies.hospitals_per_round == 3
    z, rounds = noise_multiplier(RUN), RUN.server.rounds
    assert RUN.privacy.budget is not None
    epsilon, delta = RUN.privacy.budget.epsilon, RUN.privacy.budget.delta
    assert 0.99 * epsilon < enforced_epsilon([gaussian(z, rounds)], delta) <= epsilon
    assert enforced_epsilon([gaussian(z, rounds + 1)], delta) > epsilon


def test_the_hospitals_ledger_and_the_server_mean_the_same_noise() -> None:
    """The hospital charges for noise that the server adds: their multipliers must be equal."""
    rows = [[3, 1, 2], [7, 5]]
    within = profiles(RUN.privacy.unit, RUN.privacy.uses(list, rows), rows)
    priced = RUN.privacy.noise_multipliers(over_run(within, within, RUN.server.rounds))
    assert priced == {"update": noise_multiplier(RUN)}


def test_a_given_multiplier_is_taken() -> None:
    run = small(
        "privacy={mechanism: whole, unit: hospital, noise_multiplier: 7.5}",
        "client.schedule=passes",
    )
    assert noise_multiplier(run) == 7.5


@pytest.mark.parametrize("wild", [1e20, np.inf, np.nan])
def test_one_hospital_moves_the_direction_by_its_clip_norm_at_most(wild: float) -> None:
    """Hospitals clip; the server does not rely on it. The same seeded noise on both sides."""
    quiet, loud = updates(), updates()
    quiet[1] = 0
    loud[1] = wild
    moved = [noise_free(given) for given in (quiet, loud)]
    distance = np.linalg.norm(moved[0] - moved[1])
    assert distance <= CLIP / HOSPITALS * 1.001
    if np.isfinite(wild):
        assert distance > 0.99 * CLIP / HOSPITALS


def noise_free(given: Vectors) -> NDArray[np.float64]:
    """With the run's seeded noise, which is the same each time."""
    return protection(RUN, True)(given, Mean(), 1).astype(np.float64)


def test_real_noise_is_never_the_same() -> None:
    one, two = noise(updates()), noise(updates())
    assert abs(pearsonr(one, two).statistic) < 5 / DIM**0.5


def test_seeded_noise_differs_between_rounds_learners_and_seeds() -> None:
    """... and only there: a simulation can be repeated."""
    given = updates()
    options = spelled("hospital", f"clip_norm: {CLIP}"), "client.schedule=passes"
    other, changed = small(*options, "seed=6"), small(*options, "client.inner.steps=3")
    first = noise(given, simulated=True)
    assert noise(given, simulated=True).tobytes() == first.tobytes()
    for found in (
        noise(given, round=2, simulated=True),
        noise(given, run=changed, simulated=True),
        noise(given, run=other, simulated=True),
    ):
        assert abs(pearsonr(first, found).statistic) < 5 / DIM**0.5


@pytest.mark.parametrize("cap", [CLIP, 1.0, 1000.0])
@pytest.mark.parametrize("length", [0.0, 0.4, 1.0, 1.0001, 1e30, np.nan, np.inf])
def test_no_value_of_an_update_decides_whether_the_server_rejects_it(
    length: float, cap: float
) -> None:
    """The server sees it without noise, so no noise would cover what a rejection tells."""
    given = torch.from_numpy(updates(CLIP, 1)[0]).double() * length
    sealed = RUN.privacy.release("a", 1, given, torch.tensor(np.nan), None)
    assert check_release(sealed, "a", 1, DIM, cap) is sealed


def test_a_norm_limit_below_the_clip_norm_is_refused_before_any_update_is_made() -> None:
    below = f"strategies.max_norm={np.nextafter(CLIP, 0)}"
    options = spelled("hospital", f"clip_norm: {CLIP}"), "client.schedule=passes"
    with pytest.raises(
        ConfigError, match=r"strategies\.max_norm: 0\.49\d+ is below privacy\.clip_norm"
    ):
        small(*options, below)
    small(*options, f"strategies.max_norm={CLIP}")
    for unit in ("record", "task"):  # their noise is in the update before the server sees it
        small(spelled(unit, f"clip_norm: {CLIP}"), "client.schedule=passes", below)


@pytest.mark.parametrize("unit", sorted(UNITS.keys() - {"hospital"}))
def test_the_server_adds_nothing_where_hospitals_did(unit: str) -> None:
    run = small(spelled(unit), "client.schedule=passes")
    assert noise_multiplier(run) == 0.0
    given = updates()
    found = protection(run, False)(given, Mean(), 1)
    assert found.tobytes() == Mean()(given).tobytes()
