"""Privacy loss distributions: a second, numerical account of any mixture of events.

A. Koskela, J. Jälkö, A. Honkela (2020), "Computing Tight Differential Privacy Guarantees Using
FFT"; V. Doroshenko, B. Ghazi, P. Kamath, R. Kumar, P. Manurangsi (2022), "Connect the Dots:
Tighter Discrete Approximations of Privacy Loss Distributions"; computed by dp-accounting, by other
methods than those of ``gdp``.

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
from metaward.privacy.accounting.limits import check_delta
from metaward.privacy.event import Event, Events, counted, undrawn

FINEST = 1e-4
"""The grid's step in nats, dp-accounting's own choice, unless losses spread too far for it."""

POINTS = 2e5
"""About how many steps the grid may have."""

WIDEST = 1e6
"""Losses above this many nats are priced as infinite."""

UNLIKELY = 1e-15
"""The grid spans losses of at least this probability; it only decides how tight the bound is."""


def supports(events: Iterable[Event]) -> bool:
    """Whether dp-accounting has a loss distribution of each of the events.

    Randomised response is left out: the library (0.6) composes several of them as if it were one.
    """
    accountant = _empty(FINEST)
    kinds = [event.dp_event for event in events]
    return all(accountant.supports(k) and "RandomizedResponse" not in repr(k) for k in kinds)


def epsilon_of(events: Iterable[Event], delta: float) -> float:
    """epsilon of all events together at ``delta``: never below the truth.

    Infinity where an event has no noise; 0 for no events.
    """
    check_delta(delta)
    accountant = composed(counted(events))
    return inf if accountant is None else float(accountant.get_epsilon(delta))


@lru_cache(maxsize=4)
def composed(events: Events) -> Any:
    """dp-accounting's accountant with all events composed; None where losses have no bound."""
    known = [event for event in events if rdp.supports([event])]
    once = ([Event(undrawn(event.dp_event))] for event in known)
    spread = max(rdp.epsilon_of(many, UNLIKELY) for many in (known, *once))
    if spread >= WIDEST:
        return None
    accountant = _empty(max(FINEST, spread / POINTS))
    for event in events:
        accountant.compose(event.dp_event, event.count)
    return accountant


def _empty(step: float) -> Any:
    from dp_accounting import NeighboringRelation
    from dp_accounting.pld import PLDAccountant

    return PLDAccountant(NeighboringRelation.REPLACE_SPECIAL, step)
