"""What units have spent: all figures are those of the worst one, by the raw events of a ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import inf

from metaward.privacy.accounting import Reported, enforced_epsilon, exact, gdp, reported_epsilon
from metaward.privacy.event import Budget, Events, gaussian
from metaward.privacy.ledger import History, NotedRefusal

DELTA = 1e-5
"""Used where no budget has said at which delta it holds."""


@dataclass(frozen=True)
class Spending:
    """All events that each of several units has paid for; equal ones are one here.

    ``estimated``: they are no charges, but bound these. ``cap``: all that is known is that no unit
    has spent more than this budget, which says nothing at a smaller delta.
    """

    units: frozenset[Events] = frozenset()
    estimated: bool = False
    cap: Budget | None = None

    @staticmethod
    def of(history: History) -> Spending:
        """That of all units in a ledger."""
        return Spending(frozenset(history.totals().values()))

    @staticmethod
    def unlimited() -> Spending:
        """What nothing bounds: no protection, or a ledger that cannot be read."""
        return Spending(frozenset([(gaussian(0.0, 1),)]))

    def worst(self, delta: float) -> Events:
        """The events of the unit with the largest epsilon; () where none was used."""
        return max(self.units, key=lambda events: enforced_epsilon(events, delta), default=())

    def mu(self) -> float | None:
        """The largest mu; None where any unit was drawn."""
        if self.cap or not all(exact(events) for events in self.units):
            return None
        return max((gdp.mu(events) for events in self.units), default=0.0)

    def reported(self, delta: float) -> Reported:
        """The largest epsilon, as reports have it."""
        if self.cap:
            epsilon = self.cap.epsilon if delta >= self.cap.delta else inf
            return Reported(epsilon, "the budget", "never below the truth")
        found = _reported(self.worst(delta), delta)
        return replace(found, error="never below the truth") if self.estimated else found

    def enforced(self, delta: float) -> float:
        """The largest epsilon, as budgets are enforced."""
        return enforced_epsilon(self.worst(delta), delta)


@cache
def _reported(events: Events, delta: float) -> Reported:
    """Many hospitals have the same account; by PLD one takes a second."""
    return reported_epsilon(events, delta)


def deltas_of(history: History, asked: Sequence[float] = ()) -> tuple[float, ...]:
    """Where epsilon is read off: as ``asked``, else where the budgets of the charges hold."""
    budgets = dict.fromkeys(c.budget.delta for c in history.charges if c.budget)
    return tuple(asked) or tuple(budgets) or (DELTA,)


def refusal_counts(noted: Iterable[NotedRefusal]) -> Counter[str]:
    """Refusals by code. In a flood not each has a row; rows hold their number of code and day."""
    days: dict[tuple[str, str], list[int]] = {}
    for refusal in noted:
        days.setdefault((refusal.code, refusal.time[:10]), []).append(refusal.count)
    counts: Counter[str] = Counter()
    for (code, _), numbers in days.items():
        counts[code] += max(numbers) - min(numbers) + 1
    return counts
