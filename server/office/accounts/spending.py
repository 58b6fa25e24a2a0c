"""What units have spent; all figures are those of the unit that has spent most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import inf

from metaward.privacy.accounting import Reported, enforced_epsilon, gdp, reported_epsilon
from metaward.privacy.event import Budget, Events, different, gaussian
from metaward.privacy.ledger import History, NotedRefusal

DELTA = 1e-5
"""Used where there is no budget, and so no delta at which it holds."""


@dataclass(frozen=True)
class Spending:
    """All events that each of several units has paid for, without repetition.

    ``estimated`` says that they are an upper bound and not charges. Where there is a ``cap``, it is
    only known that no unit has spent more than this budget, which says nothing at a smaller delta.
    """

    units: frozenset[Events] = frozenset()
    estimated: bool = False
    cap: Budget | None = None

    @staticmethod
    def of(history: History) -> Spending:
        """The spending of all units in a ledger."""
        return Spending(frozenset(different(history.totals().values())))

    @staticmethod
    def unlimited() -> Spending:
        """Spending without a bound: nothing was protected, or the ledger cannot be read."""
        return Spending(frozenset([(gaussian(0.0, 1),)]))

    def worst(self, delta: float) -> Events:
        """The events of the unit with the largest epsilon; () where none was used."""
        return max(self.units, key=lambda events: enforced_epsilon(events, delta), default=())

    def mu(self) -> float | None:
        """The largest mu; None where any unit was drawn."""
        if self.cap or not all(gdp.supports(events) for events in self.units):
            return None
        return max((gdp.mu(events) for events in self.units), default=0.0)

    def reported(self, delta: float) -> Reported:
        """The largest epsilon, as reports have it."""
        if self.cap:
            epsilon = self.cap.epsilon if delta >= self.cap.delta else inf
            return Reported(delta, epsilon, "the budget", "never below the truth")
        reported = _reported(self.worst(delta), delta)
        return replace(reported, error="never below the truth") if self.estimated else reported

    def enforced(self, delta: float) -> float:
        """The largest epsilon, as budgets are enforced."""
        return enforced_epsilon(self.worst(delta), delta)


_reported = cache(reported_epsilon)
"""Cached, because many hospitals have spent the same and PLD takes a second for each."""


def deltas_of(history: History, asked: Sequence[float] = ()) -> tuple[float, ...]:
    """The deltas to report epsilon at: those ``asked`` for, else those of the charges' budgets."""
    budgets = [charge.budget.delta for charge in history.charges if charge.budget]
    return tuple(dict.fromkeys(asked or budgets)) or (DELTA,)


def refusal_counts(noted: Iterable[NotedRefusal]) -> Counter[str]:
    """At least how many refusals there were, by code.

    In a flood not every refusal has a row, but each row holds its number for the code and day.
    """
    days: dict[tuple[str, str], list[int]] = {}
    for refusal in noted:
        days.setdefault((refusal.code, refusal.time[:10]), []).append(refusal.count)
    counts: Counter[str] = Counter()
    for (code, _), numbers in days.items():
        counts[code] += max(numbers) - min(numbers) + 1
    return counts
