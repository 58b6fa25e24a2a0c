"""One ledger as a privacy officer reads it: what was spent, what is left, what was refused.

Units are counted and never named: no identity and no pseudonym is in an account.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

from metaward.privacy.accounting import Reported
from metaward.privacy.event import Budget, Protection
from metaward.privacy.ledger import Ledger, LedgerRun
from metaward.server.office.accounts.places import learner
from metaward.server.office.accounts.spending import Spending, deltas_of, refusal_counts


@dataclass(frozen=True)
class BudgetLeft(Budget):
    """A budget under which units were charged, and what enforcement still leaves the worst one."""

    left: float


@dataclass(frozen=True)
class Refusals:
    """Refusals with one code: how many (``at_least``), and the last one's reason and time."""

    code: str
    at_least: int
    reason: str
    last: str


@dataclass(frozen=True)
class Account:
    """What a ledger says. ``protections`` are those of its charges: one unit, any mechanisms.

    ``mu`` is the worst unit's, or None where units were drawn. ``participations`` is the largest
    number of charges that any one unit has paid.
    """

    path: str
    ledger: str
    hospital: str
    learner: str
    made: str
    who: str
    entries: int
    protections: tuple[Protection, ...]
    units: dict[str, int]
    participations: int
    mu: float | None
    spent: tuple[Reported, ...]
    budgets: tuple[BudgetLeft, ...]
    runs: tuple[LedgerRun, ...]
    refusals: tuple[Refusals, ...]

    @property
    def protected(self) -> bool:
        """False once any unit was used without noise."""
        return all(spent.epsilon < inf for spent in self.spent)


def account(path: Path, deltas: Sequence[float] = ()) -> Account:
    """The account of the ledger at ``path``; ``LedgerError`` where it cannot be read."""
    history = Ledger.open(path).history()
    spending = Spending.of(history)
    caps = dict.fromkeys(charge.budget for charge in history.charges if charge.budget)
    left = ((cap, cap.epsilon - spending.enforced(cap.delta)) for cap in caps)
    paid = Counter(unit for charge in history.charges for unit in charge.units())
    last = {refusal.code: refusal for refusal in history.refusals}
    counts = refusal_counts(history.refusals).most_common()
    return Account(
        path=str(path),
        ledger=history.mark.ledger,
        hospital=history.hospital,
        learner=learner(path),
        made=history.created,
        who=history.who,
        entries=history.mark.sequence,
        protections=history.protections(),
        units=dict(history.units()),
        participations=max(paid.values(), default=0),
        mu=spending.mu(),
        spent=tuple(spending.reported(delta) for delta in deltas_of(history, deltas)),
        budgets=tuple(BudgetLeft(cap.epsilon, cap.delta, max(0.0, rest)) for cap, rest in left),
        runs=tuple(history.runs()),
        refusals=tuple(Refusals(c, n, last[c].reason, last[c].time) for c, n in counts),
    )
