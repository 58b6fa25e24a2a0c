"""What an inner loop works with, and what it gives: the setting of a hospital, and an update."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaward.client.inner.at_once import AtOnce, OneByOne, stacked
from metaward.client.inner.programs import Task, TaskStack
from metaward.client.models import Architecture, Network, fed_shape, network
from metaward.client.tasks.base import Episode, FloatArray, IntArray, TaskSpec
from metaward.privacy import Batch, Objective

Predictor = Callable[[Tensor], Tensor]
Kept = Mapping[str, Tensor]
"""Vectors that a learner keeps at a hospital between rounds, by name (``client.memory``)."""

PREPARED = 64
"""Records that go through a fixed front at a time."""


@dataclass(frozen=True)
class Update:
    """What meta-training gives: ``delta`` (dim,), the direction for theta, and the mean loss.

    ``keep`` stays at the hospital; the next update there finds it in ``setting.kept``.
    Only a learner that ``remembers`` may fill it.
    """

    delta: Tensor
    loss: Tensor
    keep: Kept = field(default_factory=dict)


class Setting:
    """What an algorithm works with: the task's shape, the architecture, the device.

    ``spec`` and all records of an algorithm have the shape that comes out of the network's fixed
    front, if it has one: ``prepare`` computes that part once a record. ``kept`` is what the last
    update at this hospital returned as ``keep``: empty at first, in adaptation, and for all
    learners that do not remember. ``at_once`` computes what is to be done for several tasks.
    """

    def __init__(
        self,
        architecture: Architecture,
        spec: TaskSpec,
        device: str = "cpu",
        at_once: AtOnce | None = None,
    ) -> None:
        self.device, self.at_once = torch.device(device), at_once or OneByOne()
        self.spec = replace(spec, input_shape=fed_shape(architecture, spec.input_shape))
        self.network: Callable[[int], Network] = cache(
            lambda outputs: network(architecture, self.spec, outputs, self.device)
        )
        self.front = architecture.front(spec.input_shape)
        self.kept: Kept = {}

    def prepare(self, x: FloatArray) -> FloatArray:
        """Records (n, *input_shape) through the fixed front; as they are where there is none."""
        if self.front is None:
            return x
        front = self.front.to(self.device)
        pieces = torch.split(torch.from_numpy(x), PREPARED)
        with torch.no_grad():
            done = [front(piece.to(self.device)).cpu() for piece in pieces]
        return np.asarray(torch.cat(done).numpy(), np.float32)

    def recalling(self, kept: Kept) -> Setting:
        """A copy of this setting in which ``kept`` has these vectors, moved to the device."""
        if not kept and not self.kept:
            return self
        other = copy(self)
        other.kept = {name: vector.to(self.device) for name, vector in kept.items()}
        return other

    def objective(self, net: Network) -> Objective:
        """The task's loss of a network, one for each record."""
        losses = self.spec.kind.losses
        return Objective(net.module, net.forward, losses, self.at_once.kernel(net, losses))

    def support(self, task: Task) -> Batch:
        """The support set as tensors on the device."""
        if isinstance(task, TaskStack):
            return task.support
        return self._batch(task.support_x, task.support_y, task.support_rows)

    def query(self, task: Task) -> Batch:
        """The query set as tensors on the device."""
        if isinstance(task, TaskStack):
            return task.query
        return self._batch(task.query_x, task.query_y, task.query_rows)

    def stack(self, episodes: Sequence[Episode]) -> TaskStack:
        """Episodes of equal sizes as one, on the device."""

        def batch(part: str) -> Batch:
            x, y, rows = (
                [getattr(e, f"{part}_{name}") for e in episodes] for name in ("x", "y", "rows")
            )
            return Batch(stacked(x, self.device), stacked(y, self.device), np.stack(rows))

        classes = stacked([episode.classes for episode in episodes], self.device)
        return TaskStack(batch("support"), batch("query"), classes)

    def _batch(self, x: NDArray[Any], y: NDArray[Any], rows: IntArray) -> Batch:
        to = self.device
        return Batch(torch.from_numpy(x).to(to), torch.from_numpy(y).to(to), rows)
