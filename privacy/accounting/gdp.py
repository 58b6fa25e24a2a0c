"""Gaussian differential privacy of Gaussian sums without a secret draw: exact.

J. Dong, A. Roth, W. Su (2019), "Gaussian Differential Privacy": a sum with noise multiplier sigma
is (1/sigma)-GDP, and adaptive composition adds the squares of mu. B. Balle, Y.-X. Wang (2018),
"Improving the Gaussian Mechanism for Differential Privacy": a mu-GDP mechanism is
(epsilon, delta(epsilon))-DP for every epsilon at once, with

    delta(epsilon) = Phi(mu/2 - epsilon/mu) - e^epsilon Phi(-mu/2 - epsilon/mu),

and for the Gaussian mechanism no smaller delta is true. Computed by dp-accounting. Measured against
arithmetic with 50 digits, for mu from 1e-4 to 100 and delta from 1e-12 to 0.1, relative errors are
below 5e-12 (epsilon), 2e-10 (delta) and 2e-11 (mu).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from math import erf, fsum, inf, sqrt

import numpy as np

from metaward.privacy.accounting.limits import check_delta, check_loss
from metaward.privacy.event import Budget, Event, counted

SAFE, ROUNDING = 1e-9, 1e-15
"""``mu_of`` lowers mu by this share and by this amount, so that rounding never makes it too large:
the library's error is absolute, at most 2e-16, where epsilon is (almost) 0."""

LARGEST = 1e6
"""A larger mu has an infinite price: the library's search fails somewhere above 1e6, where epsilon
is 5e11."""

PRECISE = 1e-18
"""The tolerance of the library's searches; its default makes epsilon 1e-4 wrong by 1e-9 of it."""


def supports(events: Iterable[Event]) -> bool:
    """Whether all events are Gaussian sums without a draw; only those have an exact mu."""
    from dp_accounting import GaussianDpEvent

    return all(isinstance(event.dp_event, GaussianDpEvent) for event in events)


def mu(events: Iterable[Event]) -> float:
    """mu of all events together: sqrt(sum of count / noise_multiplier^2), exact; larger is worse.

    Holds when events were chosen adaptively, given what was released before. 0 for no events,
    infinity for an event without noise. ``ValueError`` for an event that is not a Gaussian sum or
    has a draw (for those the central limit theorem's mu is below the truth).
    """
    counts = counted(events)
    for event in counts:
        if not supports([event]):
            raise ValueError(f"{event.dp_event} has no exact mu; price it with rdp or pld")
    return sqrt(fsum(event.count * _precision(event.dp_event.noise_multiplier) for event in counts))


def _precision(sigma: float) -> float:
    """1 / sigma^2; infinity, not an error, where sigma is 0 or its square underflows."""
    return (1 / sigma) * (1 / sigma) if sigma else inf


def delta(mu: float, epsilon: float) -> float:
    """The smallest delta at which mu-GDP gives (epsilon, delta)-DP; exact, in [0, 1]."""
    from dp_accounting.pld.privacy_loss_mechanism import GaussianPrivacyLoss

    check_loss("mu", mu)
    check_loss("epsilon", epsilon)
    if epsilon == 0 or mu in (0, inf):  # the library's difference is 2e-7 off at mu 1e-9
        return advantage(mu)
    if epsilon == inf:
        return 0.0
    return float(GaussianPrivacyLoss(min(1 / mu, 1e150)).get_delta_for_epsilon(epsilon))


@lru_cache(maxsize=4096)
def epsilon(mu: float, delta: float) -> float:
    """The smallest epsilon at which mu-GDP gives (epsilon, delta)-DP; exact.

    Infinity where mu is above ``LARGEST``; 0 where delta(mu, 0) <= delta already.
    """
    from dp_accounting import get_epsilon_gaussian

    check_loss("mu", mu)
    check_delta(delta)
    if mu > LARGEST:
        return inf
    if advantage(mu) <= delta:
        return 0.0
    with np.errstate(all="ignore"):
        return float(get_epsilon_gaussian(1 / mu, delta, PRECISE))


def epsilon_of(events: Iterable[Event], delta: float) -> float:
    """epsilon of all events together at ``delta``: exact; ``ValueError`` as in ``mu``."""
    return epsilon(mu(events), delta)


@lru_cache(maxsize=1024)
def mu_of(epsilon: float, delta: float) -> float:
    """The largest mu that is (epsilon, delta)-DP, lowered by ``SAFE`` and ``ROUNDING``.

    It is the inverse of ``epsilon`` and never too large. Infinity where epsilon is infinite.
    """
    from dp_accounting import get_sigma_gaussian

    check_loss("epsilon", epsilon)
    check_delta(delta)
    if epsilon == inf:
        return inf
    with np.errstate(all="ignore"):
        largest = float(1 / get_sigma_gaussian(epsilon, delta, PRECISE))
    return max(0.0, largest * (1 - SAFE) - ROUNDING)


def allows(events: Iterable[Event], budget: Budget) -> bool:
    """The GDP filter: whether mu of ``events``, spent and new ones, is within the budget's mu.

    A unit that stops where this says no is (budget.epsilon, budget.delta)-DP, even if sigma, count
    and participation were chosen adaptively (A. Smith, A. Thakurta 2022, "Fully Adaptive
    Composition for Gaussian Differential Privacy"). Errs towards no, by one part in 1e9 of mu.
    """
    return mu(events) <= mu_of(budget.epsilon, budget.delta)


def advantage(mu: float) -> float:
    """True minus false positive rate, at best, of an attack that decides whether a unit took part.

    2 Phi(mu/2) - 1 = delta(mu, 0), in [0, 1]; exact for an attacker who knows everything else.
    """
    check_loss("mu", mu)
    return erf(mu / sqrt(8))


def attack_accuracy(mu: float) -> float:
    """How often that attack is right, at best, when taking part is as likely as not: Phi(mu/2).

    0.5 (guessing) to 1; exact. From (epsilon, delta) take ``attack_accuracy(mu_of(epsilon,
    delta))``, 0.553, 0.640 and 0.798 for epsilon 1, 3 and 8 at delta 1e-5: what a *Gaussian*
    mechanism with that guarantee admits. Of an unknown mechanism only the weaker
    (e^epsilon + delta) / (e^epsilon + 1) is certain: 0.731, 0.953, 0.9997.
    """
    return (1 + advantage(mu)) / 2
