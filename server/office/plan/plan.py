"""What a run would cost and whether it can work, found without opening any data.

The learner is rehearsed on blank tasks of the declared shape by ``client.charging.plan``, the code
that prices the real requests: the noise planned here is the noise that will be charged, as long as
a hospital's records make the planned number of tasks.

*Signal and noise of a round.* A round adds up ``contributions`` vectors over all its hospitals,
each clipped to norm C, and ``noises`` draws of N(0, sigma^2 C^2 I) in d coordinates. At best all
vectors have norm C and agree, so that the sum is contributions * C long (times q, where each unit
is drawn with probability q); the noise is sigma * C * sqrt(noises * d) long. Public constants
divide both, and C cancels:

    ratio <= q * contributions / (sigma * sqrt(noises * d)).

With N sums in the federation, each over n records, and a unit standing in one of them in each of
its k participations, sigma = sqrt(k) / mu and this is n * mu * sqrt(N) / sqrt(k * d). Several steps
a task change nothing: T sums cost as if sigma were sqrt(T) smaller, and average to the same. Under
unit task n is 1 a task, under unit hospital 1 a hospital. mu as in Dong, Roth, Su (2019), "Gaussian
Differential Privacy".

*Of the run.* Over R rounds signals that agree add up to R times one, independent noise to sqrt(R)
times: the ratio of the run is sqrt(R) that of a round, at most. It decides, because fewer rounds
raise a round's ratio and help nobody: where k = R that of the run is n * mu * sqrt(N / d).

Clipping is not in it: a C far below what records have turns a sum at any noise (docs/accuracy.md).
Where a learner has query gradients, the update follows them, and the ratio is theirs: noise in the
inner steps comes on top. Hence an upper bound: it may fail far above 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, sqrt
from typing import Any, Literal

import numpy as np
from torch import Tensor

from metaward.client.charging import Plan, plan
from metaward.client.inner import Setting
from metaward.client.schedule import Share, pass_share
from metaward.client.tasks.made_up import blank_tasks
from metaward.options import ConfigError
from metaward.privacy.accounting import gdp
from metaward.privacy.mechanisms.base import Protected
from metaward.privacy.price import Counts, events, spend
from metaward.sim import Sim

GRADIENTS = (3.0, 30.0)
"""Limits of the ratio: below the first it cannot work, below the second is doubt. The ratio
supposes that all clipped vectors agree. At the start, on the phantoms, query gradients of tasks
that number classes afresh have a mean of 2 to 7 % of the clip norm (benchmarks/agreement.py): a
ratio of 30 is one of 2 in truth."""

MOMENTS = (1.0, 10.0)
"""The same where theta follows second moments, whose mean has 27 to 84 % of the clip norm there.
Settled with the table of docs/accuracy.md in view, tested afterwards on other runs (its end)."""

Verdict = Literal["NO PRIVACY", "cannot work", "doubtful", "can work"]


@dataclass(frozen=True)
class Question:
    """A run, and what its file does not say: records of each of the training ``hospitals``, the
    disjoint ``tasks`` that they make in one pass, and the ``units`` that own the records (such as
    patients; None: each record is one)."""

    run: Sim
    hospitals: int
    records: int
    tasks: int
    units: int | None = None


@dataclass(frozen=True)
class Summed:
    """The sums of one ``kind`` in a round.

    A hospital takes ``sums`` of them, which add up ``vectors`` clipped ones; a unit stands in
    ``each`` of them in one participation. ``sigma`` is the noise multiplier, ``clip`` the norm C.
    """

    kind: str
    sums: int
    vectors: int
    each: int
    clip: float
    sigma: float


@dataclass(frozen=True)
class Suggestion:
    """A change, what to type for it, and what it would lead to."""

    words: str
    type_this: str
    ratio: float
    verdict: Verdict


@dataclass(frozen=True)
class Planned:
    """The plan. ``participations`` is the most in which one unit stands, ``coordinates`` are those
    of theta that are trained, hence noised, of ``parameters`` in all. ``mu`` is None where units
    are drawn. ``ratio`` is the run's. Without protection: no sums, no ratio, epsilon infinite."""

    mechanism: str
    unit: str
    claim: str
    hospitals: int
    hospitals_per_round: int
    records: int
    records_per_task: int
    tasks_per_pass: int
    tasks_per_round: int
    rounds: int
    participations: int
    parameters: int
    coordinates: int
    sums: tuple[Summed, ...] = ()
    mu: float | None = None
    epsilon: float = inf
    delta: float | None = None
    ratio_of_a_round: float | None = None
    ratio: float | None = None
    limits: tuple[float, float] = GRADIENTS
    verdict: Verdict = "NO PRIVACY"
    notes: tuple[str, ...] = ()
    suggestions: tuple[Suggestion, ...] = ()


def question(
    run: Sim,
    hospitals: int | None = None,
    records: int | None = None,
    tasks: int | None = None,
    units: int | None = None,
) -> Question:
    """What is asked; what is None is taken from the configuration. ``ConfigError`` where it cannot
    be, or where the numbers contradict each other.

    Where a unit's records may not be in two tasks of a pass there are no more tasks than units."""
    source = run.client.tasks
    seats = sum(seat.role == "train" for seat in source.roster())
    records = source.declared_records() if records is None else records
    if records is None:
        raise ConfigError(
            [
                "the configuration does not say how many records a hospital has, and a plan opens "
                "no data: give --records N, the records of the smallest training hospital "
                "(`metaward tasks show` counts them where the data lies)"
            ]
        )
    size, most = source.task_size().records, source.most_tasks(records)
    if run.privacy.unit.cap is not None and units is not None:
        most = min(most, run.privacy.unit.cap * units)
    if most < 1:
        text = f"{records} records do not make one task of {size} (support and query)"
        raise ConfigError([f"--records: {text}; give more, or lower shots or queries"])
    if tasks is not None and not 1 <= tasks <= most:
        text = f"{records} records make 1 to {most} disjoint tasks of {size}"
        raise ConfigError([f"--tasks: {tasks} is refused: {text}"])
    number = seats if hospitals is None else hospitals
    return Question(run, number, records, tasks or most, units)


def planned(asked: Question) -> Planned:
    """The plan, without notes and suggestions."""
    run, share = asked.run, first_share(asked)
    setting = Setting(run.client.model, run.client.tasks.spec())
    theta = run.client.inner.initial(setting, run.seed)
    known = _facts(asked, share) | {"parameters": len(theta)}
    known |= {"coordinates": coordinates(setting, run)}
    known |= {"mechanism": run.privacy.name, "unit": run.privacy.unit.name}
    known |= {"claim": run.privacy.claim}
    if not isinstance(run.privacy, Protected):
        return Planned(**known)
    price = priced(run, setting, theta, share)
    return Planned(**known, **_account(asked, run.privacy, share, price, known["coordinates"]))


def _account(
    asked: Question, mechanism: Protected, share: Share, price: Plan, d: int
) -> dict[str, Any]:
    """What the price means over all rounds."""
    tasks = [np.concatenate([e.support_rows, e.query_rows]).tolist() for e in share.episodes]
    profiles = mechanism.profiles(price.uses, tasks)
    sums = summed(mechanism, price, profiles)
    times, rate, delta = share.participations, mechanism.sampling_rate, mechanism.delta
    of_a_round = signal_to_noise(asked, sums, d)
    ratio = sqrt(asked.run.server.rounds) * of_a_round
    limits = MOMENTS if leading(sums).kind == "moments" else GRADIENTS
    return {
        "sums": sums,
        "mu": _mu(profiles, price, times) if rate == 1 else None,
        "epsilon": spend(profiles, times, price.noise, delta, rate),
        "delta": delta,
        "ratio_of_a_round": of_a_round,
        "ratio": ratio,
        "limits": limits,
        "verdict": verdict(ratio, limits, body_counts(asked.run)),
    }


def body_counts(run: Sim) -> bool:
    """Whether the body is trained, or starts as something that no seed has drawn."""
    net = Setting(run.client.model, run.client.tasks.spec()).network(0)
    return "body" in run.privacy.trained or not net.drawn()


def verdict(ratio: float, limits: tuple[float, float] = GRADIENTS, body: bool = True) -> Verdict:
    """The ratio in words; ``limits``: below the first it cannot work, below the second is doubt, as
    it is where the ``body`` stays as it was drawn at random: little can be learned then."""
    if ratio < limits[0]:
        return "cannot work"
    return "can work" if body and ratio >= limits[1] else "doubtful"


def first_share(asked: Question) -> Share:
    """The first round's blank tasks at one hospital, and the participations of a record."""
    run = asked.run
    source, per_round = run.client.tasks, run.client.tasks_per_round
    count = asked.tasks if run.client.schedule == "passes" else per_round
    tasks = blank_tasks(source.spec(), source.task_size(), count)
    share = pass_share(lambda number: tasks, per_round, run.server.rounds, 1)
    times = run.privacy.unit.participations(share.participations, run.server.rounds)
    return replace(share, participations=times)


def priced(run: Sim, setting: Setting, theta: Tensor, share: Share) -> Plan:
    """The uses of a round and their noise, as a hospital finds them before it computes."""
    rng = np.random.default_rng(run.seed)  # which records share a mini-batch costs the same
    return plan(run.privacy, run.client.inner, setting, theta, share, rng)


def coordinates(setting: Setting, run: Sim) -> int:
    """How many coordinates of theta are trained, by what the learner says of its layers."""
    own = [layer for layer in run.client.inner.layers(setting) if not layer.local]
    d = sum(layer.size for layer in own if layer.group in run.privacy.trained)
    if d == 0:
        raise ConfigError(["privacy.train: names no coordinate that this learner's theta has"])
    return d


def summed(mechanism: Protected, price: Plan, profiles: Sequence[Counts]) -> tuple[Summed, ...]:
    """The sums of each kind, in the order of first use."""
    found = []
    for kind in dict.fromkeys(use.kind for use in price.uses):
        rows = [len(use.rows) for use in price.uses if use.kind == kind]
        sums, vectors = len(rows), sum(rows)
        if mechanism.unit.whole:  # one sum, one vector for each use
            sums, vectors = 1, len(rows)
        each = max(profile[kind] for profile in profiles)
        clip, sigma = mechanism.clip_of(kind), price.noise[kind]
        found.append(Summed(kind, sums, vectors, each, clip, sigma))
    return tuple(found)


def signal_to_noise(asked: Question, sums: Sequence[Summed], d: int) -> float:
    """The largest ratio that a round can have (see the head of this file)."""
    lead = leading(sums)
    hospitals, vectors = per_round(asked), lead.vectors
    unit = asked.run.privacy.unit
    if unit.cap is not None and asked.units is not None:
        vectors = min(vectors, asked.units * lead.each)  # those of one unit are clipped as one
    contributions = asked.run.privacy.sampling_rate * vectors * hospitals
    noises = 1 if unit.noise_at_server else lead.sums * hospitals
    return contributions / (lead.sigma * sqrt(noises * d))


def leading(sums: Sequence[Summed]) -> Summed:
    """The sums that theta follows: query gradients or second moments where there are any."""
    return next((s for s in sums if s.kind in ("query", "moments")), sums[0])


def per_round(asked: Question) -> int:
    """Hospitals that work in a round."""
    return min(asked.run.strategies.hospitals_per_round or asked.hospitals, asked.hospitals)


def _facts(asked: Question, share: Share) -> dict[str, Any]:
    run = asked.run
    return {
        "hospitals": asked.hospitals,
        "hospitals_per_round": per_round(asked),
        "records": asked.records,
        "records_per_task": run.client.tasks.task_size().records,
        "tasks_per_pass": asked.tasks,
        "tasks_per_round": len(share.episodes),
        "rounds": run.server.rounds,
        "participations": share.participations,
    }


def _mu(profiles: Sequence[Counts], price: Plan, times: int) -> float:
    return max(gdp.mu(events(profile, price.noise, 1.0) * times) for profile in profiles)
