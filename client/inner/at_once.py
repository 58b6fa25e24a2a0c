"""How the inner loops of several tasks are computed: one by one, or as one program of tensors.

A learner is written once, for a task or for several tasks that have an axis of their own before the
records'. What computes it is chosen here. One by one suits a CPU, whose caches hold one task.
A GPU needs many tasks at once, because each operation of one task is too short to fill it; it
also spends most of its time between such operations, and a CUDA graph launches all of them at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from metaward.client.inner.company import companion
from metaward.client.inner.graphs import Graphs
from metaward.client.inner.programs import Program, TaskStack, Work
from metaward.client.models import Network
from metaward.client.models.fused import NoKernel, fused_kernel
from metaward.client.tasks.base import Episode
from metaward.privacy.kernel import Kernel

log = logging.getLogger("metaward.hospital")
SMALL, NOISED = 2**16, 2**15
"""Coordinates of theta up to which a CPU is faster with many tasks at once, for networks without
convolutions, and for noised sums of any network: one task's operations are then so short that
calling them takes longer (measured by ``benchmarks/together.py``, docs/benchmarks.md)."""


class AtOnce(Protocol):
    """How the programs of a process are computed."""

    def most(self, dim: int) -> int:
        """How many tasks are computed at once where theta has ``dim`` coordinates."""
        ...

    def noised(self, dim: int) -> int:
        """How many tasks' noised sums are taken at once where theta has ``dim`` coordinates."""
        return self.most(dim)

    def run(self, work: Work) -> list[tuple[Tensor, ...]]:
        """The results of each task, in order, without the task axis."""
        ...

    def kernel(self, net: Network, losses: Callable[[Tensor, Tensor], Tensor]) -> Kernel | None:
        """What gives the gradients of this network and loss in place of autograd; None: nothing."""
        return None


class OneByOne(AtOnce):
    """One task after the other."""

    def most(self, dim: int) -> int:
        """One."""
        return 1

    def run(self, work: Work) -> list[tuple[Tensor, ...]]:
        """Each task as it is, without a task axis."""
        pairs = zip(work.points, work.episodes, strict=True)
        return [work.program(point, episode) for point, episode in pairs]


class Fused(OneByOne):
    """One task after the other, with the kernel where it takes the network (first order only)."""

    def __init__(self, device: str = "cpu") -> None:
        self._device, self._known = device, dict[Network, Kernel | None]()

    def kernel(self, net: Network, losses: Callable[[Tensor, Tensor], Tensor]) -> Kernel | None:
        """The kernel, or None after a line in the log that says why there is none."""
        if net not in self._known:
            self._known[net] = self._found(net, losses)
        return self._known[net]

    def _found(self, net: Network, losses: Callable[[Tensor, Tensor], Tensor]) -> Kernel | None:
        try:
            if self._device != "cpu":
                raise NoKernel(f"the kernel is for a CPU, and the device is {self._device}")
            return fused_kernel(net, losses)
        except NoKernel as reason:
            log.warning("inner: fused computes as loop does: %s", reason)
            return None


@dataclass(eq=False)
class Batched(AtOnce):
    """Up to ``chunk`` tasks at once, also those of hospitals that are simulated side by side.

    Tasks are grouped by their sizes. Where a program is captured as a CUDA graph (``graphs``), a
    group is filled up to a power of two with copies of one of its tasks, so that few graphs serve
    groups of any number; what the copies give is dropped.
    """

    chunk: int = 64
    graphs: bool = False
    _graphs: Graphs = field(default_factory=Graphs)

    def most(self, dim: int) -> int:
        """``chunk``."""
        return self.chunk

    def run(self, work: Work) -> list[tuple[Tensor, ...]]:
        """Wait for the works of hospitals beside this one, if there are any, and join them."""
        beside = companion()
        if beside is None or work.key is None:
            return self.joined([work])[0]
        found: list[tuple[Tensor, ...]] = beside.join_in(work, self.joined)
        return found

    def joined(self, works: Sequence[Work]) -> list[list[tuple[Tensor, ...]]]:
        """The results of several works; those of one key are computed together."""
        found: list[list[tuple[Tensor, ...]]] = [[()] * len(work.episodes) for work in works]
        for alike, places in _groups(works).items():
            for start in range(0, len(places), self.chunk):
                part = places[start : start + self.chunk]
                for (number, place), values in zip(
                    part, self._one(works, alike, part), strict=True
                ):
                    found[number][place] = values
        return found

    def _one(
        self, works: Sequence[Work], alike: Hashable, part: Sequence[tuple[int, int]]
    ) -> Iterator[tuple[Tensor, ...]]:
        """The results of tasks of one group."""
        first = works[part[0][0]]
        filled = [*part, *[part[0]] * (self._size(first, len(part)) - len(part))]
        points = _stacked([works[number].points[place] for number, place in filled])
        tasks = first.stack([works[number].episodes[place] for number, place in filled])
        values = self._program(first, (alike, len(filled)), points, tasks)(points, tasks)
        return zip(*(value[: len(part)].unbind() for value in values), strict=True)

    def _size(self, work: Work, tasks: int) -> int:
        if not self._captures(work):
            return tasks
        return min(self.chunk, 1 << (tasks - 1).bit_length())

    def _captures(self, work: Work) -> bool:
        return self.graphs and work.key is not None and work.points[0].is_cuda

    def _program(self, work: Work, key: Hashable, points: Tensor, tasks: TaskStack) -> Program:
        if not self._captures(work):
            return work.program
        return self._graphs.of(key, work.program, points, tasks)


def _sizes(episode: Episode) -> Hashable:
    return episode.support_x.shape, episode.query_x.shape, episode.classes.shape


def _groups(works: Sequence[Work]) -> dict[Hashable, list[tuple[int, int]]]:
    """Which tasks, by the number of their work and their place in it, are done in one go.

    They have the same key, and theta and records of the same shapes. A work that draws random
    numbers stays in its order: each run of tasks of equal sizes is a group of its own.
    """
    groups: dict[Hashable, list[tuple[int, int]]] = {}
    for number, work in enumerate(works):
        run, last = 0, None
        for place, (point, episode) in enumerate(zip(work.points, work.episodes, strict=True)):
            sizes = _sizes(episode)
            run, last = run + (work.key is None and sizes != last), sizes
            alike = (work.key or number, run, point.shape, point.dtype, sizes)
            groups.setdefault(alike, []).append((number, place))
    return groups


def _stacked(points: Sequence[Tensor]) -> Tensor:
    """Points (tasks, dim); one that all tasks share is not copied."""
    if all(point is points[0] for point in points):
        return points[0].expand(len(points), -1)
    return torch.stack(list(points))


def stacked(arrays: Sequence[np.ndarray], device: torch.device) -> Tensor:
    """Arrays of one shape as a tensor on the device, with an axis for them."""
    return torch.from_numpy(np.stack(arrays)).to(device)


class BySize(AtOnce):
    """For a CPU: batched within a hospital where theta has at most ``small`` coordinates, and
    noised sums where it has at most ``NOISED``.

    Hospitals are not joined, so that a hospital's answer is the same to the last bit in every
    engine, and with any number of workers.
    """

    def __init__(self, chunk: int, small: int = SMALL) -> None:
        self._loop, self._batched, self._small = OneByOne(), Batched(chunk), small

    def most(self, dim: int) -> int:
        """``chunk`` where theta is small."""
        return self._way(dim).most(dim)

    def noised(self, dim: int) -> int:
        """``chunk`` where theta is small: a record's gradient comes alone, also of convolutions."""
        return self._batched.chunk if dim <= NOISED else 1

    def run(self, work: Work) -> list[tuple[Tensor, ...]]:
        """By the size of theta."""
        return self._way(work.points[0].numel()).run(work) if work.points else []

    def _way(self, dim: int) -> AtOnce:
        return self._batched if dim <= self._small else self._loop


CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
Way = Literal["auto", "loop", "batched", "fused"]


@dataclass(frozen=True)
class TasksAtOnce:
    """The choice that a configuration makes, ``loop``, ``batched``, ``fused`` or ``auto``, and the
    most tasks at once.

    ``auto`` is batched on a GPU. On a CPU it goes by the size of theta; a body with convolutions,
    which many tasks at once make slower, has one at a time, except where sums are noised. It is
    never fused: last bits must not depend on whether a machine has a compiler (decision 36).
    """

    way: Way = "auto"
    chunk: int = 64

    def on(self, device: str, body: nn.Module) -> AtOnce:
        """What computes networks with this body on this device."""
        gpu = device.startswith("cuda")
        if self.way == "batched" or (self.way == "auto" and gpu):
            return Batched(self.chunk, gpu)
        if self.way == "fused":
            return Fused(device)
        if self.way == "loop":
            return OneByOne()
        convolves = any(isinstance(layer, CONVOLUTIONS) for layer in body.modules())
        return BySize(self.chunk, 0 if convolves else SMALL)

    def beside(self, device: str) -> int:
        """How many simulated hospitals of a process take turns, so that works can be joined."""
        joins = self.way == "batched" or (self.way == "auto" and device.startswith("cuda"))
        return self.chunk if joins else 1


AUTO = TasksAtOnce()
"""The choice where none is made."""
