"""A hospital whose records have been through a network's fixed front, each of them once.

A process keeps what it computed while the records are the same, since they are opened for every
request.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from threading import RLock
from typing import Any, cast

import numpy as np
from cachetools import LRUCache, cached
from numpy.typing import NDArray

from metaward.client.inner import Setting
from metaward.client.tasks.base import FloatArray, Hospital, IntArray

AT_ONCE = 1024
"""Records that are rendered at a time, so that all of a hospital's never lie in memory together."""
MOST = 1 << 30
"""Bytes of prepared records that a process keeps for its next requests."""


@dataclass(frozen=True, eq=False)
class ByRow:
    """Values (m, ...) of a hospital's own rows, looked up by the number of a row."""

    values: FloatArray
    place: IntArray

    def __getitem__(self, rows: Any) -> FloatArray:
        """The values of these rows (k, ...)."""
        found: FloatArray = self.values[self.place[rows]]
        return found


def prepared(hospital: Hospital, setting: Setting) -> Hospital:
    """The same hospital, whose ``x`` is what the network's body takes; it is computed here.

    A network without a front has nothing to prepare: it gets the hospital as it is.
    """
    if setting.front is None:
        return hospital
    return _with(hospital, _computed(hospital, setting))


def _with(hospital: Hospital, values: ByRow) -> Hospital:
    return replace(hospital, x=cast("NDArray[Any]", values), view=_as_it_is)


def _computed(hospital: Hospital, setting: Setting) -> ByRow:
    own = hospital.rows
    parts = np.array_split(own, max(1, -(-len(own) // AT_ONCE)))
    values = np.concatenate([setting.prepare(hospital.view(hospital.x[p])) for p in parts])
    place = np.full(len(hospital.ids), -1, np.int64)
    place[own] = np.arange(len(own))
    return ByRow(values, place)


def _as_it_is(x: NDArray[Any]) -> FloatArray:
    return np.asarray(x, np.float32)


@dataclass(frozen=True, eq=False)
class SameRecords:
    """A hospital as the key of a cache: equal to another one that holds the same records."""

    hospital: Hospital

    def __hash__(self) -> int:
        return hash(self.hospital.seat)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SameRecords) and _alike(self.hospital, other.hospital)


def _alike(one: Hospital, other: Hospital) -> bool:
    """Whether all arrays are equal; a source that keeps what it read gives the same ones."""
    pairs = zip(_arrays(one), _arrays(other), strict=True)
    same = all(a is b or np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)
    return same and one.seat == other.seat


def _arrays(one: Hospital) -> tuple[NDArray[Any] | None, ...]:
    stored = one.stored or (None, None)
    return (one.x, one.y, one.rows, one.ids, one.patients, one.groups, *stored)


def prepare(hospital: Hospital, setting: Setting) -> Hospital:
    """The hospital with prepared records, which the process keeps for its next requests.

    The values alone are kept: how tasks are drawn from them is this request's own.
    """
    if setting.front is None:
        return hospital
    return _with(hospital, _kept(SameRecords(hospital), setting))


@cached(LRUCache(MOST, getsizeof=lambda kept: kept.values.nbytes), lock=RLock())
def _kept(opened: SameRecords, setting: Setting) -> ByRow:
    return _computed(opened.hospital, setting)
