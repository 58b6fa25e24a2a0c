"""An engine as a plug-in: Reptile and FOMAML with the inner loops of all tasks in one pass.

What it needs of the product is ``task_gradients``; the readable loop is in ``client.inner``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from metaward.client.inner import Setting, Update
from metaward.client.inner.maml import Fomaml
from metaward.client.inner.reptile import Reptile, minibatches, whole
from metaward.client.inner.steps import descend, pooled_gradient, task_gradients
from metaward.client.tasks.base import Episode
from metaward.privacy import Batch, Kind, Session


@dataclass(frozen=True)
class ReptileTogether(Reptile):
    """Reptile, all tasks of a round at once; with local steps each starts where the last ended."""

    def update(
        self,
        setting: Setting,
        theta: Tensor,
        episodes: Sequence[Episode],
        session: Session,
        rng: np.random.Generator,
    ) -> Update:
        if self.local_lr:
            return super().update(setting, theta, episodes, session, rng)
        each = [minibatches(whole(setting, e), self.batch, self.steps, rng) for e in episodes]
        *steps, last = [Batch.stack(batches) for batches in zip(*each, strict=True)]
        phi = inner_loops(setting, theta, steps, self.lr, session)
        g, loss = outer_gradient(setting, phi, last, "support", session)
        moved = phi - theta if session.raw else (phi - theta).mean(dim=0, keepdim=True)
        return Update(session.combine(list(moved - self.lr * g - self.l2 * theta)), loss.mean())


@dataclass(frozen=True)
class FomamlTogether(Fomaml):
    """FOMAML, all tasks of a round at once; with local steps each starts where the last ended."""

    def update(
        self,
        setting: Setting,
        theta: Tensor,
        episodes: Sequence[Episode],
        session: Session,
        rng: np.random.Generator,
    ) -> Update:
        if self.local_lr:
            return super().update(setting, theta, episodes, session, rng)
        support = Batch.stack([setting.support(e) for e in episodes])
        query = Batch.stack([setting.query(e) for e in episodes])
        phi = inner_loops(setting, theta, [support] * self.steps, self.lr, session)
        g, loss = outer_gradient(setting, phi, query, "query", session)
        return Update(session.combine(list(-g - self.l2 * theta)), loss.mean())


def inner_loops(
    setting: Setting, theta: Tensor, steps: Sequence[Batch], lr: float, session: Session
) -> Tensor:
    """phi_T (tasks, dim) of all tasks, each from theta."""
    net = setting.network(setting.spec.outputs)
    gradient = task_gradients(setting, net, session, "support")
    tasks = len(steps[0].rows) if steps else 1
    return descend(gradient, theta.expand(tasks, -1), steps, lr)[0]


def outer_gradient(
    setting: Setting, phi: Tensor, tasks: Batch, kind: Kind, session: Session
) -> tuple[Tensor, Tensor]:
    """A gradient a task (tasks, dim) where the session combines them; else one noise for their
    mean (1, dim). And the losses."""
    net = setting.network(setting.spec.outputs)
    batches = tasks.unstack()
    phi = phi.expand(len(batches), -1)
    if session.raw:
        return task_gradients(setting, net, session, kind)(phi, tasks)
    g, loss = pooled_gradient(setting, net, session, kind)(list(zip(phi, batches, strict=True)))
    return g[None], loss
