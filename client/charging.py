"""The price of a request, known before a record is touched, and whom it is charged to."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metaward.client.inner import Algorithm, FirstRound, Kept, Setting
from metaward.client.schedule import Share
from metaward.client.tasks.base import Hospital
from metaward.privacy import Charge, Mechanism, Rehearsal, Use
from metaward.privacy.description import ChargeDescription, described
from metaward.privacy.event import different
from metaward.privacy.price import Counts, counts, events, over_run, profiles


@dataclass(frozen=True)
class Plan:
    """Every sum a request will take over records, what a unit may be in, and what is charged."""

    uses: Sequence[Use]
    profiles: Sequence[Counts]
    description: ChargeDescription

    @property
    def noise(self) -> Mapping[str, float]:
        """The noise multiplier of each kind of sum."""
        return self.description.noise


def plan(
    mechanism: Mechanism,
    algorithm: Algorithm,
    setting: Setting,
    theta: Tensor,
    share: Share,
    rng: np.random.Generator,
    first: FirstRound | None = None,
    opening: bool = False,
) -> Plan:
    """The sums of a hospital in a round, found by a rehearsal, and their noise multipliers.

    ``first`` works in the first round of the run in the place of ``algorithm``; ``opening`` says
    whether this is that round. All rounds share one budget, so the first round and a later one are
    rehearsed as well.
    """
    tasks = [np.concatenate([e.support_rows, e.query_rows]).tolist() for e in share.episodes]

    def rehearsed(worker: Algorithm | FirstRound, kept: Kept) -> tuple[list[Use], Kept]:
        session, keep = Rehearsal(mechanism.trained), dict[str, Tensor]()

        def rehearse() -> list[Use]:
            own = setting.recalling(kept)
            keep.update(worker.update(own, theta, share.episodes, session, deepcopy(rng)).keep)
            return session.uses

        return mechanism.uses(rehearse, tasks), keep

    beginning, kept = rehearsed(first or algorithm, {})
    later = rehearsed(algorithm, kept)[0] if first or algorithm.remembers else beginning
    now = rehearsed(first if first and opening else algorithm, setting.kept)[0]
    of_a_round = partial(profiles, mechanism.unit, tasks=tasks)
    run = over_run(of_a_round(beginning), of_a_round(later), share.participations)
    return planned(mechanism, now, of_a_round(now), run, len(tasks), share.participations)


def planned(
    mechanism: Mechanism,
    uses: Sequence[Use],
    within: Sequence[Counts],
    run: Sequence[Counts],
    tasks: int,
    participations: int,
) -> Plan:
    """The plan of a round's ``uses``, with noise for what a unit may be in within the ``run``."""
    noise = mechanism.noise_multipliers(run)
    description = described(mechanism, uses, within, noise, tasks, participations)
    return Plan(uses, within, description)


def charges(mechanism: Mechanism, price: Plan, hospital: Hospital) -> list[Charge]:
    """What each identity pays; identities are each record's owner, and each record's content.

    A record is known by both, so that neither a new name nor a corrected value gives it a new
    budget. Where several records share a content, it pays what the costliest of them pays.
    """
    unit = mechanism.unit
    keys = [f"{unit.key}:{owner}" for owner in unit.owners(hospital)]
    spent = dict(counts(price.uses, keys.__getitem__))
    if unit.every_round:  # the hospital pays every round, whichever of its records it used
        spent[f"{unit.name}:{hospital.seat.name}"] = Counter(use.kind for use in price.uses)
    rows = sorted({row for use in price.uses for row in use.rows})
    for row, content in zip(rows, contents(hospital, rows), strict=True):
        mine, before = spent[keys[row]], spent.get(content)
        spent[content] = mine if before is None else before | mine  # the larger count of each kind
    return _grouped(spent, price, mechanism.sampling_rate)


def contents(hospital: Hospital, rows: Sequence[int]) -> list[str]:
    """``content:<sha256>`` of each row as it is stored: no request chooses what is hashed."""
    found = (hashlib.sha256(_bytes(hospital.as_stored(row))).hexdigest() for row in rows)
    return [f"content:{digest}" for digest in found]


def _bytes(x: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(x).tobytes()


def _grouped(spent: Mapping[str, Counts], price: Plan, sampling_rate: float) -> list[Charge]:
    """One charge for each different list of events."""
    sums = {id(count): tuple(sorted(count.items())) for count in different(spent.values())}
    alike: dict[tuple[tuple[str, int], ...], list[str]] = {}
    for key, count in spent.items():
        alike.setdefault(sums[id(count)], []).append(key)
    return [
        Charge(tuple(keys), events(Counter(dict(count)), price.noise, sampling_rate))
        for count, keys in alike.items()
    ]
