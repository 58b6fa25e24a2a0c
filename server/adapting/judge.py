"""Judging an adaptation at a new hospital: many splits of its own records, and what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaward.client.scores.classes import Reliability, confusion, reliability
from metaward.client.tasks.kinds import Score
from metaward.client.work import one_thread
from metaward.server.adapting.records import Labelled
from metaward.server.adapting.splits import PatientSplit
from metaward.server.adapting.ways import Rival

MIDDLE = (2.5, 97.5)
"""Percentiles of the splits' scores between which 95 % of them lie."""


@dataclass(frozen=True)
class Spread:
    """The mean of a number over the splits, and the range of the middle 95 % of them."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Row:
    """A way's scores: score name -> ``Spread``; ``gap``: how much better the first way is in the
    same splits, in the score's own direction (None for the first way)."""

    name: str
    scores: dict[str, Spread]
    gap: dict[str, Spread] | None


@dataclass(frozen=True, eq=False)
class SideBySide:
    """``rows``, the adapted learner first; and of its predictions, pooled over the splits, their
    ``reliability`` and ``confusion`` (N, N). ``support`` and ``judges`` are how many records each
    side has in the mean."""

    rows: tuple[Row, ...]
    reliability: Reliability
    confusion: NDArray[np.int64]
    support: float
    judges: float


def judge(
    held: Labelled, splits: Sequence[PatientSplit], ways: Sequence[Rival], scores: Sequence[Score]
) -> SideBySide:
    """Every way on the same splits; the first one in more detail."""
    y = torch.from_numpy(held.y)
    values, outputs = _all(splits, ways, scores, y)
    rows = tuple(_row(way, values[k], values[0], scores, k) for k, way in enumerate(ways))
    pooled, labels = torch.cat(outputs), torch.cat([y[one.judges] for one in splits])
    return SideBySide(
        rows,
        reliability(pooled, labels),
        confusion(pooled, labels),
        float(np.mean([len(one.support) for one in splits])),
        float(np.mean([len(one.judges) for one in splits])),
    )


def _all(
    splits: Sequence[PatientSplit], ways: Sequence[Rival], scores: Sequence[Score], y: Tensor
) -> tuple[NDArray[np.float64], list[Tensor]]:
    """Values (ways, scores, splits), and the first way's outputs in each split."""
    values, first = np.empty((len(ways), len(scores), len(splits))), []
    with one_thread():
        for at, one in enumerate(splits):
            for k, way in enumerate(ways):
                outputs = way.outputs(one.support, one.judges)
                values[k, :, at] = [s.measure(outputs, y[one.judges]) for s in scores]
                first += [outputs] if k == 0 else []
    return values, first


def _row(
    way: Rival,
    values: NDArray[np.float64],
    first: NDArray[np.float64],
    scores: Sequence[Score],
    place: int,
) -> Row:
    signs = [1 if score.higher_is_better else -1 for score in scores]
    ahead = {
        score.name: spread(sign * (mine - its))
        for score, sign, mine, its in zip(scores, signs, first, values, strict=True)
    }
    own = {score.name: spread(its) for score, its in zip(scores, values, strict=True)}
    return Row(way.name, own, ahead if place else None)


def spread(values: NDArray[np.float64]) -> Spread:
    """The mean of these values and the range of most of them."""
    low, high = np.percentile(values, MIDDLE)
    return Spread(float(values.mean()), float(low), float(high))
