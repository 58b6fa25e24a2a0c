"""Tasks without a record of any hospital: blank ones to price a run, random ones for the audit.

Rows are numbered consecutively, so that no two tasks share a record, and all classes are equally
frequent.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from metaward.client.tasks.base import Episode, FloatArray, TaskSize, TaskSpec
from metaward.client.tasks.kinds import Labels


def blank_tasks(spec: TaskSpec, size: TaskSize, count: int) -> tuple[Episode, ...]:
    """``count`` tasks of zeros."""
    x = np.zeros((size.records, *spec.input_shape), np.float32)
    return tuple(_task(spec, size, number, x, spec.kind.blank) for number in range(count))


def random_tasks(
    spec: TaskSpec, size: TaskSize, count: int, rng: np.random.Generator
) -> tuple[Episode, ...]:
    """``count`` tasks of normal noise, with the kind's made-up labels."""
    shape = (size.records, *spec.input_shape)

    def labels(spec: TaskSpec, n: int) -> Labels:
        return spec.kind.random(spec, n, rng)

    def one(number: int) -> Episode:
        x = rng.standard_normal(shape).astype(np.float32)
        return _task(spec, size, number, x, labels)

    return tuple(one(number) for number in range(count))


def _task(
    spec: TaskSpec,
    size: TaskSize,
    number: int,
    x: FloatArray,
    labels: Callable[[TaskSpec, int], Labels],
) -> Episode:
    rows = np.arange(number * size.records, (number + 1) * size.records)
    cut = size.support
    return Episode(
        support_x=x[:cut],
        support_y=labels(spec, size.support),
        query_x=x[cut:],
        query_y=labels(spec, size.query),
        classes=np.arange(spec.classes),
        support_rows=rows[:cut],
        query_rows=rows[cut:],
    )
