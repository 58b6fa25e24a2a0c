"""What is computed for tasks: a program, for one task or for several that are one stack."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from metaward.client.tasks.base import Episode
from metaward.privacy import Batch


class TaskStack(NamedTuple):
    """Tasks of equal sizes as one: tensors on the device, with a task axis before the records'."""

    support: Batch
    query: Batch
    classes: Tensor


Task = Episode | TaskStack
"""One task, or several with an axis of their own."""

Program = Callable[[Tensor, Task], tuple[Tensor, ...]]
"""(theta (dim,), an episode) -> results; (theta (tasks, dim), a stack of tasks) -> the same with a
task axis first. A pure function, and what it gives for a task depends on no other task."""


@dataclass(frozen=True, eq=False)
class Work:
    """A program, the tasks that it is for, and the point of each.

    Two works with equal ``key`` do the same to their tasks; None: it equals no other, for instance
    because it draws random numbers. ``stack`` makes one of tasks of equal sizes.
    """

    key: Hashable | None
    program: Program
    points: Sequence[Tensor]
    episodes: Sequence[Episode]
    stack: Callable[[Sequence[Episode]], TaskStack]
