"""What a run would cost and whether it can work, found without opening any data.

The learner is rehearsed on blank tasks of the declared shape: the noise planned here is the noise
that will be charged, as long as a hospital's records make the planned number of tasks.

*Signal and noise of a round.* A round adds up ``contributions`` vectors over all its hospitals,
each clipped to norm C, and ``noises`` draws of N(0, sigma^2 C^2 I) in d coordinates. At best all
vectors have norm C and agree, so that the sum is contributions * C long (times q, where each unit
is drawn with probability q); the noise is sigma * C * sqrt(noises * d) long. Public constants
divide both, and C cancels:

    ratio <= q * contributions / (sigma * sqrt(noises * d)).

With N sums in the federation, each over n records, and a unit that is in one of them in each of
its k participations, sigma = sqrt(k) / mu and this is n * mu * sqrt(N) / sqrt(k * d). Several steps
a task change nothing: T sums cost as if sigma were sqrt(T) smaller, and average to the same. Under
unit task n is 1 a task, under unit hospital 1 a hospital. mu as in Dong, Roth, Su (2019), "Gaussian
Differential Privacy".

*Signal and noise of the run.* Over R rounds, signals that agree add up to R times one of them, and
independent noise to sqrt(R) times: the ratio of the run is at most sqrt(R) times that of a round.
The ratio of the run decides, because fewer rounds raise that of a round and help nobody: where
k = R, it is n * mu * sqrt(N / d).

The ratio leaves clipping out: a C far below what records have changes the direction of a sum at
any noise. ``server.office.plan.public`` measures that on public records, where there are any.
Where a learner has query gradients, its update follows them, and the ratio is theirs, although the
inner steps add noise of their own. The ratio is therefore an upper bound: a run may fail far above
1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, sqrt
from typing import Literal

from metaward.client.inner import Setting
from metaward.options import ConfigError
from metaward.privacy.description import SumDescription
from metaward.privacy.mechanisms.base import Protected
from metaward.server.baselines import claim
from metaward.server.office.plan.question import Question
from metaward.server.office.plan.rehearsal import rehearsed, spending
from metaward.sim import Sim

GRADIENTS = (3.0, 30.0)
"""Limits of the ratio: below the first a run cannot work, below the second it is doubtful. The
ratio supposes that all clipped vectors agree. At the start, on the phantoms, query gradients of
tasks that number classes afresh have a mean of 2 to 7 % of the clip norm (``privacy plan --public``
measures it, ``agreement`` in its JSON): a ratio of 30 is one of 2 in truth."""

MOMENTS = (1.0, 10.0)
"""The same where theta follows second moments, whose mean has 27 to 84 % of the clip norm there.
These limits were chosen with the table of docs/accuracy.md in view, and tested afterwards on other
runs (at its end)."""

Outlook = Literal["NO PRIVACY", "cannot work", "doubtful", "can work"]


@dataclass(frozen=True)
class Suggestion:
    """A change, what to type for it, and what it would lead to."""

    words: str
    type_this: str
    ratio: float
    verdict: Outlook


@dataclass(frozen=True)
class Left:
    """What clipping and noise leave of the sums of one ``kind``, measured on public records.

    ``norms`` are the 10 %, 50 % and 90 % quantiles of the vectors' norms; the share ``longer`` is
    above ``clip_norm``. ``clipped`` is what clipping alone leaves of the mean, ``left`` what is
    left with the noise: a cosine, or 1 minus a relative error (``privacy.measured``). ``best`` is
    the clip norm of those tried that leaves most; None where it can not be told.
    """

    kind: str
    clip_norm: float
    norms: tuple[float, float, float]
    longer: float
    clipped: float
    left: float
    best: float | None


@dataclass(frozen=True)
class DressRehearsal:
    """A run that was rehearsed on public tasks with ``seeds`` seeds: the mean main ``score`` after
    adaptation, and the ``share`` that privacy leaves of what training adds without it; None where
    the seeds do not agree that it adds anything."""

    seeds: int
    score: str
    untrained: float
    private: float
    no_privacy: float
    share: float | None


@dataclass(frozen=True)
class Planned:
    """The plan. A unit takes part in at most ``participations`` rounds. Of all ``parameters`` of
    theta, ``coordinates`` are trained, hence noised. ``mu`` is None where units are drawn.
    ``ratio`` is that of the run. Without protection there are no sums and no ratio, and epsilon is
    infinite. ``public`` and ``rehearsal`` are what was found on public tasks, if any were named."""

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
    sums: tuple[SumDescription, ...] = ()
    mu: float | None = None
    epsilon: float = inf
    delta: float | None = None
    ratio_of_a_round: float | None = None
    ratio: float | None = None
    limits: tuple[float, float] = GRADIENTS
    verdict: Outlook = "NO PRIVACY"
    notes: tuple[str, ...] = ()
    suggestions: tuple[Suggestion, ...] = ()
    public: tuple[Left, ...] = ()
    rehearsal: DressRehearsal | None = None


def planned(asked: Question) -> Planned:
    """The plan, without notes and suggestions."""
    run = asked.run
    setting = run.setting()
    tasks, participations = asked.first_round()
    plan = Planned(
        mechanism=run.privacy.name,
        unit=run.privacy.unit.name,
        claim=claim(run),
        hospitals=asked.hospitals,
        hospitals_per_round=asked.hospitals_per_round,
        records=asked.records,
        records_per_task=run.client.tasks.task_size().records,
        tasks_per_pass=asked.tasks,
        tasks_per_round=tasks,
        rounds=run.server.rounds,
        participations=participations,
        parameters=len(run.client.inner.initial(setting, run.seed)),
        coordinates=coordinates(setting, run),
    )
    return _priced(asked, run.privacy, plan) if isinstance(run.privacy, Protected) else plan


def _priced(asked: Question, mechanism: Protected, plan: Planned) -> Planned:
    """The plan with what it costs, and what is left of the signal."""
    tasks, times = plan.tasks_per_round, plan.participations
    rounds = rehearsed(asked.run, tasks, times)
    spent = spending(asked.run, tasks, times, rounds=times)
    followed = leading(rounds.later.description.sums)
    of_a_round = signal_to_noise(asked, followed, plan.coordinates)
    ratio = sqrt(plan.rounds) * of_a_round
    limits = MOMENTS if followed.kind == "moments" else GRADIENTS
    return replace(
        plan,
        sums=rounds.sums,
        mu=spent.mu(),
        epsilon=spent.enforced(mechanism.delta),
        delta=mechanism.delta,
        ratio_of_a_round=of_a_round,
        ratio=ratio,
        limits=limits,
        verdict=verdict(ratio, limits, body_counts(asked.run)),
    )


def body_counts(run: Sim) -> bool:
    """Whether the body is trained, or starts as something that no seed has drawn."""
    if run.server.start is not None:
        return True
    net = run.setting().network(0)
    return "body" in run.privacy.trained or not net.drawn()


def verdict(ratio: float, limits: tuple[float, float] = GRADIENTS, body: bool = True) -> Outlook:
    """The ratio in words: below the first of ``limits`` a run cannot work, below the second it is
    doubtful. It is doubtful, too, where the ``body`` does not count: it is not trained and was
    drawn at random, so that little can be learned."""
    if ratio < limits[0]:
        return "cannot work"
    return "can work" if body and ratio >= limits[1] else "doubtful"


def coordinates(setting: Setting, run: Sim) -> int:
    """How many coordinates of theta are trained, by what the learner says of its layers."""
    own = [layer for layer in run.client.inner.layers(setting) if not layer.local]
    d = sum(layer.size for layer in own if layer.group in run.privacy.trained)
    if d == 0:
        raise ConfigError(["privacy.train: names no coordinate that this learner's theta has"])
    return d


def signal_to_noise(asked: Question, lead: SumDescription, d: int) -> float:
    """The largest ratio that a round can have (see the head of this file)."""
    hospitals, vectors = asked.hospitals_per_round, lead.vectors
    unit = asked.run.privacy.unit
    if unit.cap is not None and asked.units is not None:
        vectors = min(vectors, asked.units * lead.count)  # those of one unit are clipped as one
    contributions = asked.run.privacy.sampling_rate * vectors * hospitals
    noises = 1 if unit.noise_at_server else lead.sums * hospitals
    return contributions / (lead.noise_multiplier * sqrt(noises * d))


def leading(sums: Sequence[SumDescription]) -> SumDescription:
    """The sums that theta follows: query gradients or second moments where there are any."""
    return next((s for s in sums if s.kind in ("query", "moments")), sums[0])
