"""Programs as CUDA graphs: their operations are recorded once and then launched together.

All graphs of a process take turns on one stream, and what one wrote is copied before the next one
starts. So they share one memory: what a graph holds while it runs may lie where another one's
results were. Graphs with a memory each would take the sum of what all of them need.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from metaward.client.inner.programs import Program, Task, TaskStack
from metaward.privacy import Batch

log = logging.getLogger("metaward.hospital")
WARM = 3  # runs before a capture, in which libraries set up what they keep
GRAPHS = 16  # captured programs that are kept


@dataclass(eq=False)
class Graphs:
    """The programs that were captured last, ``GRAPHS`` of them at most, by their keys."""

    _captured: dict[Hashable, Program] = field(default_factory=dict)
    _memory: Any = None

    def of(self, key: Hashable, program: Program, points: Tensor, tasks: TaskStack) -> Program:
        """The program as a CUDA graph for these shapes; as it is where it cannot be captured."""
        if key not in self._captured:
            while len(self._captured) >= GRAPHS:
                del self._captured[next(iter(self._captured))]
            self._captured[key] = self._capture(program, points, tasks)
        return self._captured[key]

    def memory(self) -> Any:
        """The handle of the memory that the next graph takes from; None gives it its own."""
        self._memory = self._memory or torch.cuda.graph_pool_handle()
        return self._memory

    def _capture(self, program: Program, points: Tensor, tasks: TaskStack) -> Program:
        try:
            return _Graph(program, points, tasks, self.memory())
        except RuntimeError as error:
            log.warning("no CUDA graph of an inner loop, it is computed without: %s", error)
            self._memory = None  # torch lets nobody record there after a recording that failed
            return program


class _Graph:
    """One program, for arguments of these shapes."""

    def __init__(self, program: Program, points: Tensor, tasks: TaskStack, memory: Any) -> None:
        self._program = program  # it holds tensors that the graph reads
        self._points, self._tasks = points.clone(), _map(torch.clone, tasks)
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM):
                program(self._points, self._tasks)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=memory):
            self._results = program(self._points, self._tasks)

    def __call__(self, points: Tensor, tasks: Task) -> tuple[Tensor, ...]:
        """Copy the arguments to where the graph reads them; what it wrote is copied as well."""
        assert isinstance(tasks, TaskStack)
        self._points.copy_(points)
        for own, given in zip(_tensors(self._tasks), _tensors(tasks), strict=True):
            own.copy_(given)
        self._graph.replay()
        return tuple(value.clone() for value in self._results)


def _tensors(tasks: TaskStack) -> list[Tensor]:
    (sx, sy, _), (qx, qy, _), classes = tasks
    return [sx, sy, qx, qy, classes]


def _map(change: Callable[[Tensor], Tensor], tasks: TaskStack) -> TaskStack:
    sx, sy, qx, qy, classes = map(change, _tensors(tasks))
    return TaskStack(Batch(sx, sy, tasks.support.rows), Batch(qx, qy, tasks.query.rows), classes)
