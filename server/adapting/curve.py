"""How the adapted learner's score grows with the records of each class that it adapts to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from metaward.client.tasks.kinds import Score
from metaward.client.work import one_thread
from metaward.errors import InputError
from metaward.server.adapting.judge import Spread, spread
from metaward.server.adapting.records import Labelled
from metaward.server.adapting.splits import PatientSplit, split
from metaward.server.adapting.ways import Rival

SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
MOST_DRAWS = 10
"""Splits of each size: a curve takes as many adaptations as it has points."""
LINES = 3
"""How many ways have a curve: the first ones."""


@dataclass(frozen=True)
class Curve:
    """A way's score over ``shots`` records of each class, a ``Spread`` over splits at each."""

    name: str
    shots: tuple[int, ...]
    spreads: tuple[Spread, ...]


def curves(
    held: Labelled, ways: Sequence[Rival], score: Score, draws: int, seed: int
) -> tuple[Curve, ...]:
    """A curve of each of the first ways, over the sizes that leave records of each class to judge
    by; empty where one size alone does."""
    sizes = dict(_splits(held, min(draws, MOST_DRAWS), seed))
    if len(sizes) < 2:
        return ()
    with one_thread():
        return tuple(
            Curve(way.name, tuple(sizes), tuple(_at(held, way, score, s) for s in sizes.values()))
            for way in ways[:LINES]
        )


def _splits(held: Labelled, draws: int, seed: int) -> Iterator[tuple[int, list[PatientSplit]]]:
    """Shots, and splits with so many; the first size that cannot be split ends them."""
    for shots in SIZES:
        try:
            rngs = [np.random.default_rng([seed, shots, k]) for k in range(draws)]
            yield shots, [split(held, shots, rng) for rng in rngs]
        except InputError:
            return


def _at(held: Labelled, way: Rival, score: Score, splits: Sequence[PatientSplit]) -> Spread:
    y = torch.from_numpy(held.y)
    found = [score.measure(way.outputs(s.support, s.judges), y[s.judges]) for s in splits]
    return spread(np.array(found))
