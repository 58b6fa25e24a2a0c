"""One ledger as a privacy officer reads it: what was spent, what is left, what was refused.

Units are counted and never named: no identity and no pseudonym is in an account.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

from metaward.privacy.accounting import Reported, enforced_epsilon, exact, gdp, reported_epsilon
from metaward.privacy.ledger import Charged, Events, History, Ledger, LedgerRun
from metaward.server.office.accounts.places import learner

DELTA = 1e-5
"""Used where no budget has said at which delta it holds."""
NOTED = 20
"""Up to so many refusals of a code and day each has a row; beyond, the last row's number."""


@dataclass(frozen=True)
class SpentAtDelta:
    """What the worst unit has spent at ``delta``, and how that was found."""

    delta: float
    epsilon: float
    method: str
    error: str


@dataclass(frozen=True)
class Left:
    """A budget under which units were charged, and what the worst of all units has left of it."""

    epsilon: float
    delta: float
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
    """What a ledger tells. ``mu`` is the worst unit's; None where units were drawn (no mu then).

    ``participations`` is the largest number of charges that any one unit has paid.
    """

    path: str
    ledger: str
    hospital: str
    learner: str
    made: str
    who: str
    entries: int
    units: dict[str, int]
    participations: int
    mu: float | None
    spent: tuple[SpentAtDelta, ...]
    budgets: tuple[Left, ...]
    runs: tuple[LedgerRun, ...]
    refusals: tuple[Refusals, ...]

    @property
    def protected(self) -> bool:
        """False once any unit was used without noise."""
        return all(spent.epsilon < inf for spent in self.spent)


def account(path: Path, deltas: Sequence[float] = ()) -> Account:
    """The account of the ledger at ``path``; ``LedgerError`` where it cannot be read."""
    history = Ledger.open(path).history()
    bodies = set(history.totals().values())
    budgets = list(dict.fromkeys(c.budget for c in history.charges if c.budget))
    chosen = tuple(deltas) or tuple(dict.fromkeys(b.delta for b in budgets)) or (DELTA,)
    return Account(
        str(path),
        history.mark.ledger,
        history.hospital,
        learner(path),
        history.created,
        history.who,
        history.mark.sequence,
        dict(history.units()),
        most_participations(history.charges),
        worst_mu(bodies),
        tuple(_spent(bodies, delta) for delta in chosen),
        tuple(Left(b.epsilon, b.delta, _left(bodies, b.epsilon, b.delta)) for b in budgets),
        tuple(history.runs()),
        tuple(refusals(history)),
    )


def worst(bodies: set[Events], delta: float) -> Events:
    """All that the unit with the largest epsilon at ``delta`` has spent; () where none was used."""
    return max(bodies, key=lambda events: enforced_epsilon(events, delta), default=())


def worst_mu(bodies: set[Events]) -> float | None:
    """The largest mu of all units; None where any unit was drawn."""
    if not all(exact(events) for events in bodies):
        return None
    return max((gdp.mu(events) for events in bodies), default=0.0)


def most_participations(charges: Sequence[Charged]) -> int:
    """The most charges that one unit has paid."""
    paid: Counter[int] = Counter()
    for charge in charges:
        paid.update(charge.units())
    return max(paid.values(), default=0)


def refusals(history: History) -> list[Refusals]:
    """Refusals by code, the most frequent first."""
    counts: Counter[str] = Counter()
    days: dict[tuple[str, str], int] = {}
    for refused in history.refusals:
        days[refused.code, refused.time[:10]] = refused.count
    for (code, _), count in days.items():
        counts[code] += count
    last = {refused.code: refused for refused in history.refusals}
    return [
        Refusals(code, count, last[code].reason, last[code].time)
        for code, count in counts.most_common()
    ]


def _spent(bodies: set[Events], delta: float) -> SpentAtDelta:
    found: Reported = reported_epsilon(worst(bodies, delta), delta)
    return SpentAtDelta(delta, found.epsilon, found.method, found.error)


def _left(bodies: set[Events], epsilon: float, delta: float) -> float:
    """What enforcement will still allow, in epsilon."""
    return max(0.0, epsilon - enforced_epsilon(worst(bodies, delta), delta))
