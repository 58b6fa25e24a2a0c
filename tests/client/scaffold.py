"""A learner that remembers, as a plug-in: SCAFFOLD's control variates.

Karimireddy, Kale, Mohri, Reddi, Stich, Suresh 2020: SCAFFOLD: Stochastic Controlled Averaging for
Federated Learning, Algorithm 1, option II. theta is the shared x and the server's control variate
c, each (dim,); a hospital keeps its own control variate c_i. Every hospital takes part in a round,
and the outer step is a plain mean, so that c stays the mean of all c_i.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from metaward.client.inner import ALGORITHMS, Setting, Update
from metaward.client.inner.base import GradientLearner
from metaward.client.inner.setting import Predictor
from metaward.client.inner.steps import pooled_gradient
from metaward.client.tasks.base import Episode
from metaward.privacy import Batch, Session


@dataclass(frozen=True)
class Scaffold(GradientLearner):
    """``steps`` local steps y <- y - lr * (g(y) - c_i + c) over all tasks of the round at once."""

    remembers: ClassVar[bool] = True

    def initial(self, setting: Setting, seed: int) -> Tensor:
        """A fresh network, and a control variate of zeros."""
        x = super().initial(setting, seed)
        return torch.cat([x, torch.zeros_like(x)])

    def update(
        self,
        setting: Setting,
        theta: Tensor,
        episodes: Sequence[Episode],
        session: Session,
        rng: np.random.Generator,
    ) -> Update:
        """(y - x, c_i's change); c_i+ = c_i - c + (x - y) / (steps * lr) is kept."""
        net = setting.network(setting.spec.outputs)
        gradient = pooled_gradient(setting, net, session, "support")
        x, c = theta.chunk(2)
        own, y, loss = setting.kept.get("control", torch.zeros_like(c)), x, torch.zeros(())
        for _ in range(self.steps):
            g, loss = gradient([(y, setting.support(episode)) for episode in episodes])
            y = y - self.lr * (g - own + c)
        fresh = own - c + (x - y) / (self.steps * self.lr)
        delta = session.combine([torch.cat([y - x, fresh - own])])
        return Update(delta, loss, {"control": fresh})

    def adapt(self, setting: Setting, theta: Tensor, support: Batch, steps: int) -> Predictor:
        """Fine-tuning from x; an unseen hospital has no control variate."""
        return super().adapt(setting, theta.chunk(2)[0], support, steps)


def register() -> None:
    """Make the learner known under the name ``scaffold``."""
    ALGORITHMS["scaffold"] = Scaffold


SETTINGS = (
    "client.inner={algorithm: scaffold, lr: 0.02, steps: 2, adapt_steps: 2}",
    "client.schedule=passes",
    "strategies.outer={optimizer: sgd}",
    "strategies.hospitals_per_round=null",
    "server.evaluation.baselines=[]",
)
RECORD = "privacy={mechanism: sums, unit: record, epsilon: 6.0}"
