"""How the records of one data set are dealt to several hospitals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metaward.client.tasks.base import IntArray


def deal_evenly(
    by_class: Sequence[IntArray], shares: int, rng: np.random.Generator
) -> tuple[IntArray, ...]:
    """Equal parts of every class, at random, each part sorted."""
    mixed = [rng.permutation(own) for own in by_class]
    return tuple(np.sort(np.concatenate([own[k::shares] for own in mixed])) for k in range(shares))


def deal_skewed(
    by_class: Sequence[IntArray],
    shares: int,
    ways: int,
    need: int,
    concentration: float,
    rng: np.random.Generator,
) -> tuple[IntArray, ...]:
    """Dirichlet shares of every class, after ``need`` records of ``ways`` classes for each share.

    Hsu, Qi and Brown (2019, "Measuring the effects of non-identical data distribution for
    federated visual classification") skew the mix of clients by a Dirichlet law; the first
    records make sure that each hospital can fill a task. Only classes with ``need`` records for
    every share are given out first. Returns the sorted rows of each share.
    """
    plenty = [c for c, own in enumerate(by_class) if len(own) >= need * shares]
    first = [set(rng.permutation(plenty)[:ways].tolist()) for _ in range(shares)]
    parts: list[list[IntArray]] = [[] for _ in range(shares)]
    for c, own in enumerate(by_class):
        floor = np.array([need * (c in chosen) for chosen in first])
        free = rng.dirichlet(np.full(shares, concentration)).cumsum() * (len(own) - floor.sum())
        ends = floor.cumsum() + np.round(free).astype(np.int64)
        cut = np.split(rng.permutation(own), ends[:-1])
        for part, piece in zip(parts, cut, strict=True):
            part.append(piece)
    return tuple(np.sort(np.concatenate(part)) for part in parts)


def case_mix(
    held: IntArray, ways: int, each: int, records: int, skew: float, rng: np.random.Generator
) -> IntArray:
    """The class (records,) of each record of a hospital that holds the classes ``held``.

    Shares follow a Dirichlet law of concentration 1 / ``skew``; 0 gives equal ones. The first
    ``ways`` classes get ``each`` records beforehand, so that one task always exists.
    """
    even = np.full(len(held), 1 / len(held))
    shares = rng.dirichlet(np.full(len(held), 1 / skew)) if skew else even
    floor = np.repeat(held[:ways], each)
    rest = rng.choice(held, size=records - len(floor), p=shares)
    return rng.permutation(np.concatenate([floor, rest])).astype(np.int64)
