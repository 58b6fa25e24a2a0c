"""What events cost: epsilon at a delta, enforced and reported by different accountants.

| Events                    | Enforced     | Reported                 | Second account |
|---------------------------|--------------|--------------------------|----------------|
| no secret draw (rate 1)   | GDP, exact   | GDP, exact               | PLD            |
| with draws (rate below 1) | Renyi filter | PLD, never below truth   | PLD            |

A draw that is kept for T sums is *one* event: ``Event(sigma / sqrt(T), 1, rate)``, not
``Event(sigma, T, rate)``, whose price assumes a fresh draw before each sum and is too low. A draw
that is not secret has rate 1, and the unit pays for the sums in which it stood. Opacus's GDP
accountant appears nowhere: below rate 1 it is an approximation from below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import tanh
from typing import Literal

from metaward.privacy.accounting import gdp, pld, rdp
from metaward.privacy.event import Budget, Event

ACCOUNTANTS: dict[str, Callable[[Sequence[Event], float], float]] = {
    "gdp": gdp.epsilon_of,
    "rdp": rdp.epsilon_of,
    "pld": pld.epsilon_of,
}
"""(events, delta) -> epsilon; "gdp" refuses sampling rates below 1."""

METHODS = {
    "gdp": "Gaussian DP, closed form (Dong, Roth, Su 2019; Balle, Wang 2018)",
    "rdp": "Renyi DP of the sampled Gaussian (Mironov, Talwar, Zhang 2019)",
    "pld": "privacy loss distributions (Doroshenko et al. 2022), dp-accounting",
}
"""The accountants as a report names them."""

Direction = Literal["exact", "never below the truth"]


@dataclass(frozen=True)
class Reported:
    """An epsilon for a report, the accountant's name and which way it errs."""

    epsilon: float
    method: str
    error: Direction


def sampled(events: Sequence[Event]) -> bool:
    """Whether any of the events claims amplification by a secret draw."""
    return any(event.sampling_rate < 1 for event in events)


def enforced_epsilon(events: Sequence[Event], delta: float) -> float:
    """epsilon that ``events`` have spent at ``delta``, in nats, for the unit that they count.

    Exact (GDP) where no event is sampled, else never below the truth (RDP, at its best order).
    Infinity where an event has no noise; 0 for no events. ``ValueError`` where delta is not in
    (0, 1).
    """
    return ACCOUNTANTS["rdp" if sampled(events) else "gdp"](events, delta)


def reported_epsilon(events: Sequence[Event], delta: float) -> Reported:
    """epsilon for a report: exact (GDP) where no event is sampled, else the closer PLD.

    Infinity, 0 and errors as in ``enforced_epsilon``, and never above it by more than rounding
    losses to a grid. Where events are sampled it holds for parameters fixed in advance.
    """
    name = "pld" if sampled(events) else "gdp"
    error: Direction = "never below the truth" if name == "pld" else "exact"
    return Reported(ACCOUNTANTS[name](events, delta), METHODS[name], error)


def second_epsilon(events: Sequence[Event], delta: float) -> float:
    """The same by PLD, always: never below the truth, and independent of ``gdp``."""
    return ACCOUNTANTS["pld"](events, delta)


def allows(spent_events: Sequence[Event], new_events: Sequence[Event], budget: Budget) -> bool:
    """Whether a unit that has spent ``spent_events`` may add ``new_events`` within its budget.

    A filter: a unit that takes part only where this says yes is (budget.epsilon, budget.delta)-DP,
    even if everything was chosen adaptively from earlier releases. GDP filter (Smith, Thakurta
    2022) where no event is sampled, else Renyi filter (Feldman, Zrnic 2021). Errs towards no:
    what it allows has ``enforced_epsilon`` at most budget.epsilon. ``ValueError`` for a budget
    outside epsilon >= 0, 0 < delta < 1.

    Whether a unit is ever sampled is for the hospital to fix beforehand: if earlier *releases*
    decide it, the two filters together give (epsilon, 2 delta).
    """
    events = (*spent_events, *new_events)
    return rdp.allows(events, budget) if sampled(events) else gdp.allows(events, budget)


def attack_accuracy(events: Sequence[Event]) -> float:
    """How often the best attack decides rightly whether a unit took part, at even odds: 0.5 to 1.

    (1 + delta(0)) / 2: exact (Phi(mu/2), GDP) where no event is sampled, else never below the truth
    (PLD). Its membership advantage is 2 * accuracy - 1.
    """
    if sampled(events):
        return (1 + pld.delta_of(events, 0.0)) / 2
    return gdp.attack_accuracy(gdp.mu(events))


def advantage(epsilon: float, delta: float) -> float:
    """The most by which true may exceed false positive rate under any (epsilon, delta)-DP: 0 to 1.

    (e^epsilon - 1 + 2 delta) / (e^epsilon + 1) (Kairouz, Oh, Viswanath 2015, The composition
    theorem for differential privacy).
    """
    return min(1.0, tanh(epsilon / 2) + delta * (1 - tanh(epsilon / 2)))
