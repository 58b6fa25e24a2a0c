"""What a hospital's units have spent, in the terms of a report, from the raw events of a ledger."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import inf

from metaward.privacy.accounting import Reported, enforced_epsilon, exact, gdp, reported_epsilon
from metaward.privacy.event import Budget, Event, Events
from metaward.privacy.ledger import Charged, History, Payment
from metaward.privacy.report.hospitals import AtDelta, SpendingPoint
from metaward.privacy.report.values import STANDARD_DELTAS
from metaward.server.office.accounts.account import worst, worst_mu
from metaward.server.office.report.case import Case, clean, utc


@dataclass(frozen=True)
class Spent:
    """``events`` of the most charged unit at the agreed delta, mu of the worst one, epsilons.

    ``error`` is the side on which the numbers may lie.
    """

    events: Events
    mu: float | None
    at: AtDelta
    epsilons: tuple[AtDelta, ...]
    error: str


def spent(bodies: Iterable[Events], delta: float) -> Spent:
    """The worst of several units, each with all that it was charged."""
    found = set(bodies)
    reported = {d: _reported(worst(found, d), d) for d in (delta, *STANDARD_DELTAS)}
    return Spent(
        worst(found, delta),
        worst_mu(found),
        AtDelta(delta, reported[delta].epsilon),
        tuple(AtDelta(d, one.epsilon) for d, one in reported.items()),
        reported[delta].error,
    )


NOTHING: tuple[Events, ...] = ()


def without_limit(delta: float) -> Spent:
    """What nothing bounds: no protection, or a ledger that cannot be read."""
    deltas = dict.fromkeys((delta, *STANDARD_DELTAS))
    return Spent((), inf, AtDelta(delta, inf), tuple(AtDelta(d, inf) for d in deltas), "exact")


@cache
def _reported(events: Events, delta: float) -> Reported:
    """Many units, and many hospitals, have the same account; by PLD one takes a second."""
    return reported_epsilon(events, delta)


# ---------------------------------------------------------------------- from the ledger


def own_charges(case: Case, history: History) -> tuple[Charged, ...]:
    """Those of this run and its own learner."""
    return tuple(c for c in history.charges if c.request.run == case.key)


def seen_as(case: Case, history: History) -> History:
    """The history in the terms of the run's unit.

    A ledger charges records whatever the unit. Where the hospital itself is the unit, its whole
    update is in one sum of every round, whichever records it was made of; other runs are left out.
    """
    if not case.run.privacy.unit.every_round:
        return history
    again = [case.summed_again, *[0] * len(history.charges)]
    pairs = zip(own_charges(case, history), again, strict=False)
    return replace(history, charges=tuple(_whole(*pair) for pair in pairs))


def _whole(charge: Charged, again: int) -> Charged:
    """The charge of one unit, the hospital: its dearest record's events, ``again`` times more."""
    events = max((paid.events for paid in charge.payments), key=_price)
    repeated = tuple(replace(event, count=event.count + again) for event in events)
    return replace(charge, payments=(Payment((1,), repeated),), new=())


def _price(events: Sequence[Event]) -> float:
    return gdp.mu(events)


def points(case: Case, history: History) -> tuple[SpendingPoint, ...]:
    """What the most charged unit had spent after each charge, at the price that is enforced."""
    names = {charge.request.run for charge in history.charges} - {case.key}
    mine = case.key if case.run.name in names else case.run.name

    def price(events: Events) -> float:
        return enforced_epsilon(events, case.delta)

    def named(run: str) -> str:
        return clean(mine if run == case.key else run)

    return tuple(
        SpendingPoint(
            utc(p.charge.time), named(p.charge.request.run), p.charge.request.round, p.price
        )
        for p in history.spending(price)
    )


def budget_at(budget: Budget | None, delta: float, events: Events) -> float | None:
    """The budget as epsilon at the agreed delta; None where there is none, or none that converts.

    Without a secret draw a budget is a cap on mu, which is one at every delta.
    """
    if budget is None or budget.delta == delta:
        return budget.epsilon if budget else None
    if not exact(events):
        return None
    return gdp.epsilon(gdp.mu_of(budget.epsilon, budget.delta), delta)
