"""From the hospitals' updates (hospitals, dim) to one direction (dim,).

Every hospital has the same weight: counts reported by the hospitals themselves would let one of
them outvote the rest. Rows come sorted by hospital, so sums do not depend on the order of arrival.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Annotated, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

Vector = NDArray[np.float32]


class Combine(Protocol):
    """An entry of ``COMBINE``: a frozen dataclass whose fields are its yaml options."""

    def __call__(self, updates: Vector) -> Vector:
        """(hospitals, dim) float32 -> (dim,) float32."""
        ...


@dataclass(frozen=True)
class Mean:
    """The plain mean."""

    def __call__(self, updates: Vector) -> Vector:
        """Mean over the hospitals, summed in float64."""
        return np.asarray(updates.mean(axis=0, dtype=np.float64), np.float32)


@dataclass(frozen=True)
class Median:
    """The median of each coordinate (Yin et al. 2018: Byzantine-Robust Distributed Learning)."""

    def __call__(self, updates: Vector) -> Vector:
        """Coordinate-wise median over the hospitals."""
        return np.asarray(np.median(updates, axis=0), np.float32)


@dataclass(frozen=True)
class TrimmedMean:
    """The mean of each coordinate without its extremes (Yin et al. 2018).

    ``trim`` is the share cut at either end; with n hospitals ceil(trim * n) values are cut at each
    (so a trim above 0 always cuts where n is 3 or more), but at least one value stays.
    """

    trim: Annotated[float, Field(ge=0, lt=0.5)] = 0.1
    """The share of the hospitals that is cut at either end of each coordinate: ceil(trim * n) of n
    values are cut there, but at least one stays."""

    def __call__(self, updates: Vector) -> Vector:
        """Coordinate-wise mean of the middle values."""
        n = len(updates)
        cut = min(ceil(self.trim * n - 1e-9), (n - 1) // 2)  # 0.07 * 100 is 7.000000000000001
        middle = np.sort(updates, axis=0)[cut : len(updates) - cut]
        return np.asarray(middle.mean(axis=0, dtype=np.float64), np.float32)
