"""Tasks of the declared shape without a record in them: what a plan rehearses the learner on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metaward.client.tasks.base import Episode, FewShot, TaskSource, TaskSpec
from metaward.options import ConfigError


@dataclass(frozen=True)
class Size:
    """Records of one task of a training hospital: ``support`` and ``query``, of all its classes."""

    support: int
    query: int

    @property
    def records(self) -> int:
        """Support and query together."""
        return self.support + self.query


def task_size(source: TaskSource) -> Size:
    """The size that the configuration declares; ``ConfigError`` for a source that declares none."""
    if isinstance(source, FewShot):
        shots, queries = source.sizes("train")
        return Size(source.ways * shots, source.ways * queries)
    if not (hasattr(source, "shots") and hasattr(source, "queries")):
        text = f"{type(source).__name__} declares no shots and queries, so a task has no known size"
        raise ConfigError([f"client.tasks: {text}"])
    return Size(source.shots, source.queries)


def public_records(source: TaskSource) -> int | None:
    """Records of each training hospital, where the configuration itself says how many they are."""
    declared = getattr(source, "records", None)
    if declared is None and hasattr(source, "functions") and hasattr(source, "points"):
        declared = source.functions * source.points
    return declared


def most_tasks(source: TaskSource, records: int) -> int:
    """The most disjoint tasks that so many records can make, whatever their labels are."""
    size = task_size(source).records
    points = getattr(source, "points", None)  # a task of sine takes all of its own from one curve
    if points is not None and public_records(source) == records:
        return int(records // points * (points // size))
    return records // size


def blank_tasks(spec: TaskSpec, size: Size, count: int) -> Sequence[Episode]:
    """``count`` tasks of zeros, on rows of their own, each class as often as any other."""
    return tuple(_blank(spec, size, number * size.records) for number in range(count))


def _blank(spec: TaskSpec, size: Size, first: int) -> Episode:
    rows = np.arange(first, first + size.records)
    classes = spec.outputs if spec.kind == "classification" else 0
    return Episode(
        np.zeros((size.support, *spec.input_shape), np.float32),
        _labels(spec, size.support),
        np.zeros((size.query, *spec.input_shape), np.float32),
        _labels(spec, size.query),
        np.arange(classes),
        rows[: size.support],
        rows[size.support :],
    )


def _labels(spec: TaskSpec, n: int) -> np.ndarray:
    if spec.kind == "classification":
        return np.arange(n) % spec.outputs
    return np.zeros((n, spec.outputs), np.float32)
