"""Renyi differential privacy of sums with a secret Poisson draw, alone or mixed with others.

I. Mironov, K. Talwar, L. Zhang (2019), "Renyi Differential Privacy of the Sampled Gaussian
Mechanism"; computed by dp-accounting, converted to (epsilon, delta) after C. Canonne, G. Kamath,
T. Steinke (2020), "The Discrete Gaussian for Differential Privacy", proposition 12. The unit
protected is whatever an ``Event`` counts; its neighbours differ in that unit being nulled. Epsilon
in nats. Every number here is *never below the truth*: typically 5 to 20 % above it, and more where
epsilon is far from 1. One curve costs some 0.1 s, once for each (noise multiplier, sampling rate);
everything after that is a sum of curves.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from math import inf, log, log1p

import numpy as np
from numpy.typing import NDArray

from metaward.privacy.accounting.multiset import Counts, check_budget, check_delta, counted
from metaward.privacy.event import Budget, Event

ORDERS = (
    *(1 + tenths / 10 for tenths in range(1, 100)),
    *map(float, range(11, 64)),
    *(128.0, 256.0, 512.0, 1024.0),
)
"""Renyi orders at which curves are known: dp-accounting's own choice."""

SLACK = 1e-12
"""Added to each curve: rounding may hide this much of a sampled sum's cost."""

FAINTEST = 1e-3
"""Less noise than this is priced as none: the series would overflow, and epsilon is above 1e5."""


@lru_cache(maxsize=4096)
def curve(noise_multiplier: float, sampling_rate: float) -> NDArray[np.float64]:
    """Renyi divergence of one sum at each of ``ORDERS``, (orders,), read-only; an upper bound.

    Infinite where there is no noise, and at orders where the series does not converge.
    """
    from dp_accounting import GaussianDpEvent, NeighboringRelation, PoissonSampledDpEvent
    from dp_accounting.rdp import RdpAccountant

    spent = np.full(len(ORDERS), inf)
    if noise_multiplier >= FAINTEST:
        accountant = RdpAccountant(ORDERS, NeighboringRelation.REPLACE_SPECIAL)  # nulled, that is
        event = PoissonSampledDpEvent(sampling_rate, GaussianDpEvent(noise_multiplier))
        with _unheard():
            accountant.compose(event)
        # The curve has no public name there; a test compares it with the formula at rate 1.
        spent = np.nan_to_num(accountant._rdp, nan=inf, posinf=inf).clip(min=0) + SLACK
    spent.flags.writeable = False
    return spent


@contextmanager
def _unheard() -> Iterator[None]:
    """dp-accounting warns of each order that it leaves out; to leave one out is always safe."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def total(events: Iterable[Event]) -> NDArray[np.float64]:
    """Renyi divergence of all events together at each of ``ORDERS``, (orders,); an upper bound."""
    return _total(counted(events))


def _total(counts: Counts) -> NDArray[np.float64]:
    spent = np.zeros(len(ORDERS))
    for (sigma, rate), count in sorted(counts.items()):
        spent += count * curve(sigma, rate)
    return spent


def epsilon_of(events: Iterable[Event], delta: float) -> float:
    """epsilon of all events together at ``delta``: never below the truth, at the best order.

    For events fixed in advance. Infinity where an event has no noise; 0 for no events.
    """
    from dp_accounting.rdp import compute_epsilon

    check_delta(delta)
    spent = total(events)
    return float(compute_epsilon(ORDERS, spent.tolist(), delta)[0]) if spent.any() else 0.0


def allows(events: Iterable[Event], budget: Budget) -> bool:
    """The Renyi filter: whether all ``events``, spent and new ones, are within the budget.

    A unit that stops where this says no is (budget.epsilon, budget.delta)-DP, even if noise,
    counts, sampling rates and participation were chosen adaptively (V. Feldman, T. Zrnic 2021,
    "Individual Privacy Accounting via a Renyi Filter"). The theorem is about *one* order, so it is
    fixed here by the budget alone: choosing the best order afterwards, as ``epsilon_of`` does, is
    not covered. Errs towards no: what it allows has ``epsilon_of`` at most budget.epsilon.
    """
    check_budget(budget)
    counts = counted(events)
    if not counts or budget.epsilon == inf:
        return True
    at = _order(budget.epsilon, budget.delta)
    return bool(_total(counts)[at] + _overhead(ORDERS[at], budget.delta) <= budget.epsilon)


@lru_cache(maxsize=1024)
def _order(epsilon: float, delta: float) -> int:
    """Where in ``ORDERS`` a Gaussian sum, whose cost grows in proportion, fits the budget best."""
    left = [(epsilon - _overhead(order, delta)) / order for order in ORDERS]
    return int(np.argmax(left))


def _overhead(order: float, delta: float) -> float:
    """What the conversion to (epsilon, delta) adds to a Renyi divergence of this order."""
    return log1p(-1 / order) - log(delta * order) / (order - 1)
