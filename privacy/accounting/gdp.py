"""Gaussian differential privacy of sums without a secret draw (sampling rate 1): exact.

J. Dong, A. Roth, W. Su (2019), "Gaussian Differential Privacy": a sum with noise multiplier sigma
is (1/sigma)-GDP, and adaptive composition adds the squares of mu. B. Balle, Y.-X. Wang (2018),
"Improving the Gaussian Mechanism for Differential Privacy": a mu-GDP mechanism is
(epsilon, delta(epsilon))-DP for every epsilon at once, with

    delta(epsilon) = Phi(mu/2 - epsilon/mu) - e^epsilon Phi(-mu/2 - epsilon/mu),

and for the Gaussian mechanism no smaller delta is true. The unit protected is whatever an
``Event`` counts; its neighbours differ in that unit being nulled. mu, epsilon and delta have no
physical unit (epsilon in nats). Here ``delta`` and ``epsilon`` err by rounding alone: a relative
error below 1e-9 for mu from 1e-4 to 100 and delta from 1e-12 up.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from math import erf, exp, expm1, fsum, inf, log, sqrt

from scipy.optimize import brentq
from scipy.special import erfinv, log_ndtr, ndtri

from metaward.privacy.accounting.multiset import check_budget, check_delta, check_epsilon, counted
from metaward.privacy.event import Budget, Event

SAFE = 1e-9
"""``mu_of`` gives this part of mu away, so that errors of rounding stay on the safe side."""


def mu(events: Iterable[Event]) -> float:
    """mu of all events together: sqrt(sum of count / noise_multiplier^2), exact; larger is worse.

    Holds when events were chosen adaptively, given what was released before. No events: 0; an
    event without noise: infinity. ``ValueError`` where a sampling rate is below 1, because no mu
    describes sampled sums (the central limit theorem's is below the truth).
    """
    counts = counted(events)
    sampled = [rate for _, rate in counts if rate != 1]
    if sampled:
        raise ValueError(f"sampling_rate = {sampled[0]} has no exact mu; price it with rdp or pld")
    return sqrt(fsum(count * _precision(sigma) for (sigma, _), count in counts.items()))


def _precision(sigma: float) -> float:
    """1 / sigma^2; infinite, never an error, where sigma is 0 or its square too small to hold."""
    return (1 / sigma) * (1 / sigma) if sigma else inf


def delta(mu: float, epsilon: float) -> float:
    """The smallest delta at which mu-GDP gives (epsilon, delta)-DP; exact, in [0, 1]."""
    _check_mu(mu)
    check_epsilon(epsilon)
    return exp(_log_delta(mu, epsilon))


def _log_delta(mu: float, epsilon: float) -> float:
    """log delta. In logarithms the difference keeps its digits where its terms are tiny or huge."""
    if mu == inf:
        return 0.0
    if mu == 0 or epsilon == inf:
        return -inf
    if epsilon == 0:
        return log(advantage(mu))
    first = float(log_ndtr(mu / 2 - epsilon / mu))
    gap = epsilon + float(log_ndtr(-mu / 2 - epsilon / mu)) - first
    return first + log(-expm1(gap)) if gap < 0 else -inf


def epsilon(mu: float, delta: float) -> float:
    """The smallest epsilon at which mu-GDP gives (epsilon, delta)-DP; exact.

    Infinity where mu is; 0 where delta(mu, 0) <= delta already.
    """
    _check_mu(mu)
    check_delta(delta)
    target = log(delta)
    if _log_delta(mu, 0.0) <= target:
        return 0.0
    # delta(epsilon) < Phi(mu/2 - epsilon/mu); where that equals delta, epsilon is large enough
    high = mu * (mu / 2 - float(ndtri(delta)))
    if high == inf:
        return inf
    return float(brentq(lambda e: _log_delta(mu, e) - target, 0.0, high, xtol=1e-15, rtol=1e-13))


def epsilon_of(events: Iterable[Event], delta: float) -> float:
    """epsilon of all events together at ``delta``: exact; ``ValueError`` as in ``mu``."""
    return epsilon(mu(events), delta)


@lru_cache(maxsize=1024)
def mu_of(epsilon: float, delta: float) -> float:
    """The largest mu that is (epsilon, delta)-DP, less one part in 1e9: never too large.

    The inverse of ``epsilon``. Infinity where epsilon is.
    """
    check_epsilon(epsilon)
    check_delta(delta)
    if epsilon == inf:
        return inf
    low = sqrt(8) * float(erfinv(delta))  # where advantage(mu) = delta: all there is at epsilon 0
    if epsilon == 0:
        return low * (1 - SAFE)
    target, high = log(delta), 2 * low
    while _log_delta(high, epsilon) < target:
        high *= 2
    root = brentq(lambda m: _log_delta(m, epsilon) - target, high / 4, high, xtol=1e-15, rtol=1e-13)
    return float(root) * (1 - SAFE)


def noise_multiplier_for(epsilon: float, delta: float, count: int) -> float:
    """The smallest noise multiplier with which ``count`` sums of one unit are (epsilon, delta)-DP.

    Standard deviation over sensitivity; too large by two parts in 1e9, so that a filter with this
    budget lets all ``count`` through. ``ValueError`` where count is below 1.
    """
    if count < 1:
        raise ValueError(f"count = {count} is below 1")
    return sqrt(count) / mu_of(epsilon, delta) * (1 + SAFE)


def allows(events: Iterable[Event], budget: Budget) -> bool:
    """The GDP filter: whether mu of ``events``, spent and new ones, is within the budget's mu.

    A unit that stops where this says no is (budget.epsilon, budget.delta)-DP, even if sigma, count
    and participation were chosen adaptively (A. Smith, A. Thakurta 2022, "Fully Adaptive
    Composition for Gaussian Differential Privacy"). Errs towards no, by one part in 1e9 of mu.
    """
    check_budget(budget)
    return mu(events) <= mu_of(budget.epsilon, budget.delta)


def advantage(mu: float) -> float:
    """True minus false positive rate, at best, of an attack that decides whether a unit took part.

    2 Phi(mu/2) - 1 = delta(mu, 0), in [0, 1]; exact for an attacker who knows everything else.
    """
    _check_mu(mu)
    return erf(mu / sqrt(8))


def attack_accuracy(mu: float) -> float:
    """How often that attack is right, at best, when taking part is as likely as not: Phi(mu/2).

    0.5 (guessing) to 1; exact. From (epsilon, delta) take ``attack_accuracy(mu_of(epsilon,
    delta))``, 0.553, 0.640 and 0.798 for epsilon 1, 3 and 8 at delta 1e-5: what a *Gaussian*
    mechanism with that guarantee admits. Of an unknown mechanism only the weaker
    (e^epsilon + delta) / (e^epsilon + 1) is certain: 0.731, 0.953, 0.9997.
    """
    return (1 + advantage(mu)) / 2


def _check_mu(mu: float) -> None:
    if not mu >= 0:
        raise ValueError(f"mu = {mu} is not 0 or above")
