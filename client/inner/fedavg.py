"""Federated averaging with fine-tuning: the baseline that does not meta-learn.

McMahan, Moore, Ramage, Hampson, Aguera y Arcas 2017: Communication-Efficient Learning of Deep
Networks from Decentralized Data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from metaward.client.inner.base import OPEN, with_decay
from metaward.client.inner.fitted import at_point
from metaward.client.inner.reach import Means, Reach
from metaward.client.inner.reptile import Reptile, minibatches, named, pooled, whole
from metaward.client.inner.setting import Predictor, Setting, Update
from metaward.client.inner.steps import decay, descend, private_gradient
from metaward.client.models import Layer, Network
from metaward.client.tasks.base import Episode, TaskSpec
from metaward.privacy import Batch, Session, Unit


@dataclass(frozen=True)
class FedAvg(Reptile):
    """One global model for all tasks of all hospitals, then fine-tuning.

    A round's tasks are pooled at the hospital, support and query alike, and trained on in shuffled
    mini-batches: the same records, batch size and number of gradient steps as Reptile, without its
    return to theta for each task. With ``names = False`` labels are the tasks' own, which is all
    that the meta-learner is told; where every task has its own numbering of classes they contradict
    each other. ``names = True`` tells more: one output for each class name of the meta-training
    hospitals, as if all of them kept one vocabulary; an unseen hospital then fine-tunes the trained
    body under a fresh head, drawn from ``head_seed``.
    """

    takes_stacks: ClassVar[bool] = True

    names: bool = False
    """Whether all hospitals share one vocabulary of class names, with one output for each name."""
    head_seed: int = 0
    """The seed of the fresh head that an unseen hospital puts on the body where `names` is true."""

    def check(self, spec: TaskSpec, unit: Unit) -> None:
        """``ValueError`` for a unit that clips tasks: pooled tasks cannot be clipped alone."""
        if unit.clips_tasks:
            raise ValueError(f"fedavg pools its tasks; no {unit.name} can be protected alone")

    def initial(self, setting: Setting, seed: int) -> Tensor:
        """A fresh network with one output for each way, or for each class name."""
        return self._network(setting).initial(seed)

    def layers(self, setting: Setting) -> tuple[Layer, ...]:
        """The network's layers."""
        return self._network(setting).layers()

    def update(
        self,
        setting: Setting,
        theta: Tensor,
        episodes: Sequence[Episode],
        session: Session,
        rng: np.random.Generator,
    ) -> Update:
        """phi - theta after ``steps`` SGD steps for each task, on all tasks together."""
        gradient = private_gradient(setting, self._network(setting), session, "support")
        phi, loss = descend(gradient, theta, self._batches(setting, episodes, rng), self.lr)
        pull = decay(self.layers(setting), theta, self.l2, session)
        return Update(phi - theta - pull, loss)

    def reach(self, means: Means, tasks: int) -> Reach | None:
        """``steps`` steps for each task, one after the other, and weight decay."""
        return with_decay(means["support"].times(self.lr, self.steps * tasks), self.l2)

    def adapt(
        self,
        setting: Setting,
        theta: Tensor,
        support: Batch,
        steps: int,
        session: Session = OPEN,
    ) -> Predictor:
        """Full-batch gradient descent from the global model, with a fresh head under ``names``."""
        net = setting.network(setting.spec.outputs)
        phi = self._start(setting, net, theta)
        gradient = private_gradient(setting, net, session, "support")
        phi, _ = descend(gradient, phi, [support] * steps, self.lr)
        return at_point(setting, phi)

    def _network(self, setting: Setting) -> Network:
        spec = setting.spec
        return setting.network(spec.vocabulary if self.names else spec.outputs)

    def _batches(
        self, setting: Setting, episodes: Sequence[Episode], rng: np.random.Generator
    ) -> list[Batch]:
        """Mini-batches of all tasks together, ``steps`` for each task."""
        batch = named if self.names else whole
        pool = pooled([batch(setting, episode) for episode in episodes])
        size = self.batch or len(pool.y) // len(episodes)
        return minibatches(pool, size, self.steps * len(episodes), rng)

    def _start(self, setting: Setting, net: Network, theta: Tensor) -> Tensor:
        if not self.names:
            return theta
        head = _drawn(net, self.head_seed, theta.device).to(theta)[net.head]
        body = theta[..., : self._network(setting).head.start]
        return torch.cat([body, head.expand(*theta.shape[:-1], -1)], dim=-1)


@lru_cache(maxsize=16)
def _drawn(net: Network, seed: int, device: torch.device) -> Tensor:
    """The network's start, drawn and copied to the device once for all tasks."""
    return net.initial(seed).to(device)
