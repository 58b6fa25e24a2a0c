"""A hospital whose records have been through a network's fixed front, each of them once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from metaward.client.inner import Setting
from metaward.client.tasks.base import FloatArray, Hospital, IntArray

AT_ONCE = 1024
"""Records that are rendered at a time, so that all of a hospital's never lie in memory together."""


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
    own = hospital.rows
    parts = np.array_split(own, max(1, -(-len(own) // AT_ONCE)))
    values = np.concatenate([setting.prepare(hospital.view(hospital.x[p])) for p in parts])
    place = np.full(len(hospital.ids), -1, np.int64)
    place[own] = np.arange(len(own))
    return replace(hospital, x=cast("NDArray[Any]", ByRow(values, place)), view=_as_it_is)


def _as_it_is(x: NDArray[Any]) -> FloatArray:
    return np.asarray(x, np.float32)
