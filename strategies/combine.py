"""From the hospitals' updates (hospitals, dim) to one direction (dim,).

Every hospital has the same weight: counts reported by the hospitals themselves would let one of
them outvote the rest. Rows come sorted by hospital, so sums do not depend on the order of arrival.

A rule says with how many updates it means nothing (``unsuited``); such a configuration is refused,
and a round of that size fails. No rule becomes another one where updates are few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil
from typing import Annotated, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.spatial.distance import cdist

from metaward.errors import RunError

Vector = NDArray[np.float32]


class Combine(Protocol):
    """An entry of ``COMBINE``: a frozen dataclass whose fields are its yaml options."""

    def __call__(self, updates: Vector) -> Vector:
        """(hospitals, dim) float32 -> (dim,) float32; ``TooFewError`` where it is ``unsuited``."""
        ...

    def unsuited(self, hospitals: int) -> str | None:
        """What it needs, where its result means nothing for so many updates; None where it does."""
        ...


class TooFewError(RunError):
    """A rule was given so few updates that its result would mean nothing."""


def require(rule: Combine, hospitals: int) -> None:
    """``TooFewError`` where a rule means nothing for so many updates."""
    if why := rule.unsuited(hospitals):
        raise TooFewError(f"{hospitals} updates are too few for {type(rule).__name__}: it {why}")


class OfThree:
    """A rule that needs three updates: of two it cannot tell which one is wrong."""

    def unsuited(self, hospitals: int) -> str | None:
        """Fewer than three."""
        return "needs 3 updates or more" if hospitals < 3 else None


@dataclass(frozen=True)
class Mean:
    """The plain mean."""

    def unsuited(self, hospitals: int) -> str | None:
        """One update is its own mean."""
        return None if hospitals else "needs an update"

    def __call__(self, updates: Vector) -> Vector:
        """Mean over the hospitals, summed in float64."""
        require(self, len(updates))
        return np.asarray(updates.mean(axis=0, dtype=np.float64), np.float32)


@dataclass(frozen=True)
class Median(OfThree):
    """The median of each coordinate (Yin et al. 2018: Byzantine-Robust Distributed Learning)."""

    def __call__(self, updates: Vector) -> Vector:
        """Coordinate-wise median over the hospitals."""
        require(self, len(updates))
        return in_blocks(updates, lambda block: np.median(block, axis=0))


@dataclass(frozen=True)
class TrimmedMean:
    """The mean of each coordinate without its extremes (Yin et al. 2018).

    ``trim`` is the share cut at either end; with n hospitals ceil(trim * n) values are cut at each,
    so a trim above 0 always cuts. It needs n >= 3 and 2 * ceil(trim * n) < n.
    """

    trim: Annotated[float, Field(ge=0, lt=0.5)] = 0.1
    """The share of the hospitals that is cut at either end of each coordinate: ceil(trim * n) of n
    values are cut there."""

    def unsuited(self, hospitals: int) -> str | None:
        """Fewer than three, or no value that would stay."""
        cut = self._cut(hospitals)
        if hospitals < 3 or 2 * cut >= hospitals:
            return f"needs 3 updates or more, and more than 2 x {cut}, cut by trim = {self.trim:g}"
        return None

    def __call__(self, updates: Vector) -> Vector:
        """Coordinate-wise mean of the middle values."""
        require(self, len(updates))
        cut, count = self._cut(len(updates)), len(updates)

        def middle(block: Vector) -> NDArray[Any]:
            kept = np.sort(block, axis=0)[cut : count - cut]
            return np.asarray(kept.mean(axis=0, dtype=np.float64))

        return in_blocks(updates, middle)

    def _cut(self, n: int) -> int:
        return ceil(self.trim * n - 1e-9)  # 0.07 * 100 is 7.000000000000001


@dataclass(frozen=True)
class Krum:
    """The update whose nearest others are nearest (Blanchard, El Mhamdi, Guerraoui, Stainer 2017:
    Machine Learning with Adversaries).

    Of n updates, ``faulty`` = f may be anything. The score of an update is the sum of its squared
    Euclidean distances to the n - f - 2 others nearest to it; the mean of the ``keep`` updates with
    the smallest scores is taken (1: Krum; more: multi-Krum). It needs n >= 2 f + 3, and keep <= n -
    f - 2, for which multi-Krum is proved (El Mhamdi, Guerraoui, Rouault 2018: The Hidden
    Vulnerability of Distributed Learning in Byzantium). Of equal scores the first one counts.
    """

    faulty: Annotated[int, Field(ge=0)] = 1
    """f, how many of a round's updates may be anything; the rule needs 2 f + 3 updates."""
    keep: Annotated[int, Field(ge=1)] = 1
    """How many updates are averaged, those with the smallest scores; 1 is Krum, more is multi-Krum.
    At most n - f - 2 of n."""

    def unsuited(self, hospitals: int) -> str | None:
        """Fewer than 2 f + 3, or fewer than f + 2 beside those that are kept."""
        least = max(2 * self.faulty + 3, self.keep + self.faulty + 2)
        if hospitals < least:
            return f"needs {least} updates or more with faulty = {self.faulty}, keep = {self.keep}"
        return None

    def __call__(self, updates: Vector) -> Vector:
        """The mean of the kept updates, summed in float64."""
        require(self, len(updates))
        others = len(updates) - self.faulty - 2
        scores = [_near(distances, others) for distances in squared_distances(updates)]
        kept = np.sort(np.argsort(np.concatenate(scores), kind="stable")[: self.keep])
        return np.asarray(updates[kept].mean(axis=0, dtype=np.float64), np.float32)


@dataclass(frozen=True)
class GeometricMedian(OfThree):
    """The point with the least sum of Euclidean distances to all updates, by the smoothed Weiszfeld
    algorithm (Pillutla, Kakade, Harchaoui 2022: Robust Aggregation for Federated Learning).

    From the median of each coordinate, each step takes the mean with weights 1 / max(nu, distance),
    in float64. nu is ``smoothing`` times the median distance of the start from the updates, so that
    the result scales with the updates. Steps end after ``iterations``, or when one is shorter than
    ``tolerance`` times that distance.
    """

    smoothing: Annotated[float, Field(gt=0, le=1)] = 1e-6
    """nu, the shortest distance that a weight is computed from, as a share of the median distance
    between the start and the updates."""
    iterations: Annotated[int, Field(ge=1, le=10_000)] = 100
    """The most steps."""
    tolerance: Annotated[float, Field(ge=0, le=1)] = 1e-6
    """A step that is shorter, as a share of the same distance, is the last one."""

    def __call__(self, updates: Vector) -> Vector:
        """The smoothed geometric median."""
        require(self, len(updates))
        here = in_blocks(updates, lambda block: np.median(block, axis=0)).astype(np.float64)
        lengths = _lengths(updates, here)
        scale = float(np.median(lengths))
        for _ in range(self.iterations if scale else 0):  # 0: half of all updates are one point
            weights = 1 / np.maximum(lengths, self.smoothing * scale)
            there = _weighted(updates, weights / weights.sum())
            moved, here = np.linalg.norm(there - here), there
            if moved < self.tolerance * scale:
                break
            lengths = _lengths(updates, here)
        return np.asarray(here, np.float32)


AT_ONCE = 1 << 22
"""The most numbers of which a rule makes a copy at once (32 MB as float64), whatever its input."""


def in_blocks(updates: Vector, rule: Callable[[Vector], NDArray[Any]]) -> Vector:
    """A rule that takes every coordinate by itself, on some coordinates at a time: (n, d) -> (d,).

    10,000 updates are hundreds of megabytes, of which a rule would make one copy and more.
    """
    hospitals, dim = updates.shape
    width = max(1, AT_ONCE // hospitals)
    found = [rule(updates[:, k : k + width]) for k in range(0, dim, width)]
    return np.asarray(np.concatenate(found), np.float32)


def _rows(updates: Vector) -> Iterator[slice]:
    """Some updates at a time."""
    hospitals, dim = updates.shape
    count = max(1, AT_ONCE // dim)
    return (slice(k, k + count) for k in range(0, hospitals, count))


def _lengths(updates: Vector, point: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Euclidean distance of each update (n, d) from a point (d,): (n,)."""
    found = [np.linalg.norm(updates[rows] - point, axis=1) for rows in _rows(updates)]
    return np.concatenate(found)


def _weighted(updates: Vector, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weighted sum of the updates, in float64: (n, d) and (n,) -> (d,)."""
    parts = (weights[rows] @ updates[rows].astype(np.float64) for rows in _rows(updates))
    return np.asarray(sum(parts))


EXACT = 1 << 31
"""Up to so many differences of two numbers all of them are taken: about a second's work."""
CLOSE = 1e-6
"""Pairs whose squared distance is a smaller share of |a|^2 + |b|^2 are taken from differences."""


def squared_distances(updates: Vector) -> Iterator[NDArray[np.float64]]:
    """The rows of the matrix of squared Euclidean distances (n, n), some (k, n) at a time.

    In float64. Of many updates (n^2 d > ``EXACT``) it is |a|^2 + |b|^2 - 2ab around their mean,
    thirty times as fast as differences, but for those pairs in which these terms would cancel.
    Neither the matrix nor a float64 copy of all updates is ever in memory.
    """
    hospitals, dim = updates.shape
    if hospitals**2 * dim <= EXACT:
        points = updates.astype(np.float64)
        yield cdist(points, points, "sqeuclidean")
        return
    centre = updates.mean(axis=0, dtype=np.float64)
    for rows in _rows(updates):
        mine = updates[rows] - centre
        parts = [_around(mine, updates[others] - centre) for others in _rows(updates)]
        yield np.concatenate(parts, axis=1)


def _around(mine: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    sizes = np.square(mine).sum(axis=1)[:, None] + np.square(others).sum(axis=1)
    found = sizes - 2 * (mine @ others.T)
    close = found < CLOSE * sizes
    for row in np.flatnonzero(close.any(axis=1)):
        near = others[close[row]]
        found[row, close[row]] = cdist(mine[row : row + 1], near, "sqeuclidean")[0]
    return np.asarray(found)


def _near(distances: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """For each row (k, n) the sum of its smallest distances but the very smallest: to itself."""
    return np.asarray(np.sort(distances, axis=1)[:, 1 : count + 1].sum(axis=1))
