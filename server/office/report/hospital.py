"""A training hospital's part of a privacy report: from its ledger, or from what the server saw.

Where a ledger is here, every number comes from its raw charges. In a deployment ledgers lie at the
hospitals; the server then counts an upper bound on what it was sent, and says that it is one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path

from metaward.privacy.event import Mark
from metaward.privacy.ledger import History, Ledger, LedgerError, NotedRefusal, verify
from metaward.privacy.report.hospitals import LedgerState, RefusalCount, TrainingHospital
from metaward.privacy.report.values import Chain, HighWater
from metaward.server.office.report.case import REWOUND, Case, clean
from metaward.server.office.report.spent import (
    NOTHING,
    Spent,
    budget_at,
    own_charges,
    points,
    seen_as,
    spent,
    without_limit,
)
from metaward.server.office.report.sums import bound
from metaward.strategies.marks import SeenMark


def hospital(case: Case, name: str) -> tuple[TrainingHospital, Spent]:
    """The hospital as the report has it, and its account."""
    path, seen = case.ledgers.get(name), case.seen_of(name)
    if path is not None:
        return _from_ledger(case, name, path)
    if not case.run.privacy.unit.protected:
        return _from_server(case, name, without_limit(case.delta))
    if not case.simulated:
        return _from_server(case, name, bound(case, name))
    if seen:
        return _lost(case, name, ["it is gone, though the server has a mark of it"])
    return _from_server(case, name, spent(NOTHING, case.delta))


# -------------------------------------------------------------------------- its ledger


def _from_ledger(case: Case, name: str, path: Path) -> tuple[TrainingHospital, Spent]:
    faults = [clean(fault, 2000) for fault in verify(path)]
    history = read(path)
    if history is None:
        return _lost(case, name, faults or ["it cannot be read"])
    whole = seen_as(case, history)
    account = spent(whole.totals().values(), case.delta)
    mine = own_charges(case, whole)
    here = spent(replace(whole, charges=mine).totals().values(), case.delta)
    asked = mine[-1].budget if mine else case.run.privacy.budget
    found = TrainingHospital(
        name=clean(name),
        units=units(case, history),
        participations=len({charge.request.round for charge in mine}),
        counted_from="run" if case.run.privacy.unit.every_round else "ledger",
        mu=account.mu,
        spent=account.at,
        this_run=here.at.epsilon,
        epsilons=account.epsilons,
        budget=budget_at(asked, case.delta, account.events),
        ledger=_ledger(case, name, path, history.mark, faults),
        refusals=_refusals(case, name, history.refusals),
        history=points(case, whole),
    )
    return found, account


def read(path: Path) -> History | None:
    """A ledger's content; None where it cannot be read."""
    try:
        return Ledger.open(path).history()
    except (LedgerError, KeyError, TypeError, ValueError):  # rows that are not ours
        return None


def units(case: Case, history: History) -> int:
    """How many units of the run's kind were ever charged here.

    A ledger charges a task's records; tasks are as many as these make, all being of one size.
    """
    unit = case.run.privacy.unit
    charged = history.units().get(unit.key, 0)
    if unit.clips_tasks:
        return ceil(charged / case.run.client.tasks.task_size().records)
    return 1 if unit.every_round else charged


def _ledger(case: Case, name: str, path: Path, mark: Mark, faults: Sequence[str]) -> LedgerState:
    chain: Chain = "broken" if faults else "verified"
    water = _high_water(case.seen_of(name), path)
    return LedgerState(clean(mark.ledger), mark.sequence, mark.head, chain, tuple(faults), water)


def _high_water(seen: Sequence[SeenMark], path: Path) -> HighWater:
    """Does the ledger hold every point that the server saw of it in this run?"""
    if not seen:
        return "not checked"
    try:
        ledger = Ledger.open(path)
        return "held" if all(ledger.holds(one.mark) for one in seen) else "went back"
    except LedgerError:
        return "went back"


def _lost(case: Case, name: str, faults: Sequence[str]) -> tuple[TrainingHospital, Spent]:
    """A ledger that cannot be read or is gone: nothing bounds what its units have spent."""
    mark = _mark(case, name) or Mark("unknown", 0, "0" * 64)
    account = without_limit(case.delta)
    found, _ = _from_server(case, name, account)
    water: HighWater = "went back" if case.seen_of(name) else "not checked"
    ledger = LedgerState(
        clean(mark.ledger), mark.sequence, mark.head, "broken", tuple(faults), water
    )
    return replace(found, units=None, counted_from="run", ledger=ledger), account


# ---------------------------------------------------------------------- what the server saw


def _from_server(case: Case, name: str, account: Spent) -> tuple[TrainingHospital, Spent]:
    """No ledger here: counted for this run alone, and never below what left."""
    mechanism = case.protected
    found = TrainingHospital(
        name=clean(name),
        units=_declared(case),
        participations=len(case.left_rounds(name)),
        counted_from="ledger" if case.simulated and mechanism else "run",
        mu=account.mu,
        spent=account.at,
        this_run=account.at.epsilon,
        epsilons=account.epsilons,
        budget=mechanism.epsilon if mechanism else None,
        ledger=_at_hospital(case, name),
        refusals=_refusals(case, name, ()),
        history=(),
    )
    return found, account


def _declared(case: Case) -> int | None:
    """Units of a hospital without its ledger: what the configuration says; None: unknown."""
    unit = case.run.privacy.unit
    if unit.every_round:
        return 1
    return case.run.client.tasks.declared_records() if unit.single else None


def _mark(case: Case, name: str) -> Mark | None:
    seen = case.seen_of(name)
    return max((one.mark for one in seen), key=lambda mark: mark.sequence, default=None)


def _at_hospital(case: Case, name: str) -> LedgerState | None:
    """The ledger at the hospital, as far as its replies have shown it."""
    mark = _mark(case, name)
    if mark is None:
        return None
    water: HighWater = "went back" if case.refused(name)[REWOUND] else "not checked"
    return LedgerState(clean(mark.ledger), mark.sequence, mark.head, "not checked", (), water)


# --------------------------------------------------------------------------- refusals


def _refusals(case: Case, name: str, noted: Sequence[NotedRefusal]) -> tuple[RefusalCount, ...]:
    """Refusals in this run: the ledger and the server count the same ones, so the larger holds."""
    counts = _noted([one for one in noted if one.run == case.key]) | case.refused(name)
    return tuple(RefusalCount(clean(code), n) for code, n in counts.most_common())


def _noted(refusals: Sequence[NotedRefusal]) -> Counter[str]:
    """In a flood not every refusal has a row; rows hold their numbers within code and day."""
    days: dict[tuple[str, str], list[int]] = {}
    for one in refusals:
        days.setdefault((one.code, one.time[:10]), []).append(one.count)
    counts: Counter[str] = Counter()
    for (code, _), numbers in days.items():
        counts[code] += max(numbers) - min(numbers) + 1
    return counts
