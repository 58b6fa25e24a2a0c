"""A round at one hospital, rehearsed on blank tasks: which sums there are, and how noisy each is.

The code that prices the real requests (``client.charging.plan``) prices these, and no record is
touched. The price depends on how many tasks of the declared shape there are, not on their content.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from metaward.client.charging import Plan, plan
from metaward.client.inner import Setting
from metaward.client.schedule import Share
from metaward.client.tasks.made_up import blank_tasks
from metaward.privacy.mechanisms.base import Protected
from metaward.privacy.price import Counts, events
from metaward.server.office.accounts.spending import Spending
from metaward.sim import Sim


@dataclass(frozen=True)
class Summed:
    """The sums of one ``kind`` in a round.

    A hospital takes ``sums`` of them, which add up ``vectors`` clipped ones; a unit is in ``each``
    of them in one participation. ``sigma`` is the noise multiplier, ``clip`` the norm C.
    """

    kind: str
    sums: int
    vectors: int
    each: int
    clip: float
    sigma: float


@dataclass(frozen=True)
class RehearsedRound:
    """The sums of a round in the order of first use, their ``noise``, and what units are in."""

    sums: tuple[Summed, ...]
    profiles: tuple[Counts, ...]
    noise: Mapping[str, float]
    sampling_rate: float

    def spending(self, rounds: int) -> Spending:
        """What units spend that take part in so many rounds."""
        once = (events(profile, self.noise, self.sampling_rate) for profile in self.profiles)
        times = (tuple(replace(e, count=e.count * rounds) for e in unit) for unit in once)
        return Spending(frozenset(times))


@lru_cache(maxsize=64)
def rehearsed(run: Sim, tasks: int, participations: int) -> RehearsedRound:
    """A round of so many tasks, with noise for units that take part so often. ``run`` protects."""
    mechanism, learner, source = run.privacy, run.client.inner, run.client.tasks
    assert isinstance(mechanism, Protected)
    setting = Setting(run.client.model, source.spec())
    blank = blank_tasks(source.spec(), source.task_size(), tasks)
    theta = learner.initial(setting, run.seed)
    rng = np.random.default_rng(run.seed)  # which records share a mini-batch costs the same
    price = plan(mechanism, learner, setting, theta, Share(blank, participations), rng)
    rows = [np.concatenate([task.support_rows, task.query_rows]).tolist() for task in blank]
    profiles = tuple(mechanism.profiles(price.uses, rows))
    kinds = dict.fromkeys(use.kind for use in price.uses)
    sums = tuple(_summed(kind, mechanism, price, profiles) for kind in kinds)
    return RehearsedRound(sums, profiles, price.noise, mechanism.sampling_rate)


def _summed(kind: str, mechanism: Protected, price: Plan, profiles: tuple[Counts, ...]) -> Summed:
    rows = [len(use.rows) for use in price.uses if use.kind == kind]
    # a whole unit gives one vector for each use, and all of them are one sum
    sums, vectors = (1, len(rows)) if mechanism.unit.whole else (len(rows), sum(rows))
    each = max(profile[kind] for profile in profiles)
    return Summed(kind, sums, vectors, each, mechanism.clip_of(kind), price.noise[kind])
