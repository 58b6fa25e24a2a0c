"""Privacy loss distributions: a second, numerical account of any mixture of events.

A. Koskela, J. Jälkö, A. Honkela (2020), "Computing Tight Differential Privacy Guarantees Using
FFT"; V. Doroshenko, B. Ghazi, P. Kamath, R. Kumar, P. Manurangsi (2022), "Connect the Dots:
Tighter Discrete Approximations of Privacy Loss Distributions"; computed by dp-accounting, with
nothing in common with ``gdp``. The unit protected is whatever an ``Event`` counts; its neighbours
differ in that unit being nulled. Epsilon in nats.

Losses are rounded to a grid so that every number here is *never below the truth* (up to floating
point), and less than 1 % above it where epsilon is from 0.01 to 100 and delta from 1e-10 up. For
events fixed in advance: this is no filter.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from math import inf
from typing import Any

from metaward.privacy.accounting import rdp
from metaward.privacy.accounting.multiset import Counts, check_delta, check_epsilon, counted
from metaward.privacy.event import Event

FINEST = 1e-4
"""The grid's step in nats, dp-accounting's own choice, unless losses spread too far for it."""

POINTS = 2e5
"""About how many steps the grid may have."""

WIDEST = 1e6
"""Losses above this many nats are priced as infinite."""


def epsilon_of(events: Iterable[Event], delta: float) -> float:
    """epsilon of all events together at ``delta``: never below the truth.

    Infinity where an event has no noise; 0 for no events.
    """
    check_delta(delta)
    counts = counted(events)
    if not counts:
        return 0.0
    accountant = _accountant(_frozen(counts))
    return inf if accountant is None else float(accountant.get_epsilon(delta))


def delta_of(events: Iterable[Event], epsilon: float) -> float:
    """delta of all events together at ``epsilon``: never below the truth.

    1 where an event has no noise; 0 for no events. At epsilon 0 this is the membership advantage.
    """
    check_epsilon(epsilon)
    counts = counted(events)
    if not counts:
        return 0.0
    accountant = _accountant(_frozen(counts))
    return 1.0 if accountant is None else min(1.0, float(accountant.get_delta(epsilon)))


Frozen = tuple[tuple[float, float, int], ...]
"""(noise multiplier, sampling rate, count) of different events, sorted."""


def _frozen(counts: Counts) -> Frozen:
    return tuple(sorted((sigma, rate, count) for (sigma, rate), count in counts.items()))


@lru_cache(maxsize=4)
def _accountant(events: Frozen) -> Any:
    """dp-accounting's accountant with all events composed; None where losses have no bound."""
    step = _step(events)
    if step is None:
        return None
    from dp_accounting import GaussianDpEvent, NeighboringRelation, PoissonSampledDpEvent
    from dp_accounting.pld import PLDAccountant

    accountant = PLDAccountant(NeighboringRelation.REPLACE_SPECIAL, step)
    for sigma, rate, count in events:
        event = GaussianDpEvent(sigma)
        accountant.compose(event if rate == 1 else PoissonSampledDpEvent(rate, event), count)
    return accountant


def _step(events: Frozen) -> float | None:
    """A step that keeps the grid small; it decides only how close the upper bound is."""
    spread = max(_spread(events), *(_spread_once(sigma) for sigma, _, _ in events))
    return max(FINEST, spread / POINTS) if spread < WIDEST else None


def _spread(events: Frozen) -> float:
    """Nats that the loss of all events together exceeds with probability below 1e-15."""
    return rdp.epsilon_of((Event(sigma, count, rate) for sigma, rate, count in events), 1e-15)


def _spread_once(sigma: float) -> float:
    """The same for one sum, whether sampled or not: 1/(2 sigma^2) + 8/sigma, or infinity."""
    return (0.5 / sigma + 8) / sigma if sigma >= rdp.FAINTEST else inf
