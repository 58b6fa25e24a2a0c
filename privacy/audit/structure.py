"""Checks of the mechanism's parts: what a bound on mu alone cannot see.

Noise that repeats itself every step leaves the bound below the claim, although whoever subtracts
two steps has none left; a layer without noise is lost in the average over all canaries.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray

from metaward.privacy.audit.bounds import correlation, deviation_band, gaussian_p
from metaward.privacy.audit.canaries import Canaries, ObservedSum
from metaward.privacy.audit.play import Stage
from metaward.privacy.audit.verdict import Between, Correlation, LayerNoise
from metaward.privacy.session import Kind

Layers = Sequence[tuple[str, int]]
"""Names and sizes of the trained layers, in theta's order."""

Noised = Sequence[ObservedSum]
"""Sums of which only the noise is left, over the clip norm."""

Pair = tuple[NDArray[np.float64], NDArray[np.float64]]

SHORT = 8  # fewer coordinates say nothing about a correlation
MOST = 40  # sums that are compared with each other
VALUES = 100_000  # enough for Kolmogorov and Smirnov


def split(kind: str, d: int, layers: Layers) -> list[tuple[str, slice]]:
    """Where the layers lie in a sum of d coordinates; one piece where it holds no theta.

    A sum may end before the head, or go on with the heads of other tasks.
    """
    found, at = [], 0
    for name, size in layers:
        if at < d and size:
            found.append((name, slice(at, at + size)))
            at += size
    if kind == "features" or at > d:
        return [(f"({kind})", slice(0, d))]
    return [*found, ("other tasks' heads", slice(at, d))] if at < d else found


def _by_layer(noised: Noised, layers: Layers) -> Iterator[tuple[str, str, NDArray[np.float64]]]:
    """(kind, layer, noise) of each layer in each sum."""
    for seen in noised:
        for name, place in split(seen.kind, len(seen.values), layers):
            yield seen.kind, name, seen.values[place]


def layer_noise(
    noised: Noised, layers: Layers, multipliers: Mapping[str, float], level: float
) -> tuple[LayerNoise, ...]:
    """The noise of every layer in every kind of sum, over what is claimed."""
    found: dict[tuple[str, str], list[NDArray[np.float64]]] = {}
    for kind, name, noise in _by_layer(noised, layers):
        found.setdefault((kind, name), []).append(noise / multipliers[kind])
    share = level / max(len(found), 1)
    return tuple(
        LayerNoise(kind, name, *deviation_band(np.concatenate(values), share))
        for (kind, name), values in found.items()
    )


def correlations(
    noised: Noised, layers: Layers, tasks: Sequence[Sequence[int]]
) -> tuple[Correlation, ...]:
    """The noise of sums against each other's, and of layers against each other's."""
    few = [noised[i] for i in np.unique(np.linspace(0, len(noised) - 1, MOST).astype(int))]
    close = noised[: MOST // 2]  # neighbours in time, where a repeated seed shows
    groups: dict[Between, list[Pair]] = {"rounds": [], "steps": [], "tasks": []}
    for one, other in [*combinations(few, 2), *combinations(close, 2)]:
        groups[_between(one, other, tasks)].append((one.values, other.values))
    found = [_largest(between, pairs) for between, pairs in groups.items()]
    found.append(_largest("layers", _layer_pairs(noised, layers)))
    return tuple(one for one in found if one.pairs)


def _between(a: ObservedSum, b: ObservedSum, tasks: Sequence[Sequence[int]]) -> Between:
    if a.round != b.round:
        return "rounds"
    return "steps" if _task(a, tasks) == _task(b, tasks) else "tasks"


def _task(seen: ObservedSum, tasks: Sequence[Sequence[int]]) -> int:
    """The first task that shares a record with the sum."""
    return next((i for i, rows in enumerate(tasks) if seen.real & set(rows)), -1)


def _layer_pairs(noised: Noised, layers: Layers) -> Iterator[Pair]:
    """For each kind and each two layers: their noise in all sums, as far as the shorter goes."""
    sizes = {seen.kind: len(seen.values) for seen in noised}
    for kind, d in sizes.items():
        alike = [s.values for s in noised if (s.kind, len(s.values)) == (kind, d)]
        rows = np.stack(alike[:MOST])
        for (_, a), (_, b) in combinations(split(kind, d, layers), 2):
            short = min(a.stop - a.start, b.stop - b.start)
            one, other = (rows[:, s.start : s.start + short].ravel() for s in (a, b))
            yield one, other


def _largest(between: Between, pairs: Iterable[Pair]) -> Correlation:
    """The least likely correlation of the pairs; its p counts all of them (Bonferroni)."""
    found = []
    for a, b in pairs:
        short = min(len(a), len(b))
        if short >= SHORT:
            r, p = correlation(a[:short], b[:short])
            found.append((p, -abs(r), r))
    p, _, r = min(found, default=(1.0, 0.0, 0.0))
    return Correlation(between, len(found), r, min(1.0, p * len(found)))


def shape(
    noised: Noised, layers: Layers, found: Sequence[LayerNoise], multipliers: Mapping[str, float]
) -> float:
    """How likely noise that is Gaussian looks so little like it.

    Each layer is scaled by its own measured deviation: a wrong scale is told by that one. Layers
    without noise, where only rounding is left, are left out.
    """
    spread = {(one.kind, one.layer): one.ratio * multipliers[one.kind] for one in found}
    values = [
        noise / spread[kind, name]
        for kind, name, noise in _by_layer(noised, layers)
        if spread[kind, name] > 1e-3 * multipliers[kind]
    ]
    return gaussian_p(np.concatenate([np.zeros(0), *values])[:VALUES])


def effects(stage: Stage, canaries: Canaries) -> dict[Kind, float]:
    """How far a canary moves a sum of each kind at most, over the clip norm, without noise."""
    canaries = replace(canaries, beside=None)  # in every sum, so that every kind is seen
    found: dict[Kind, float] = {}
    for seen in stage.round(0, canaries, None):
        moved = np.abs(seen.values[canaries.places(len(seen.values))][canaries.inside]).max()
        found[seen.kind] = max(found.get(seen.kind, 0.0), float(moved))
    return found


def extremes(stage: Stage, kinds: Iterable[Kind], d: int = 8) -> dict[Kind, float]:
    """Norm, over the clip norm, of the sum of four units: of NaN, of infinities, of 1e30, and zero.

    1 is right: what is not finite counts as zero, and 1e30 is clipped. NaN where it got through;
    infinity where the mechanism stopped at it, so that one record keeps a hospital from answering.
    """
    vectors = torch.zeros(4, d)
    vectors[0], vectors[1, 0], vectors[2, 0] = torch.nan, torch.inf, 1e30
    found = dict.fromkeys(kinds, math.inf)
    for kind in found:
        with suppress(ValueError):
            norm = float(stage.sum_of(vectors, kind).double().norm())
            found[kind] = norm / stage.mechanism.clip_of(kind)
    return found
