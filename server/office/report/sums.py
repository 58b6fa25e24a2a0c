"""The mechanism of a report: which noisy sums there were, how large, with how much noise.

Which sums a learner takes is found by rehearsing it on blank tasks, as the price of a request is;
how much noise they had is read from what was charged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, inf, isclose
from typing import Literal

import numpy as np

from metaward.client.charging import Plan
from metaward.client.inner import Setting
from metaward.client.schedule import Share
from metaward.client.tasks.made_up import blank_tasks
from metaward.privacy.accounting import gdp
from metaward.privacy.event import Events, gaussian
from metaward.privacy.ledger import History
from metaward.privacy.mechanisms.base import Protected
from metaward.privacy.price import Counts, events
from metaward.privacy.report.hospitals import AtDelta
from metaward.privacy.report.sections import MechanismSummary, NoisySum
from metaward.privacy.report.values import STANDARD_DELTAS
from metaward.server.office.accounts.account import most_participations
from metaward.server.office.plan.plan import Summed, priced, summed
from metaward.server.office.report.case import Case
from metaward.server.office.report.spent import Spent, own_charges, spent
from metaward.server.office.report.touches import how, sampling
from metaward.sim import Sim

POWER_OF_TWO = (
    "Clipped sum and noise are rounded to one power-of-two grid before they meet (Mironov 2012)."
)
DRAWN = (
    "Every unit is drawn afresh before each sum, independently and in secret, and the sum is "
    "divided by a public constant; so each draw counts at its own rate."
)


@dataclass(frozen=True)
class Rehearsed:
    """The sums of a round of some tasks at one hospital, and what one unit stands in."""

    sums: tuple[Summed, ...]
    profiles: tuple[Counts, ...]
    noise: Mapping[str, float]


@lru_cache(maxsize=64)
def rehearsed(run: Sim, tasks: int, participations: int) -> Rehearsed:
    """A round of so many tasks, priced for units that take part so often; touches no record."""
    assert isinstance(run.privacy, Protected)
    source = run.client.tasks
    setting = Setting(run.client.model, source.spec())
    share = Share(blank_tasks(source.spec(), source.task_size(), tasks), participations)
    price: Plan = priced(run, setting, run.client.inner.initial(setting, run.seed), share)
    rows = [np.concatenate([e.support_rows, e.query_rows]).tolist() for e in share.episodes]
    profiles = run.privacy.profiles(price.uses, rows)
    return Rehearsed(summed(run.privacy, price, profiles), tuple(profiles), price.noise)


# ----------------------------------------------------------------------------- for the page


@dataclass(frozen=True)
class Paid:
    """One charge: its tasks, and the noise multipliers of its sums."""

    tasks: int
    multipliers: frozenset[float]


def mechanism(case: Case, histories: Sequence[History]) -> MechanismSummary:
    """The mechanism of the run, as its charges were; without any, as the configuration has it."""
    charges = dict.fromkeys(one for history in histories for one in charged(case, history))
    sums, between = _sums(case, list(charges))
    rate = case.run.privacy.sampling_rate
    return MechanismSummary(
        name=case.run.privacy.name,
        words=" ".join([how(case.run), *_remarks(case, between, bool(charges))]),
        sums=sums,
        inner_steps=case.run.client.inner.inner_steps,
        participations=_participations(case, histories, list(charges)),
        sampling_rate=rate,
        sampling=sampling(case.run),
        amplification=DRAWN if rate < 1 else None,
        noise_source=_noise_source(case),
        floating_point=POWER_OF_TWO if case.protected else None,
    )


def charged(case: Case, history: History) -> Iterator[Paid]:
    """This run's charges in a ledger. Tasks are all of one size, and every record is in one."""
    kinds = [name.partition(":")[0] for charge in history.charges for name in charge.new]
    size = case.run.client.tasks.task_size().records
    for charge in own_charges(case, history):
        count = Counter(kinds[unit - 1] for unit in charge.units())
        records = count.get("record") or count.get("content", 0)  # a group's are known by content
        yield Paid(ceil(records / size), frozenset(charge.noise_multipliers()))


def _sums(case: Case, charges: Sequence[Paid]) -> tuple[tuple[NoisySum, ...], tuple[float, ...]]:
    """The kinds of sums, each with its smallest noise; and the different values of B."""
    if case.protected is None:
        return (), ()
    found: dict[str, list[NoisySum]] = {}
    for one in (*charges,) or (None,):
        tasks = one.tasks if one else case.run.client.tasks_per_round
        rehearsal = rehearsed(case.run, tasks, 1)
        noise = _noise(rehearsal.noise, one.multipliers) if one else rehearsal.noise
        for each in rehearsal.sums:
            found.setdefault(each.kind, []).append(_sum(case, each, noise[each.kind]))
    least = tuple(
        replace(
            min(same, key=lambda s: s.noise_multiplier),
            batch=min((s.batch for s in same if s.batch), default=None),
        )
        for same in found.values()
    )
    first = next(iter(found.values()))
    return least, tuple(sorted({s.batch for s in first if s.batch}))


def _sum(case: Case, each: Summed, sigma: float) -> NoisySum:
    at_server = case.run.privacy.unit.noise_at_server  # divided by how many hospitals answered
    batch = None if at_server else case.run.privacy.sampling_rate * each.vectors / each.sums
    return NoisySum(each.kind, each.clip, sigma, batch, each.each)


def _noise(planned: Mapping[str, float], charged: frozenset[float]) -> Mapping[str, float]:
    """Which of the charged noise multipliers each kind of sum had.

    They keep the proportions of the plan, whose participations are not the hospital's. Where they
    do not, every kind is given the smallest one.
    """
    scale = max(charged) / max(planned.values()) if max(planned.values()) else 0.0
    found = {kind: scale * sigma for kind, sigma in planned.items()}
    if all(any(isclose(m, s, rel_tol=1e-6) for s in found.values()) for m in charged):
        return {k: min(charged, key=lambda m: abs(m - s)) for k, s in found.items()}
    return dict.fromkeys(planned, min(charged))


def _participations(case: Case, histories: Sequence[History], charges: Sequence[Paid]) -> int:
    """The most rounds of the run that a unit may be in."""
    run, rounds = case.run, case.run.server.rounds
    if case.protected is None or run.privacy.unit.every_round or not charges:
        return rounds
    own = (own_charges(case, history) for history in histories)
    seen = max((most_participations(mine) for mine in own), default=0)
    if case.protected.noise_multiplier is not None or run.privacy.sampling_rate < 1:
        return seen if case.finished else rounds
    return max(seen, *(_planned(run, one) for one in charges))


def _planned(run: Sim, one: Paid) -> int:
    """Noise grows with the root of the participations that it was made for."""
    alone = max(rehearsed(run, one.tasks, 1).noise.values())
    return round((max(one.multipliers) / alone) ** 2)


def _noise_source(case: Case) -> Literal["operating system", "seeded"] | None:
    if case.protected is None:
        return None
    return "seeded" if case.simulated else "operating system"


def _remarks(case: Case, batches: Sequence[float], known: bool) -> Iterator[str]:
    if len(batches) > 1:
        yield (
            f"B follows the number of tasks in a round, which is public: {batches[0]:g} to "
            f"{batches[-1]:g} in the first kind of sum; shown is the smallest."
        )
    if case.protected and not known:
        yield (
            "No ledger is here, so the sums are those that the configuration asks for, with the "
            "least noise that its budget allows; each hospital's own report has the real ones."
        )


# ------------------------------------------------------------------- without any ledger


def bound(case: Case, hospital: str) -> Spent:
    """At most what a hospital has spent in this run, from what the server saw of it.

    Where the noise is made for the budget, all scheduled rounds together stay within it. A round
    that was done again (its marks tell) is a further one.
    """
    mechanism = case.protected
    assert mechanism is not None
    rounds, again = len(case.left_rounds(hospital)), case.repeated(hospital)
    if not rounds:
        return spent((), case.delta)
    if mechanism.unit.every_round or mechanism.noise_multiplier is not None:
        bodies: Iterable[Events] = _every_round(case, rounds + again)
    elif mechanism.sampling_rate == 1:
        mu = gdp.mu_of(mechanism.epsilon, mechanism.delta)
        bodies = [(gaussian(1 / mu, 1 + again),)]
    else:
        return _capped(mechanism, case.delta, again)
    return replace(spent(bodies, case.delta), error="never below the truth")


def _every_round(case: Case, rounds: int) -> list[Events]:
    """Every unit in every round, with the noise that the configuration sets."""
    run = case.run
    found = rehearsed(run, run.client.tasks_per_round, run.server.rounds)
    once = (events(p, found.noise, run.privacy.sampling_rate) for p in found.profiles)
    return [tuple(replace(e, count=e.count * rounds) for e in unit) for unit in once]


def _capped(mechanism: Protected, delta: float, again: int) -> Spent:
    """The budget itself: at a smaller delta it says nothing."""
    epsilon = inf if again else mechanism.epsilon

    def at(other: float) -> AtDelta:
        return AtDelta(other, epsilon if other >= delta else inf)

    deltas = dict.fromkeys((delta, *STANDARD_DELTAS))
    found = tuple(at(other) for other in deltas)
    return Spent((), None, at(delta), found, "never below the truth")
