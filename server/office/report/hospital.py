"""A training hospital's section of a privacy report: from its ledger, or from what the server saw.

Where a ledger is here, every number comes from its raw charges. In a deployment ledgers lie at the
hospitals; the server then counts an upper bound on what it was sent, and says that it is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from typing import Any

from metaward.privacy.accounting import enforced_epsilon, gdp
from metaward.privacy.event import Budget, Events, Mark
from metaward.privacy.ledger import History, NotedRefusal
from metaward.privacy.report.sections import (
    AtDelta,
    LedgerState,
    RefusalCount,
    SpendingPoint,
    TrainingHospital,
)
from metaward.privacy.report.values import STANDARD_DELTAS, Chain, HighWater
from metaward.server.office.accounts.places import OpenedLedger
from metaward.server.office.accounts.spending import Spending, refusal_counts
from metaward.server.office.report.dossier import REWOUND, Dossier, clean, utc
from metaward.server.office.report.mechanism import bound
from metaward.strategies.marks import Marks

GONE = "it is gone, though the server has a mark of it"


Account = tuple[TrainingHospital, Spending]
"""A hospital's section, and what its units have spent."""


def hospital(dossier: Dossier, name: str) -> Account:
    """The hospital's account, from the best that is known of it."""
    ledger = dossier.ledgers.get(name)
    if ledger and ledger.history:
        return _from_ledger(dossier, name, ledger, ledger.history)
    if ledger:
        return _lost(dossier, name, ledger.faults)
    if not dossier.run.privacy.unit.protected:
        return _from_server(dossier, name, Spending.unlimited())
    if not dossier.simulated:
        return _from_server(dossier, name, bound(dossier, name))
    if dossier.seen_of(name):
        return _lost(dossier, name, [GONE])
    return _from_server(dossier, name, Spending())


def _account(dossier: Dossier, name: str, spent: Spending, **known: Any) -> Account:
    """With the figures of what was spent, beside what is known otherwise."""
    deltas = dict.fromkeys((dossier.delta, *STANDARD_DELTAS))
    epsilons = tuple(AtDelta(delta, spent.reported(delta).epsilon) for delta in deltas)
    section = TrainingHospital(
        name=clean(name), mu=spent.mu(), spent=epsilons[0], epsilons=epsilons, **known
    )
    return section, spent


# ------------------------------------------------------------------------------ its ledger


def _from_ledger(dossier: Dossier, name: str, ledger: OpenedLedger, history: History) -> Account:
    ours = summed_again(dossier, history)
    mine = replace(ours, charges=dossier.own_charges(ours))
    spent = Spending.of(ours)
    budget = mine.charges[-1].budget if mine.charges else dossier.run.privacy.budget
    chain: Chain = "broken" if ledger.faults else "verified"
    seen = dossier.seen_of(name)
    held: HighWater = "held" if all(ledger.holds(one.mark) for one in seen) else "went back"
    return _account(
        dossier,
        name,
        spent,
        units=units(dossier, history),
        participations=len({charge.request.round for charge in mine.charges}),
        counted_from="ledger",
        this_run=Spending.of(mine).reported(dossier.delta).epsilon,
        budget=budget_at(budget, dossier.delta, spent.worst(dossier.delta)),
        ledger=_state(history.mark, chain, held if seen else "not checked", ledger.faults),
        refusals=_refusals(dossier, name, history.refusals),
        history=points(dossier, ours),
        code=tuple(dict.fromkeys(charge.code for charge in mine.charges if charge.code)),
    )


def summed_again(dossier: Dossier, history: History) -> History:
    """The history with what the server itself may have noised a second time, paid for again."""
    charges = list(history.charges)
    for first in dossier.own_charges(history)[:1]:
        paid = first.payments * (1 + dossier.summed_again)
        charges[charges.index(first)] = replace(first, payments=paid)
    return replace(history, charges=tuple(charges))


def units(dossier: Dossier, history: History | None) -> int | None:
    """How many units of the run's kind were ever charged here.

    A ledger charges a task's records; tasks are as many as these make, all being of one size.
    Without a ledger it is what the configuration says; None: unknown.
    """
    unit, source = dossier.run.privacy.unit, dossier.run.client.tasks
    if unit.every_round:
        return 1
    if history is None:
        return source.declared_records() if unit.single else None
    charged = history.units().get(unit.key, 0)
    return ceil(charged / source.task_size().records) if unit.clips_tasks else charged


def points(dossier: Dossier, history: History) -> tuple[SpendingPoint, ...]:
    """What the most charged unit had spent after each charge, at the price that is enforced."""
    names = {charge.request.run: charge.request.run for charge in history.charges}
    names |= {dossier.key: dossier.key if dossier.run.name in names else dossier.run.name}
    priced = history.spending(lambda events: enforced_epsilon(events, dossier.delta))
    return tuple(
        SpendingPoint(utc(c.time), clean(names[c.request.run]), c.request.round, epsilon)
        for c, epsilon in priced
    )


def budget_at(budget: Budget | None, delta: float, events: Events) -> float | None:
    """The budget as epsilon at the agreed delta; None where there is none, or none that converts.

    Without a secret draw a budget is a cap on mu, which is one at every delta.
    """
    if budget is None or budget.delta == delta:
        return budget.epsilon if budget else None
    if not gdp.supports(events):
        return None
    return gdp.epsilon(gdp.mu_of(budget.epsilon, budget.delta), delta)


# ------------------------------------------------------------------------ what the server saw


def _from_server(dossier: Dossier, name: str, spent: Spending) -> Account:
    """No ledger here: counted for this run alone, and never below what left."""
    mechanism, mark = dossier.protected, Marks(dossier.seen_of(name)).last(name)
    water: HighWater = "went back" if dossier.refused(name)[REWOUND] else "not checked"
    return _account(
        dossier,
        name,
        spent,
        units=units(dossier, None),
        participations=len(dossier.left_rounds(name)),
        counted_from="ledger" if dossier.simulated and mechanism else "run",
        this_run=spent.reported(dossier.delta).epsilon,
        budget=mechanism.epsilon if mechanism else None,
        ledger=_state(mark, "not checked", water) if mark else None,
        refusals=_refusals(dossier, name, ()),
        history=(),
        code=(),
    )


def _lost(dossier: Dossier, name: str, faults: Sequence[str]) -> Account:
    """A ledger that cannot be read or is gone: nothing bounds what its units have spent."""
    section, spent = _from_server(dossier, name, Spending.unlimited())
    seen = dossier.seen_of(name)
    mark = Marks(seen).last(name) or Mark("unknown", 0, "0" * 64)
    water: HighWater = "went back" if seen else "not checked"
    state = _state(mark, "broken", water, faults)
    return replace(section, units=None, counted_from="run", ledger=state), spent


def _state(mark: Mark, chain: Chain, water: HighWater, faults: Sequence[str] = ()) -> LedgerState:
    said = tuple(clean(fault, 2000) for fault in faults)
    return LedgerState(clean(mark.ledger), mark.sequence, mark.head, chain, said, water)


def _refusals(
    dossier: Dossier, name: str, noted: Sequence[NotedRefusal]
) -> tuple[RefusalCount, ...]:
    """Refusals in this run: the ledger and the server count the same ones, so the larger holds."""
    mine = [refusal for refusal in noted if refusal.run == dossier.key]
    counts = refusal_counts(mine) | dossier.refused(name)
    return tuple(RefusalCount(clean(code), n) for code, n in counts.most_common())
