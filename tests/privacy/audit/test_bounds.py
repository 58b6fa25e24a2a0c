"""The audit's statistics: how often its bounds are wrong, and how far off they stand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import ndtri

from metaward.privacy.audit import CONFIDENCE
from metaward.privacy.audit.bounds import (
    correlation,
    deviation_band,
    gaussian_p,
    mu_lower,
    mu_lower_any,
    trials_needed,
)

REPEATS = 2000


def scores(mu: float, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """``REPEATS`` audits of n scores inside and n outside; their scale and centre are unknown."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((2, REPEATS, n))
    return 3 + 2 * (noise[0] + mu), 3 + 2 * noise[1]


@pytest.mark.parametrize("mu", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("n", [50, 500])
def test_the_bound_is_too_high_once_in_twenty(mu: float, n: int) -> None:
    """2000 audits at 95 %: 100 misses expected, standard deviation 9.7; 60 to 145 is 4 of them,
    and what the normal approximation is off at 50 scores. A bound at 90 % would miss 200 times."""
    misses = sum(mu_lower(a, b, 0.95) > mu for a, b in zip(*scores(mu, n, 1), strict=True))
    assert 60 <= misses <= 145
    wrong = sum(mu_lower(a, b, 0.90) > mu for a, b in zip(*scores(mu, n, 1), strict=True))
    assert wrong > 145


@pytest.mark.parametrize("mu", [0.5, 2.0])
def test_the_free_bound_holds_for_noise_that_is_not_gaussian_too(mu: float) -> None:
    """Laplace noise of scale 1 / mu. At the threshold 1/2 hits are 1 - e^(-mu/2) / 2, false alarms
    the rest, so the truth is 2 Phi^-1(hits). Of 300 audits 15 are expected above it at most;
    25 is 2.7 standard deviations more."""
    rng = np.random.default_rng(2)
    truth = 2 * float(ndtri(1 - math.exp(-mu / 2) / 2))
    misses = 0
    for _ in range(300):
        noise = rng.laplace(scale=1 / mu, size=(2, 400))
        misses += mu_lower_any(1 + noise[0], noise[1], 0.5, 0.95) > truth
    assert misses < 25


def test_the_free_bound_is_close_on_gaussian_noise() -> None:
    inside, outside = scores(1.0, 4000, 3)
    found = [
        mu_lower_any((a - 3) / 2, (b - 3) / 2, 0.5, 0.95)
        for a, b in zip(inside[:20], outside[:20], strict=True)
    ]
    assert 0.8 < min(found) <= max(found) < 1


@pytest.mark.parametrize("confidence", [0.95, CONFIDENCE])
@pytest.mark.parametrize("mu", [0.3, 1.7])
def test_as_many_trials_as_are_said_to_be_needed(mu: float, confidence: float) -> None:
    """The bound is above 0.7 mu but for one audit in a thousand: of 2000, 2 are expected below;
    10 or more have probability 5e-5. With a third of the trials 10 % and more stand below."""
    n = trials_needed(mu, confidence) // 2

    def below(n: int, seed: int) -> int:
        pairs = zip(*scores(mu, n, seed), strict=True)
        return sum(mu_lower(a, b, confidence) < 0.7 * mu for a, b in pairs)

    assert below(n, 4) < 10
    assert below(n // 3, 5) > 50


def test_no_noise_is_no_privacy() -> None:
    assert mu_lower(np.ones(50), np.zeros(50), 0.95) == math.inf
    assert mu_lower(np.zeros(50), np.zeros(50), 0.95) == 0.0
    assert mu_lower(np.zeros(50), np.ones(50), 0.95) == 0.0
    assert mu_lower_any(np.ones(50), np.zeros(50), 0.5, 0.95) > 2
    assert mu_lower_any(np.zeros(50), np.ones(50), 0.5, 0.95) == 0.0


@pytest.mark.parametrize("n", [3, 300])
def test_the_band_holds_the_truth_as_often_as_promised(n: int) -> None:
    """At level 0.1, 2000 bands: 200 misses expected, standard deviation 13.4, 4 of them allowed."""
    rng = np.random.default_rng(6)
    bands = [deviation_band(rng.normal(0, 2.5, n), 0.1) for _ in range(REPEATS)]
    misses = sum(not low <= 2.5 <= high for _, low, high in bands)
    assert 146 <= misses <= 254
    assert all(low <= found <= high for found, low, high in bands)


def test_correlations_are_as_likely_as_they_are_said_to_be() -> None:
    """p is uniform for independent rows: below 0.1 in 200 of 2000, standard deviation 13.4."""
    rng = np.random.default_rng(7)
    rows = rng.standard_normal((REPEATS, 2, 9))
    small = sum(correlation(a, b)[1] < 0.1 for a, b in rows)
    assert 146 <= small <= 254
    a, b = rng.standard_normal((2, 200))
    assert correlation(a, a)[0] == pytest.approx(1)
    assert correlation(a, -3 * a)[1] < 1e-100
    assert correlation(a, 0.7 * a + b)[1] < 1e-6
    assert correlation(a, np.zeros(200)) == (0.0, 1.0)


def test_other_shapes_than_the_gaussian_are_seen() -> None:
    """20,000 values: D stays below sqrt(ln(2e6) / 2n) = 0.019 at level 1e-6; a uniform of the same
    deviation differs by 0.057, a Laplace one by 0.06."""
    rng = np.random.default_rng(8)
    assert gaussian_p(rng.standard_normal(20_000)) > 1e-6
    assert gaussian_p(rng.uniform(-(3**0.5), 3**0.5, 20_000)) < 1e-6
    assert gaussian_p(rng.laplace(scale=0.5**0.5, size=20_000)) < 1e-6
