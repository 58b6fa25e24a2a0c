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
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from metaward.client.errors import DataError
from metaward.client.tasks.base import Episode, Hospital, IntArray
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


def pass_share(dealt: Dealt, first: int, tasks: int, rounds: int, round: int) -> Share:
    """The tasks of ``round`` (from 1): at most ``tasks`` of this pass.

    ``dealt(number)`` deals for pass ``number``. How many rounds a pass takes is set by the first
    deal, which has ``first`` tasks, so that participations are known before any round; where a
    later deal has too few tasks for these rounds, the first deal is used again instead.
    """
    length = ceil(first / tasks)
    number, place = divmod(round - 1, length)
    this = dealt(number)
    this = (this if len(this) >= length else dealt(0))[: length * tasks]
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
    own = hospital.rows
    records, owners = (_numbered(keys, own) for keys in (hospital.ids, unit.owners(hospital)))
    gone = partial(_gone, records, owners, unit.cap)
    alone = unit.cap is None and len(np.unique(records[own])) == len(own)
    return max(
        (_deal_once(hospital, None if alone else gone(), rng) for _ in range(TRIES)), key=len
    )


def _numbered(keys: NDArray[Any], own: IntArray) -> IntArray:
    """Numbers from 0 for the hospital's own rows, equal where their keys are; 0 for other rows.

    They are found faster than the texts that keys are.
    """
    numbers = np.zeros(len(keys), np.int64)
    numbers[own] = np.unique(keys[own], return_inverse=True)[1]
    return numbers


Gone = Callable[[IntArray], IntArray]
"""The rows of a task that was dealt -> all rows that no later task may have."""


def _gone(records: IntArray, owners: IntArray, cap: int | None) -> Gone:
    """The rule of one deal: no record twice, and no owner in more than ``cap`` tasks.

    ``records`` and ``owners`` (n,) number the record and the owner of each row.
    """
    dealt, seen = (np.zeros(len(keys), np.int64) for keys in (records, owners))

    def gone(used: IntArray) -> IntArray:
        dealt[records[used]] = 1
        seen[np.unique(owners[used])] += 1
        over = dealt[records] == 1
        return np.flatnonzero(over if cap is None else over | (seen[owners] >= cap))

    return gone


def _deal_once(
    hospital: Hospital, gone: Gone | None, rng: np.random.Generator
) -> tuple[Episode, ...]:
    """Tasks until the records that are left make no further one; without ``gone`` only the rows of
    a task itself are gone."""
    left, tasks = hospital, list[Episode]()
    while True:
        try:
            task = left.episode(rng)
        except DataError:
            if not tasks:
                raise
            return tuple(tasks)
        tasks.append(task)
        used = np.concatenate([task.support_rows, task.query_rows])
        left = left.without(used if gone is None else gone(used))
