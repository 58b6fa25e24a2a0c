"""A training hospital's section of a privacy report: from its ledger, or from what the server saw.

Where a ledger is here, every number comes from its raw charges. In a deployment ledgers lie at the
hospitals; the server then counts an upper bound on what it was sent, and says that it is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil

from metaward.privacy.event import Mark
from metaward.privacy.ledger import History, NotedRefusal
from metaward.privacy.report.hospitals import LedgerState, RefusalCount, TrainingHospital
from metaward.privacy.report.values import Chain, HighWater
from metaward.server.office.accounts.spending import Spending, refusal_counts
from metaward.server.office.report.dossier import REWOUND, Dossier, OpenedLedger, clean
from metaward.server.office.report.losses import (
    Losses,
    budget_at,
    in_its_terms,
    losses,
    points,
    unlimited,
)
from metaward.server.office.report.mechanism import bound

GONE = "it is gone, though the server has a mark of it"


def hospital(dossier: Dossier, name: str) -> tuple[TrainingHospital, Losses]:
    """The hospital's section, and what its units have spent."""
    ledger = dossier.ledgers.get(name)
    if ledger and ledger.history:
        return _from_ledger(dossier, name, ledger, ledger.history)
    if ledger:
        return _lost(dossier, name, ledger.faults)
    if not dossier.run.privacy.unit.protected:
        return _from_server(dossier, name, unlimited(dossier.delta))
    if not dossier.simulated:
        return _from_server(dossier, name, bound(dossier, name))
    if dossier.seen_of(name):
        return _lost(dossier, name, [GONE])
    return _from_server(dossier, name, losses(Spending(frozenset()), dossier.delta))


def _from_ledger(
    dossier: Dossier, name: str, ledger: OpenedLedger, history: History
) -> tuple[TrainingHospital, Losses]:
    ours = in_its_terms(dossier, history)
    mine = dossier.own_charges(ours)
    whole = losses(Spending.of(ours), dossier.delta)
    this_run = losses(Spending.of(replace(ours, charges=mine)), dossier.delta)
    budget = mine[-1].budget if mine else dossier.run.privacy.budget
    chain: Chain = "broken" if ledger.faults else "verified"
    water = ledger.high_water(dossier.seen_of(name))
    section = TrainingHospital(
        name=clean(name),
        units=units(dossier, history),
        participations=len({charge.request.round for charge in mine}),
        counted_from="run" if dossier.run.privacy.unit.every_round else "ledger",
        mu=whole.mu,
        spent=whole.spent,
        this_run=this_run.spent.epsilon,
        epsilons=whole.at,
        budget=budget_at(budget, dossier.delta, whole.events),
        ledger=_state(history.mark, chain, water, ledger.faults),
        refusals=_refusals(dossier, name, history.refusals),
        history=points(dossier, ours),
    )
    return section, whole


def units(dossier: Dossier, history: History) -> int:
    """How many units of the run's kind were ever charged here.

    A ledger charges a task's records; tasks are as many as these make, all being of one size.
    """
    unit = dossier.run.privacy.unit
    charged = history.units().get(unit.key, 0)
    if unit.clips_tasks:
        return ceil(charged / dossier.run.client.tasks.task_size().records)
    return 1 if unit.every_round else charged


def _from_server(dossier: Dossier, name: str, spent: Losses) -> tuple[TrainingHospital, Losses]:
    """No ledger here: counted for this run alone, and never below what left."""
    mechanism = dossier.protected
    mark = _last_mark(dossier, name)
    water: HighWater = "went back" if dossier.refused(name)[REWOUND] else "not checked"
    section = TrainingHospital(
        name=clean(name),
        units=_declared(dossier),
        participations=len(dossier.left_rounds(name)),
        counted_from="ledger" if dossier.simulated and mechanism else "run",
        mu=spent.mu,
        spent=spent.spent,
        this_run=spent.spent.epsilon,
        epsilons=spent.at,
        budget=mechanism.epsilon if mechanism else None,
        ledger=_state(mark, "not checked", water) if mark else None,
        refusals=_refusals(dossier, name, ()),
        history=(),
    )
    return section, spent


def _lost(dossier: Dossier, name: str, faults: Sequence[str]) -> tuple[TrainingHospital, Losses]:
    """A ledger that cannot be read or is gone: nothing bounds what its units have spent."""
    section, spent = _from_server(dossier, name, unlimited(dossier.delta))
    mark = _last_mark(dossier, name) or Mark("unknown", 0, "0" * 64)
    water: HighWater = "went back" if dossier.seen_of(name) else "not checked"
    state = _state(mark, "broken", water, faults)
    return replace(section, units=None, counted_from="run", ledger=state), spent


def _declared(dossier: Dossier) -> int | None:
    """Units of a hospital without its ledger: what the configuration says; None: unknown."""
    unit = dossier.run.privacy.unit
    if unit.every_round:
        return 1
    return dossier.run.client.tasks.declared_records() if unit.single else None


def _last_mark(dossier: Dossier, name: str) -> Mark | None:
    marks = (one.mark for one in dossier.seen_of(name))
    return max(marks, key=lambda mark: mark.sequence, default=None)


def _state(mark: Mark, chain: Chain, water: HighWater, faults: Sequence[str] = ()) -> LedgerState:
    return LedgerState(clean(mark.ledger), mark.sequence, mark.head, chain, tuple(faults), water)


def _refusals(
    dossier: Dossier, name: str, noted: Sequence[NotedRefusal]
) -> tuple[RefusalCount, ...]:
    """Refusals in this run: the ledger and the server count the same ones, so the larger holds."""
    mine = [refusal for refusal in noted if refusal.run == dossier.key]
    counts = refusal_counts(mine) | dossier.refused(name)
    return tuple(RefusalCount(clean(code), n) for code, n in counts.most_common())
