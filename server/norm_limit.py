"""The norm limit of a run's updates, from what the run knows: ``strategies.max_norm: auto``.

*Units record, patient, task.* An update is made of sums in which no unit adds more than the clip
norm C and which are noised before anything else is done with them. A sum over n records (or tasks)
is divided by B = q n, so that its mean is at most C / q long, plus the noise: s N(0, I_d) with s =
sigma C / B. The length of N(0, I_d) has a mean below sqrt(d) and changes by no more than its
argument, so that it is above sqrt(d) + t with probability below exp(-t^2 / 2) (Boucheron, Lugosi,
Massart 2013: Concentration Inequalities, theorem 5.6). t is chosen so that all hospitals of a round
together have ``MISS`` at most. What a learner makes of the means, it says itself
(``Algorithm.reach``). B is that of one task, the fewest that a hospital can work on, and sigma that
of a unit that takes part in every round: the server does not know a real hospital's numbers. (A
learner may leave records out, as ``proto_anil`` does with classes that it has no mean of; an update
of less than one task's records can be longer.) The bound looks at no update. An update that it
rejects was noised before, so a rejection tells no more than the update did.

*Unit hospital.* The hospital clips its update to C, and the limit is C: no value decides whether it
is rejected.

*Unit none.* Nothing is clipped. What is typical for the others is all there is
(``strategies.limits.TypicalLimit``).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log, sqrt

import numpy as np

from metaward.client.inner.reach import Reach
from metaward.client.tasks.made_up import blank_tasks
from metaward.privacy import Rehearsal
from metaward.privacy.description import SumDescription
from metaward.privacy.noise import INFLATION
from metaward.server.office.plan.rehearsal import rehearsed
from metaward.sim import Sim
from metaward.strategies.limits import FixedLimit, NormLimit, ReachLimit, TypicalLimit

MISS = 1e-9
"""The probability, in each round, that the limit rejects an honest update."""
ROUNDING = 1 + 1e-3
"""Room for sums in float32."""


def norm_limit(run: Sim) -> NormLimit:
    """The limit of the run's own learner; that of a contender with the run it is trained in."""
    given, unit = run.strategies.max_norm, run.privacy.unit
    if isinstance(given, float):
        return FixedLimit(given)
    if not unit.protected:
        return TypicalLimit(estimate=run.desk().first is not None)
    if unit.noise_at_server:
        return FixedLimit(run.privacy.clip_of("update"))
    return _reach_limit(run)


def _reach_limit(run: Sim) -> NormLimit:
    rounds = run.server.rounds
    least, most = (rehearsed(run, n, rounds) for n in (1, run.client.tasks_per_round))
    beyond = sqrt(_widest(run)) + sqrt(2 * log(_asked(run) / MISS))
    first = _reach(run, least.first.description.sums, most.first.description.sums, beyond, True)
    later = _reach(run, least.later.description.sums, most.later.description.sums, beyond, False)
    if first is None or later is None:
        return FixedLimit()
    norm, start = (ROUNDING * (one.signal + one.noise) for one in (later, first))
    return ReachLimit(norm, start, ROUNDING * max(first.theta, later.theta))


def _reach(
    run: Sim,
    few: Sequence[SumDescription],
    many: Sequence[SumDescription],
    beyond: float,
    opening: bool,
) -> Reach | None:
    """The reach of an update whose sums are at worst those of one task, or of many."""
    means: dict[str, Reach] = {}
    for one in (*few, *many):
        mean, known = _mean(one, beyond), means.get(one.kind, Reach(0.0, 0.0))
        means[one.kind] = Reach(max(mean.signal, known.signal), max(mean.noise, known.noise))
    if run.privacy.unit.whole:  # clipped as a whole, whatever the learner does
        return means["update"]
    worker = run.desk().worker(1 if opening else 2)
    return worker.reach(means, run.client.tasks_per_round)


def _mean(one: SumDescription, beyond: float) -> Reach:
    """The reach of a noisy mean; the sum and its noise are rounded by ``INFLATION`` at most."""
    clip, batch = one.clip_norm or 0.0, one.batch or 1.0
    signal = clip / one.sampling_rate + clip * INFLATION / batch
    return Reach(signal, one.noise_multiplier * clip * (1 + INFLATION) * beyond / batch)


def _asked(run: Sim) -> int:
    seats = sum(seat.role == "train" for seat in run.client.tasks.roster())
    return run.strategies.hospitals_per_round or seats


def _widest(run: Sim) -> int:
    """The most coordinates that a sum of the run has, at any number of tasks up to the most."""
    desk, source, setting = run.desk(), run.client.tasks, run.setting()
    tasks = blank_tasks(setting.spec, source.task_size(), run.client.tasks_per_round)
    theta = desk.learner.initial(setting, run.seed)
    session, rng = Rehearsal(run.privacy.trained), np.random.default_rng(run.seed)
    kept = desk.worker(1).update(setting, theta, tasks, session, rng).keep
    desk.worker(2).update(setting.recalling(kept), theta, tasks, session, rng)
    return max(session.widest, len(theta))
