"""Rounds at one hospital, rehearsed on blank tasks: which sums there are, and how noisy each is.

The code that prices the real requests (``client.charging.plan``) prices these, and no record is
touched. The price depends on how many tasks of the declared shape there are, not on their content.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from metaward.client.charging import Plan, plan
from metaward.client.inner import Setting
from metaward.client.schedule import Share
from metaward.client.tasks.made_up import blank_tasks
from metaward.privacy import Rehearsal
from metaward.privacy.description import SumDescription
from metaward.privacy.price import events, over_run
from metaward.server.office.accounts.spending import Spending
from metaward.sim import Sim


@dataclass(frozen=True)
class Rehearsed:
    """The first round of a run, and any later one."""

    first: Plan
    later: Plan

    @property
    def sums(self) -> tuple[SumDescription, ...]:
        """The sums of a later round, then those that only the first one has."""
        later = self.later.description.sums
        kinds = {one.kind for one in later}
        return (*later, *(one for one in self.first.description.sums if one.kind not in kinds))


@lru_cache(maxsize=64)
def rehearsed(run: Sim, tasks: int, participations: int) -> Rehearsed:
    """Rounds of so many tasks, with noise for units that take part so often."""
    desk, source = run.desk(), run.client.tasks
    setting = run.setting()
    share = Share(blank_tasks(setting.spec, source.task_size(), tasks), participations)
    theta = desk.learner.initial(setting, run.seed)
    # which records share a mini-batch costs the same
    session, rng = Rehearsal(run.privacy.trained), np.random.default_rng(run.seed)
    kept = desk.worker(1).update(setting, theta, share.episodes, session, rng).keep

    def priced(setting: Setting, opening: bool) -> Plan:
        parts = run.privacy, desk.learner, setting, theta, share, np.random.default_rng(run.seed)
        return plan(*parts, desk.first, opening)

    return Rehearsed(priced(setting, True), priced(setting.recalling(kept), False))


def spending(run: Sim, tasks: int, participations: int, rounds: int) -> Spending:
    """What units spend in a run of so many rounds, all of which they take part in."""
    price, rate = rehearsed(run, tasks, participations), run.privacy.sampling_rate
    whole = over_run(price.first.profiles, price.later.profiles, rounds)
    noise = {**price.first.noise, **price.later.noise}
    return Spending(frozenset(events(profile, noise, rate) for profile in whole))
