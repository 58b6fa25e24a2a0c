"""Renyi differential privacy of any events that dp-accounting has a Renyi curve of.

Those are Gaussian sums with or without a secret Poisson draw (I. Mironov, K. Talwar, L. Zhang 2019,
"Renyi Differential Privacy of the Sampled Gaussian Mechanism"), Laplace noise, randomised response,
zero-concentrated mechanisms, trees of sums. Converted to (epsilon, delta) after C. Canonne, G.
Kamath, T. Steinke (2020), "The Discrete Gaussian for Differential Privacy", proposition 12. Every
number here is *never below the truth*: typically 5 to 20 % above it, and more where epsilon is far
from 1. One curve takes about 0.1 s, once for each kind of event; everything after that is a sum of
curves.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from math import inf, log, log1p
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metaward.privacy.accounting.limits import check_delta, check_loss
from metaward.privacy.event import Budget, Event, counted, undrawn

if TYPE_CHECKING:
    from dp_accounting import DpEvent

ORDERS = (
    *(1 + tenths / 10 for tenths in range(1, 100)),
    *map(float, range(11, 64)),
    *(128.0, 256.0, 512.0, 1024.0),
)
"""The Renyi orders at which curves are computed, dp-accounting's own choice."""

SLACK = 1e-12
"""Added to each curve: rounding may hide this much of a sampled sum's cost."""

FAINTEST = 1e-3
"""A smaller noise multiplier is priced as 0: the series would overflow, and epsilon exceeds 1e5."""


def supports(events: Iterable[Event]) -> bool:
    """Whether dp-accounting has a Renyi curve of each of the events."""
    return all(_accountant().supports(event.dp_event) for event in events)


def _accountant() -> Any:
    from dp_accounting import NeighboringRelation
    from dp_accounting.rdp import RdpAccountant

    return RdpAccountant(ORDERS, NeighboringRelation.REPLACE_SPECIAL)  # nulled, that is


@lru_cache(maxsize=4096)
def curve(dp_event: DpEvent) -> NDArray[np.float64]:
    """Renyi divergence of one such event at each of ``ORDERS`` (orders,), read-only; never too low.

    Infinite where there is no noise, and at orders where the series does not converge.
    """
    spent = np.full(len(ORDERS), inf)
    if getattr(undrawn(dp_event), "noise_multiplier", inf) >= FAINTEST:
        with _without_warnings():
            divergence = _accountant().compose(dp_event).rdp
        spent = np.nan_to_num(divergence, nan=inf, posinf=inf).clip(min=0) + SLACK
    spent.flags.writeable = False
    return spent


@contextmanager
def _without_warnings() -> Iterator[None]:
    """dp-accounting warns of each order that it leaves out, which is always safe."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def total(events: Iterable[Event]) -> NDArray[np.float64]:
    """Renyi divergence of all events together at each of ``ORDERS``, (orders,); an upper bound."""
    spent = np.zeros(len(ORDERS))
    for event in counted(events):
        spent += event.count * curve(event.dp_event)
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
    check_loss("epsilon", budget.epsilon)
    check_delta(budget.delta)
    spent = total(events)
    if not spent.any() or budget.epsilon == inf:
        return True
    at = _order(budget.epsilon, budget.delta)
    return bool(spent[at] + _overhead(ORDERS[at], budget.delta) <= budget.epsilon)


@lru_cache(maxsize=1024)
def _order(epsilon: float, delta: float) -> int:
    """The index in ``ORDERS`` at which most Gaussian sums fit the budget.

    A Gaussian sum's divergence is proportional to the order.
    """
    left = [(epsilon - _overhead(order, delta)) / order for order in ORDERS]
    return int(np.argmax(left))


def _overhead(order: float, delta: float) -> float:
    """What the conversion to (epsilon, delta) adds to a Renyi divergence of this order."""
    return log1p(-1 / order) - log(delta * order) / (order - 1)
