"""Which of its records a hospital works on in a round.

``random`` draws new tasks every round, and records return by chance. ``passes`` goes through all
records before any is used again: at the start of a pass they are dealt into disjoint tasks (by
their declared labels and numbers, never by their content), and each round takes the next of these.
Disjoint tasks compose in parallel, so a record pays once per pass; a hospital with many records
needs more rounds for one pass and pays less often.

Every pass is dealt afresh, but for one case: where a unit is a whole task, the first deal serves
all passes. A unit is what is nulled as one, and a task of the first deal has its records in several
tasks of another.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import ceil
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from metaward.client.errors import DataError
from metaward.client.tasks.base import Episode, Hospital
from metaward.options import compact
from metaward.privacy import Unit

Order = Literal["random", "passes"]
Dealt = Callable[[int], tuple[Episode, ...]]
TRIES = 4


@dataclass(frozen=True)
class Share:
    """A hospital's tasks in one round, and in how many rounds of the run a record is used."""

    episodes: tuple[Episode, ...]
    participations: int


def random_share(hospital: Hospital, tasks: int, rounds: int, rng: np.random.Generator) -> Share:
    """``tasks`` tasks drawn at random; any record can be used in every round."""
    return Share(tuple(hospital.episode(rng) for _ in range(tasks)), rounds)


def pass_share(dealt: Dealt, tasks: int, rounds: int, round: int) -> Share:
    """The tasks of ``round`` (from 1): at most ``tasks`` of this pass.

    ``dealt(number)`` deals for pass ``number``. How many rounds a pass takes is set by the first
    deal, so that participations are known before any round; where a later deal has too few tasks
    for these rounds, the first deal is used again instead.
    """
    length = ceil(len(dealt(0)) / tasks)
    number, place = divmod(round - 1, length)
    this = next(d for d in (dealt(number), dealt(0)) if len(d) >= length)[: length * tasks]
    cut = np.array_split(np.arange(len(this)), length)[place]
    return Share(tuple(this[i] for i in cut), ceil(rounds / length))


def name_of(tasks: Iterable[Episode], hospital: Hospital) -> str:
    """SHA-256 in hex of the sets of records that these tasks are, whatever their order."""
    rows = (np.concatenate([task.support_rows, task.query_rows]) for task in tasks)
    sets = sorted(np.unique(hospital.ids[own].astype(str)).tolist() for own in rows)
    return hashlib.sha256(compact(sets).encode()).hexdigest()


def deal(hospital: Hospital, unit: Unit, rng: np.random.Generator) -> tuple[Episode, ...]:
    """The hospital's records as disjoint tasks: the deal with most tasks of ``TRIES`` random ones.

    The records of one owner are in at most as many tasks as ``unit.cap``. ``DataError`` where
    not even one task can be formed.
    """
    owners = unit.owners(hospital).astype(str)
    return max((_deal_once(hospital, owners, unit.cap, rng) for _ in range(TRIES)), key=len)


def _deal_once(
    hospital: Hospital, owners: NDArray[np.str_], cap: int | None, rng: np.random.Generator
) -> tuple[Episode, ...]:
    """Tasks until the records that are left make no further one."""
    left, tasks, seen = hospital.rows, list[Episode](), Counter[str]()
    while True:
        try:
            task = replace(hospital, rows=left).episode(rng)
        except DataError:
            if not tasks:
                raise
            return tuple(tasks)
        tasks.append(task)
        used = np.concatenate([task.support_rows, task.query_rows])
        left = left[~np.isin(hospital.ids[left], hospital.ids[used])]
        seen.update(np.unique(owners[used]).tolist())
        if cap is not None:
            full = [owner for owner, count in seen.items() if count >= cap]
            left = left[~np.isin(owners[left], full)]
