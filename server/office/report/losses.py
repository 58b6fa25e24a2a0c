"""What a hospital's units have spent, in the terms of a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf

from metaward.privacy.accounting import Direction, enforced_epsilon, exact, gdp
from metaward.privacy.event import Budget, Events
from metaward.privacy.ledger import Charged, History, Payment
from metaward.privacy.report.hospitals import AtDelta, SpendingPoint
from metaward.privacy.report.values import STANDARD_DELTAS
from metaward.server.office.accounts.spending import Spending
from metaward.server.office.report.dossier import Dossier, clean, utc


@dataclass(frozen=True)
class Losses:
    """``events`` of the most charged unit at the agreed delta, mu of the worst one, and epsilons.

    The agreed delta is the first of ``epsilons``. ``error``: the side on which all of them may lie.
    """

    mu: float | None
    epsilons: Mapping[float, float]
    error: Direction = "exact"
    events: Events = ()

    @property
    def spent(self) -> AtDelta:
        """At the agreed delta."""
        return self.at[0]

    @property
    def at(self) -> tuple[AtDelta, ...]:
        """At every delta."""
        return tuple(AtDelta(delta, epsilon) for delta, epsilon in self.epsilons.items())


def losses(spending: Spending, delta: float) -> Losses:
    """Those of the worst of several units."""
    reported = {d: spending.reported(d) for d in (delta, *STANDARD_DELTAS)}
    epsilons = {d: one.epsilon for d, one in reported.items()}
    return Losses(spending.mu(), epsilons, reported[delta].error, spending.worst(delta))


def unlimited(delta: float) -> Losses:
    """What nothing bounds: no protection, or a ledger that cannot be read."""
    return Losses(inf, dict.fromkeys((delta, *STANDARD_DELTAS), inf))


def capped(epsilon: float, delta: float) -> Losses:
    """The budget itself: at a smaller delta it says nothing."""
    epsilons = {d: epsilon if d >= delta else inf for d in (delta, *STANDARD_DELTAS)}
    return Losses(None, epsilons, "never below the truth")


def in_its_terms(dossier: Dossier, history: History) -> History:
    """The history in the terms of the run's unit.

    A ledger charges records whatever the unit. Where the hospital itself is the unit, its whole
    update is in one sum of every round, whichever records it was made of; other runs are left out.
    """
    if not dossier.run.privacy.unit.every_round:
        return history
    charges = [_whole(charge) for charge in dossier.own_charges(history)]
    if charges:
        charges[0] = _whole(charges[0], again=dossier.summed_again)
    return replace(history, charges=tuple(charges))


def _whole(charge: Charged, again: int = 0) -> Charged:
    """The charge of one unit, the hospital: its dearest record's events, ``again`` times more."""
    events = max((paid.events for paid in charge.payments), key=gdp.mu)
    repeated = tuple(replace(event, count=event.count + again) for event in events)
    return replace(charge, payments=(Payment((1,), repeated),), new=())


def points(dossier: Dossier, history: History) -> tuple[SpendingPoint, ...]:
    """What the most charged unit had spent after each charge, at the price that is enforced."""
    others = {charge.request.run for charge in history.charges} - {dossier.key}
    names = {dossier.key: dossier.key if dossier.run.name in others else dossier.run.name}
    return tuple(
        SpendingPoint(
            time=utc(point.charge.time),
            run=clean(names.get(point.charge.request.run, point.charge.request.run)),
            round=point.charge.request.round,
            epsilon=point.price,
        )
        for point in history.spending(lambda events: enforced_epsilon(events, dossier.delta))
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
