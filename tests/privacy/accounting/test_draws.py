"""Amplification by a secret draw, only where it is true: draws kept, draws that show."""

from math import sqrt

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binom

from metaward.privacy.accounting import enforced_epsilon, gdp, reported_epsilon
from metaward.privacy.event import Event, gaussian
from tests.privacy.accounting.accounting_desk import delta_of

CASES = pytest.mark.parametrize(
    ("rate", "sigma", "steps", "rounds", "delta", "naive", "kept", "open_"),
    [
        (0.2, 10, 5, 50, 1e-3, 0.7899, 0.8186, 2.2142),
        (0.1, 5, 5, 100, 1e-5, 1.8062, 2.0137, 7.8469),
    ],
)


@CASES
def test_one_draw_kept_for_all_steps_of_a_round(
    rate: float, sigma: float, steps: int, rounds: int, delta: float,
    naive: float, kept: float, open_: float,
) -> None:  # fmt: skip
    """The naive account assumes a fresh draw before each step and is too low."""
    fresh = gaussian(sigma, steps * rounds, rate)
    once = gaussian(sigma / sqrt(steps), rounds, rate)
    assert reported_epsilon((fresh,), delta).epsilon == pytest.approx(naive, abs=1e-4)
    assert reported_epsilon((once,), delta).epsilon == pytest.approx(kept, abs=1e-4)
    assert naive < kept < enforced_epsilon((once,), delta) < open_


@CASES
def test_a_draw_that_shows_amplifies_nothing(
    rate: float, sigma: float, steps: int, rounds: int, delta: float,
    naive: float, kept: float, open_: float,
) -> None:  # fmt: skip
    """Whoever sees which rounds a unit was drawn for faces k rounds without a draw, k binomial.
    On average over k that is (open_, delta): three to four times the naive epsilon. A unit pays for
    the rounds in which it really stood, which is more still for half of the units."""
    ks = np.arange(rounds + 1)
    mus = [gdp.mu([gaussian(sigma, int(k) * steps)]) if k else 0.0 for k in ks]
    weights = binom.pmf(ks, rounds, rate)

    def average(epsilon: float) -> float:
        return float(np.dot(weights, [gdp.delta(mu, epsilon) for mu in mus]))

    assert brentq(lambda e: average(e) - delta, 0.1, 50) == pytest.approx(open_, abs=1e-4)
    assert open_ > 2.7 * naive
    often = gaussian(sigma, steps * (int(rate * rounds) + 5))
    assert enforced_epsilon((often,), delta) > open_


def losses(kept: bool, rate: float, mu: float, steps: int, size: int) -> NDArray[np.float64]:
    """Privacy losses (size,) of ``steps`` sums in which the unit stands by lot, and did take part.

    Each sum shows x ~ N(mu b, 1), b the draw. Draw kept: one b for all, log(1 - q + q prod L_t);
    fresh: one b each, sum log(1 - q + q L_t), where L_t = exp(mu x_t - mu^2 / 2).
    """
    rng = np.random.default_rng(3)
    drawn = rng.random((size, 1 if kept else steps)) < rate
    x = rng.normal(size=(size, steps)) + mu * drawn
    ratio = mu * x - mu**2 / 2
    if kept:
        ratio = ratio.sum(axis=1, keepdims=True)
    return np.log1p(rate * np.expm1(ratio)).sum(axis=1)


@pytest.mark.parametrize(
    ("kept", "event"),
    [(True, gaussian(2 / sqrt(20), 1, 0.2)), (False, gaussian(2, 20, 0.2))],
    ids=["kept", "fresh"],
)
def test_the_vocabulary_prices_what_is_done(kept: bool, event: Event) -> None:
    """delta(1) = E[(1 - e^(1 - loss))+] by drawing the mechanism itself: q = 0.2, sigma = 2, 20
    steps. Terms are in [0, 1] with mean below 0.15, so their deviation is below sqrt(0.15) = 0.39
    and the mean's standard error below 0.0009 for n = 200,000; four of them are 0.0036. The two
    prices differ by far more, so a kept draw priced as fresh ones would be seen."""
    terms = np.maximum(0, -np.expm1(1 - losses(kept, 0.2, 0.5, 20, 200_000)))
    assert delta_of((event,), 1.0) == pytest.approx(float(terms.mean()), abs=0.0036)
    both = [delta_of((e,), 1.0) for e in (gaussian(2 / sqrt(20), 1, 0.2), gaussian(2, 20, 0.2))]
    assert both[0] > both[1] + 0.02
