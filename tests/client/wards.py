"""Small made-up hospitals whose records, patients and duplicates are known by hand."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaward.client.schedule import Share
from metaward.client.tasks.base import Episode, FewShot, Hospital, Seat, draw_classes
from metaward.client.tasks.heart import draw_natural

FEW = FewShot(ways=2, shots=1, queries=2)


def ward(
    y: list[int],
    few: FewShot = FEW,
    ids: list[str] | None = None,
    patients: list[str] | None = None,
    x: NDArray[np.float32] | None = None,
    natural: bool = False,
) -> Hospital:
    """Records of classes ``y``; each its own patient, and each of its own content, unless given."""
    names = [f"r{k}" for k in range(len(y))]
    drawn = np.random.default_rng(3).normal(size=(len(y), 4)).astype(np.float32)
    return Hospital(
        Seat("ward", "train"),
        drawn if x is None else x,
        np.array(y),
        np.arange(len(y)),
        np.array(names if ids is None else ids),
        np.array([f"p{name}" for name in names] if patients is None else patients),
        partial(draw_natural if natural else draw_classes, few),
        lambda rows: np.asarray(rows * 2, np.float32),
    )


def task(hospital: Hospital, support: list[int], query: list[int]) -> Episode:
    """The task of exactly these rows."""
    s, q = np.array(support), np.array(query)
    view: Any = hospital.view
    return Episode(
        view(hospital.x[s]), hospital.y[s], view(hospital.x[q]), hospital.y[q], np.arange(2), s, q
    )


def rows_of(episode: Episode) -> list[int]:
    return [*episode.support_rows.tolist(), *episode.query_rows.tolist()]


def share(
    hospital: Hospital, *tasks: tuple[list[int], list[int]], participations: int = 1
) -> Share:
    return Share(tuple(task(hospital, *rows) for rows in tasks), participations)
