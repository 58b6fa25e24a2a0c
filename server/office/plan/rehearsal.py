"""A round at one hospital, rehearsed on blank tasks: which sums there are, and how noisy each is.

The code that prices the real requests (``client.charging.plan``) prices these, and no record is
touched. The price depends on how many tasks of the declared shape there are, not on their content.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from metaward.client.charging import Plan, plan
from metaward.client.inner import Setting
from metaward.client.schedule import Share
from metaward.client.tasks.made_up import blank_tasks
from metaward.privacy.price import events
from metaward.server.office.accounts.spending import Spending
from metaward.sim import Sim


@lru_cache(maxsize=64)
def rehearsed(run: Sim, tasks: int, participations: int) -> Plan:
    """A round of so many tasks, with noise for units that take part so often."""
    learner, source = run.client.inner, run.client.tasks
    setting = Setting(run.client.model, source.spec())
    blank = blank_tasks(source.spec(), source.task_size(), tasks)
    theta = learner.initial(setting, run.seed)
    rng = np.random.default_rng(run.seed)  # which records share a mini-batch costs the same
    return plan(run.privacy, learner, setting, theta, Share(blank, participations), rng)


def spending(run: Sim, tasks: int, participations: int, rounds: int) -> Spending:
    """What units spend in such a round that comes ``rounds`` times."""
    price, rate = rehearsed(run, tasks, participations), run.privacy.sampling_rate
    once = (events(profile, price.noise, rate) for profile in price.profiles)
    return Spending(frozenset(unit * rounds for unit in once))
