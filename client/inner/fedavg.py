"""Federated averaging with fine-tuning: the baseline that does not meta-learn.

McMahan, Moore, Ramage, Hampson, Aguera y Arcas 2017: Communication-Efficient Learning of Deep
Networks from Decentralized Data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from client.inner.base import (
    Batch,
    Predictor,
    Setting,
    Update,
    descend,
    minibatches,
    plain_gradient,
    private_gradient,
)
from client.inner.reptile import Reptile, whole
from client.models import Network
from client.tasks.base import Episode
from privacy import Mechanism


@dataclass(frozen=True)
class FedAvg(Reptile):
    """One classifier for all hospitals, trained on the very records the meta-learner sees.

    A hospital runs on through its tasks without going back to theta: the same records, batches and
    number of gradient steps as Reptile. Where every task numbers its classes afresh, the network
    has one output for each class name of the meta-training hospitals, and an unseen hospital
    fine-tunes the trained body under a fresh head; where labels always mean the same, the head is
    kept. ``head_seed`` draws the fresh head.
    """

    head_seed: int = 0

    def initial(self, setting: Setting, seed: int) -> Tensor:
        """A fresh network with one output a class name."""
        return self._network(setting).initial(seed)

    def update(
        self,
        setting: Setting,
        theta: Tensor,
        episodes: Sequence[Episode],
        mechanism: Mechanism,
        rng: np.random.Generator,
    ) -> Update:
        """phi - theta after ``steps`` SGD steps on each task in turn."""
        gradient = private_gradient(setting, self._network(setting), mechanism)
        phi, losses = theta, []
        for episode in episodes:
            x, y = whole(setting, episode)
            batches = minibatches(
                (x, self._labels(setting, episode, y)), self.batch, self.steps, rng
            )
            phi, loss = descend(gradient, phi, batches, self.lr)
            losses.append(loss)
        return Update(phi - theta - self.l2 * theta, torch.stack(losses).mean())

    def adapt(self, setting: Setting, theta: Tensor, support: Batch, steps: int) -> Predictor:
        """Full-batch gradient descent from the trained body and a head for this task."""
        net = setting.network(setting.spec.outputs)
        phi = self._start(setting, net, theta)
        phi, _ = descend(plain_gradient(setting, net), phi, [support] * steps, self.lr)
        return lambda x: net.forward(phi, x)

    def _network(self, setting: Setting) -> Network:
        return setting.network(setting.spec.outputs if _keeps(setting) else setting.spec.vocabulary)

    def _labels(self, setting: Setting, episode: Episode, y: Tensor) -> Tensor:
        if _keeps(setting):
            return y
        return torch.from_numpy(episode.classes).to(setting.device)[y]

    def _start(self, setting: Setting, net: Network, theta: Tensor) -> Tensor:
        if _keeps(setting):
            return theta
        fresh = net.initial(self.head_seed).to(theta)
        return torch.cat([theta[: self._network(setting).head.start], fresh[net.head]])


def _keeps(setting: Setting) -> bool:
    """Whether label j means the same in every task, so that a trained head stays useful."""
    return setting.spec.canonical or setting.spec.kind == "regression"
