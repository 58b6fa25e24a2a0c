"""Reptile (Nichol, Achiam, Schulman 2018: On First-Order Meta-Learning Algorithms)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from metaward.client.inner.base import GradientLearner
from metaward.client.inner.programs import Task
from metaward.client.inner.reach import Means, Reach
from metaward.client.inner.setting import Setting, Update
from metaward.client.inner.steps import decay, inner_loops, over_tasks, pooled_gradient, together
from metaward.client.tasks.base import Episode
from metaward.privacy import Batch, Session


@dataclass(frozen=True)
class Reptile(GradientLearner):
    """SGD on each task from theta; the update is how far it went: mean(phi_T - theta).

    Reptile does not split a task: support and query are trained on together, in mini-batches of
    ``batch`` records (0: all of them in each step).
    """

    takes_stacks: ClassVar[bool] = True

    batch: Annotated[int, Field(ge=0)] = 0
    """Records of a mini-batch; 0 takes all records of a task in every step."""

    @property
    def takes_batches(self) -> bool:
        """True with the option ``batch``."""
        return self.batch > 0

    def update(
        self,
        setting: Setting,
        theta: Tensor,
        episodes: Sequence[Episode],
        session: Session,
        rng: np.random.Generator,
    ) -> Update:
        """mean over the tasks of (phi_T - theta), minus lambda * theta."""
        net = setting.network(setting.spec.outputs)
        last = pooled_gradient(setting, net, session, "support")
        pull = decay(self.layers(setting), torch.ones_like(theta), self.l2, session)

        def direction(theta: Tensor, tasks: Sequence[Task]) -> tuple[Tensor, Tensor]:
            steps = [
                minibatches(whole(setting, task), self.batch, self.steps, rng) for task in tasks
            ]
            starts, first = [theta] * len(tasks), [own[:-1] for own in steps]
            ends = inner_loops(setting, net, session, starts, first, self.lr)
            moved = sum(((phi - theta) / len(tasks) for phi in ends), torch.zeros_like(theta))
            # nothing starts at phi_T: the last steps are only averaged
            g, loss = last([(phi, own[-1]) for phi, own in zip(ends, steps, strict=True)])
            return moved - self.lr * g - pull * theta, loss

        key = None if self.takes_batches else (self, session.trained)
        each = together(setting, key)
        return over_tasks(theta, episodes, direction, self.local_lr, session, each)

    def direction_reach(self, means: Means) -> Reach | None:
        """``steps`` steps of rate ``lr``."""
        return means["support"].times(self.lr, self.steps)


def whole(setting: Setting, task: Task) -> Batch:
    """Support and query of a task together; of each task of a stack."""
    return pooled([setting.support(task), setting.query(task)])


def named(setting: Setting, task: Task) -> Batch:
    """Support and query together, each record labelled with its class's name, not its number."""
    batch, classes = whole(setting, task), torch.as_tensor(task.classes).to(setting.device)
    return batch._replace(y=torch.take_along_dim(classes, batch.y, dim=-1))


def pooled(batches: Sequence[Batch]) -> Batch:
    """Several batches as one; several stacks of the same tasks as one stack."""
    axis = batches[0].rows.ndim - 1
    x, y = (torch.cat([getattr(b, name) for b in batches], dim=axis) for name in ("x", "y"))
    return Batch(x, y, np.concatenate([b.rows for b in batches], axis=axis))


def minibatches(batch: Batch, size: int, steps: int, rng: np.random.Generator) -> list[Batch]:
    """``steps`` batches of ``size`` records, passing over all of them before any comes again.

    ``size = 0`` (or one that covers the set) gives the full set every time. Each task of a stack
    has draws of its own, those that it would have alone.
    """
    x, y, rows = batch
    if size == 0 or size >= rows.shape[-1]:
        return [batch] * steps
    if rows.ndim == 2:
        each = [minibatches(one, size, steps, rng) for one in batch.unstack()]
        return [Batch.stack(step) for step in zip(*each, strict=True)]
    order: list[int] = []
    while len(order) < steps * size:
        order += rng.permutation(len(y)).tolist()
    cuts = np.array(order[: steps * size]).reshape(steps, size)
    return [Batch(x[cut], y[cut], rows[cut]) for cut in cuts]
