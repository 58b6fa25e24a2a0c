"""MAML, exact and first-order (Finn, Abbeel, Levine 2017: Model-Agnostic Meta-Learning)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from client.inner.base import (
    Batch,
    GradientLearner,
    Setting,
    Update,
    descend,
    over_tasks,
    private_gradient,
)
from client.tasks.base import Episode
from privacy import Mechanism

MetaGradient = Callable[[Tensor, Batch, Batch], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Fomaml(GradientLearner):
    """First-order MAML: the query gradient at phi_T, as if phi_T did not depend on theta."""

    def update(
        self,
        setting: Setting,
        theta: Tensor,
        episodes: Sequence[Episode],
        mechanism: Mechanism,
        rng: np.random.Generator,
    ) -> Update:
        """-(mean over the tasks of the query gradient at phi_T), minus lambda * theta."""
        gradient = private_gradient(setting, setting.network(setting.spec.outputs), mechanism)

        def meta_gradient(theta: Tensor, support: Batch, query: Batch) -> tuple[Tensor, Tensor]:
            phi, _ = descend(gradient, theta, [support] * self.steps, self.lr)
            return gradient(phi, *query)

        return meta_update(setting, theta, episodes, meta_gradient, self)


@dataclass(frozen=True)
class Maml(GradientLearner):
    """Exact second-order MAML: the query loss at phi_T(theta), differentiated through all T steps.

    The graph of the whole inner loop is kept, so memory grows with ``steps``.
    """

    def update(
        self,
        setting: Setting,
        theta: Tensor,
        episodes: Sequence[Episode],
        mechanism: Mechanism,
        rng: np.random.Generator,
    ) -> Update:
        """-(mean over the tasks of d query loss(phi_T(theta)) / d theta), minus lambda * theta."""
        net = setting.network(setting.spec.outputs)

        def loss_at(phi: Tensor, batch: Batch) -> Tensor:
            return setting.losses(net, phi, *batch).mean()

        def meta_gradient(theta: Tensor, support: Batch, query: Batch) -> tuple[Tensor, Tensor]:
            start = phi = theta.detach().requires_grad_()
            for _ in range(self.steps):
                (g,) = torch.autograd.grad(loss_at(phi, support), phi, create_graph=True)
                phi = phi - self.lr * g
            loss = loss_at(phi, query)
            return torch.autograd.grad(loss, start)[0], loss.detach()

        return meta_update(setting, theta, episodes, meta_gradient, self)


def meta_update(
    setting: Setting,
    theta: Tensor,
    episodes: Sequence[Episode],
    meta_gradient: MetaGradient,
    learner: GradientLearner,
) -> Update:
    """Down the outer objective: minus the meta-gradient of query loss + (lambda/2) |theta|^2."""

    def direction(theta: Tensor, episode: Episode) -> tuple[Tensor, Tensor]:
        g, loss = meta_gradient(theta, setting.support(episode), setting.query(episode))
        return -(g + learner.l2 * theta), loss

    return over_tasks(theta, episodes, direction, learner.local_lr)
