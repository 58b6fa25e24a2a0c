"""From the hospitals' updates (hospitals, dim) to one direction (dim,).

Every hospital has the same weight: counts reported by the hospitals themselves would let one of
them outvote the rest. Rows come sorted by hospital, so sums do not depend on the order of arrival.

A rule says with how many updates it means nothing (``unsuited``); such a configuration is refused,
and a round of that size fails. No rule becomes another one where updates are few.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Annotated, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

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
        return np.asarray(np.median(updates, axis=0), np.float32)


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
        cut = self._cut(len(updates))
        middle = np.sort(updates, axis=0)[cut : len(updates) - cut]
        return np.asarray(middle.mean(axis=0, dtype=np.float64), np.float32)

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
        nearest = np.sort(_squared_distances(updates), axis=1)[:, 1 : others + 1]  # 0: to itself
        kept = np.sort(np.argsort(nearest.sum(axis=1), kind="stable")[: self.keep])
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
        points = updates.astype(np.float64)
        here = np.median(points, axis=0)
        scale = float(np.median(_lengths(points - here)))
        for _ in range(self.iterations if scale else 0):  # 0: half of all updates are one point
            weights = 1 / np.maximum(_lengths(points - here), self.smoothing * scale)
            there = weights / weights.sum() @ points
            moved, here = np.linalg.norm(there - here), there
            if moved < self.tolerance * scale:
                break
        return np.asarray(here, np.float32)


def _lengths(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(vectors, axis=1))


def _squared_distances(updates: Vector) -> NDArray[np.float64]:
    """(n, n) float64, from differences: the norms of near updates cancel in |a|^2 + |b|^2 - 2ab."""
    points = updates.astype(np.float64)
    return np.stack([np.square(points - point).sum(axis=1) for point in points])
