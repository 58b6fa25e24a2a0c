"""Proto-MAML, first-order (Triantafillou et al. 2020: Meta-Dataset).

A prototypical network (Snell, Swersky, Zemel 2017) classifies by the squared distance to each
class's mean feature, and that is a linear layer: weights 2 c_k, biases -|c_k|^2. Proto-MAML starts
the inner loop from this layer, so a task that numbers its classes afresh begins with a head that
fits, and the steps are left to improve on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from client.inner.base import (
    Batch,
    GradientLearner,
    Predictor,
    Setting,
    Update,
    descend,
    plain_gradient,
    private_gradient,
)
from client.inner.maml import meta_update
from client.tasks.base import Episode, TaskSpec
from privacy import Mechanism


@dataclass(frozen=True)
class ProtoMaml(GradientLearner):
    """theta is the body alone; every task builds its own head from its support set.

    The meta-gradient is first-order in the steps (phi_T = phi_0(theta) + a constant) and exact in
    the start: it flows through the prototypes. With ``steps = 0`` in place of T this is the
    prototypical network.
    """

    def check(self, spec: TaskSpec) -> None:
        """Prototypes are means of classes: regression has none."""
        if spec.kind != "classification":
            raise ValueError("proto_maml needs classes; choose reptile, fomaml or maml")

    def initial(self, setting: Setting, seed: int) -> Tensor:
        """A fresh body."""
        return setting.network(0).initial(seed)

    def update(
        self,
        setting: Setting,
        theta: Tensor,
        episodes: Sequence[Episode],
        mechanism: Mechanism,
        rng: np.random.Generator,
    ) -> Update:
        """-(mean over the tasks of d query loss / d theta), minus lambda * theta."""
        net = setting.network(setting.spec.outputs)
        step = private_gradient(setting, net, mechanism)

        def meta_gradient(theta: Tensor, support: Batch, query: Batch) -> tuple[Tensor, Tensor]:
            theta = theta.detach().requires_grad_()
            start = with_prototypes(setting, theta, support)
            moved, _ = descend(step, start.detach(), [support] * self.steps, self.lr)
            phi = start + (moved - start).detach()
            loss = setting.losses(net, phi, *query).mean()
            return torch.autograd.grad(loss, theta)[0], loss.detach()

        return meta_update(setting, theta, episodes, meta_gradient, self)

    def adapt(self, setting: Setting, theta: Tensor, support: Batch, steps: int) -> Predictor:
        """Prototypes, then full-batch gradient descent; 0 steps is the prototypes alone."""
        net = setting.network(setting.spec.outputs)
        with torch.no_grad():
            start = with_prototypes(setting, theta, support)
        phi, _ = descend(plain_gradient(setting, net), start, [support] * steps, self.lr)
        return lambda x: net.forward(phi, x)


def with_prototypes(setting: Setting, theta: Tensor, support: Batch) -> Tensor:
    """The body theta and the head of nearest class means on its features, as one vector (dim,)."""
    x, y = support
    features = setting.network(0).forward(theta, x)
    means = torch.stack([features[y == c].mean(dim=0) for c in range(setting.spec.outputs)])
    return torch.cat([theta, (2 * means).reshape(-1), -means.square().sum(dim=1)])
