"""What events cost: epsilon at a delta, by one accountant for budgets and another for reports.

| Events                              | Enforced     | Reported                | Second account |
|-------------------------------------|--------------|-------------------------|----------------|
| Gaussian, no secret draw            | GDP, exact   | GDP, exact              | PLD            |
| any that Renyi and PLD support      | Renyi filter | PLD, never below truth  | PLD            |
| any that Renyi supports, PLD not    | Renyi filter | Renyi, never below truth| Renyi          |
| any that PLD supports, Renyi not    | refused      | PLD, never below truth  | PLD            |

The unit protected is whatever an ``Event`` counts; its neighbours differ in that unit being nulled.
mu, epsilon and delta have no physical unit (epsilon in nats).

A draw that is kept for T sums is *one* event: ``gaussian(sigma / sqrt(T), 1, rate)``, not
``gaussian(sigma, T, rate)``, whose price assumes a fresh draw before each sum and is too low. A
draw that is not secret has rate 1, and the unit pays for the sums that it was in. Opacus's GDP
accountant appears nowhere: below rate 1 it is an approximation from below.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import tanh
from typing import Literal, Protocol

from metaward.errors import InputError
from metaward.privacy.accounting import gdp, pld, rdp
from metaward.privacy.event import Budget, Event


class Accountant(Protocol):
    """What each accountant, a module of this package, offers."""

    def supports(self, events: Iterable[Event]) -> bool:
        """Whether it can price all of the events."""
        ...

    def epsilon_of(self, events: Iterable[Event], delta: float) -> float:
        """epsilon of all events together at ``delta``."""
        ...


ACCOUNTANTS: dict[str, Accountant] = {"gdp": gdp, "pld": pld, "rdp": rdp}
"""The most accurate first."""

METHODS = {
    "gdp": "Gaussian DP, closed form (Dong, Roth, Su 2019; Balle, Wang 2018)",
    "pld": "privacy loss distributions (Doroshenko et al. 2022), dp-accounting",
    "rdp": "Renyi DP (Mironov 2017; sampled: Mironov, Talwar, Zhang 2019), dp-accounting",
}
"""The accountants as a report names them."""

Direction = Literal["exact", "never below the truth"]


class UnpricedError(InputError):
    """None of the accountants in question can price an event; the text names it."""


@dataclass(frozen=True)
class Reported:
    """An epsilon at ``delta`` for a report, the accountant's name and the error's direction."""

    delta: float
    epsilon: float
    method: str
    error: Direction


def enforced_epsilon(events: Sequence[Event], delta: float) -> float:
    """epsilon that ``events`` have spent at ``delta``, in nats, for the unit that they count.

    Exact (GDP) where that is possible, else never below the truth (RDP, at its best order).
    Infinity where an event has no noise; 0 for no events. ``ValueError`` where delta is not in
    (0, 1), ``UnpricedError`` for events that neither accountant supports.
    """
    return ACCOUNTANTS[_first(events, "gdp", "rdp")].epsilon_of(events, delta)


def reported_epsilon(events: Sequence[Event], delta: float) -> Reported:
    """epsilon for a report: exact (GDP) where that is possible, else by the closest accountant.

    Infinity, 0 and errors as in ``enforced_epsilon``, and never above it by more than rounding
    losses to a grid. Where it is not exact it holds for parameters fixed in advance.
    """
    name = _first(events, *ACCOUNTANTS)
    error: Direction = "exact" if name == "gdp" else "never below the truth"
    return Reported(delta, ACCOUNTANTS[name].epsilon_of(events, delta), METHODS[name], error)


def second_epsilon(events: Sequence[Event], delta: float) -> float:
    """As ``reported_epsilon``, but never by ``gdp``, to check it: never below the truth."""
    return ACCOUNTANTS[_first(events, "pld", "rdp")].epsilon_of(events, delta)


def allows(spent_events: Sequence[Event], new_events: Sequence[Event], budget: Budget) -> bool:
    """Whether a unit that has spent ``spent_events`` may add ``new_events`` within its budget.

    A filter: a unit that takes part only where this says yes is (budget.epsilon, budget.delta)-DP,
    even if everything was chosen adaptively from earlier releases. GDP filter (Smith, Thakurta
    2022) where all events are Gaussian without a draw, else Renyi filter (Feldman, Zrnic 2021).
    Errs towards no: what it allows has ``enforced_epsilon`` at most budget.epsilon. ``ValueError``
    for a budget outside epsilon >= 0, 0 < delta < 1; ``UnpricedError`` where no filter exists.

    The hospital must decide beforehand whether units are sampled: if earlier *releases* decide it,
    the two filters together guarantee only (epsilon, 2 delta).
    """
    events = (*spent_events, *new_events)
    return {"gdp": gdp.allows, "rdp": rdp.allows}[_first(events, "gdp", "rdp")](events, budget)


def _first(events: Sequence[Event], *names: str) -> str:
    """The first accountant that supports all events; ``UnpricedError`` names what none supports."""
    for name in names:
        if ACCOUNTANTS[name].supports(events):
            return name
    alone = [e for e in events if not any(ACCOUNTANTS[n].supports([e]) for n in names)]
    kinds = ", ".join(dict.fromkeys(type(e.dp_event).__name__ for e in alone or events))
    raise UnpricedError(f"{kinds}: none of the accountants {', '.join(names)} can price it")


def advantage(epsilon: float, delta: float) -> float:
    """The most by which true may exceed false positive rate under any (epsilon, delta)-DP: 0 to 1.

    (e^epsilon - 1 + 2 delta) / (e^epsilon + 1) (Kairouz, Oh, Viswanath 2015, The composition
    theorem for differential privacy).
    """
    return min(1.0, tanh(epsilon / 2) + delta * (1 - tanh(epsilon / 2)))
