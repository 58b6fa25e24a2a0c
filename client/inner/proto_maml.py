"""Proto-MAML, first-order (Triantafillou et al. 2020: Meta-Dataset).

A prototypical network (Snell, Swersky, Zemel 2017) classifies by the squared distance to each
class's mean feature, and that is a linear layer: weights 2 c_k, biases -|c_k|^2. Proto-MAML starts
the inner loop from this layer, so a task that numbers its classes afresh begins with a head that
fits, and the steps are left to improve on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.func import grad
from torch.nn import functional

from client.inner.base import (
    GradientLearner,
    Predictor,
    Setting,
    Update,
    descend,
    plain_gradient,
    private_gradient,
)
from client.inner.maml import MetaGradient, meta_update
from client.tasks.base import Episode, TaskSpec
from privacy import Batch, Session, Unit


@dataclass(frozen=True)
class ProtoMaml(GradientLearner):
    """theta is the body alone; every task builds its own head from its support set.

    The meta-gradient is first-order in the steps (phi_T = phi_0(theta) + a constant) and exact in
    the start: it flows through the prototypes. ``steps = 0`` is the prototypical network.

    Where every sum over records must be noised, a task takes T + 3 of them: the class features, T
    inner gradients, the query gradient v at phi_T, and the way back through the prototypes, a sum
    over support records of their features' Jacobian times what v wants of their class's prototype.
    """

    steps: Annotated[int, Field(ge=0, le=1000)] = 5

    def check(self, spec: TaskSpec, unit: Unit) -> None:
        """Prototypes are means of classes: regression has none."""
        super().check(spec, unit)
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
        session: Session,
        rng: np.random.Generator,
    ) -> Update:
        """-(mean over the tasks of d query loss / d theta), minus lambda * theta."""
        way = self._exact if session.raw else self._noised
        return meta_update(setting, theta, episodes, way(setting, session), self, session)

    def _exact(self, setting: Setting, session: Session) -> MetaGradient:
        net = setting.network(setting.spec.outputs)
        step = private_gradient(setting, net, session, "support")

        def meta_gradient(theta: Tensor, support: Batch, query: Batch) -> tuple[Tensor, Tensor]:
            theta = theta.detach().requires_grad_()
            start = with_prototypes(setting, theta, support)
            moved, _ = descend(step, start.detach(), [support] * self.steps, self.lr)
            phi = start + (moved - start).detach()
            loss = setting.losses(net, phi, query.x, query.y).mean()
            return torch.autograd.grad(loss, theta)[0], loss.detach()

        return meta_gradient

    def _noised(self, setting: Setting, session: Session) -> MetaGradient:
        net = setting.network(setting.spec.outputs)
        inner = private_gradient(setting, net, session, "support")
        outer = private_gradient(setting, net, session, "query")

        def meta_gradient(theta: Tensor, support: Batch, query: Batch) -> tuple[Tensor, Tensor]:
            means = _noisy_means(setting, theta, support, session)
            phi, _ = descend(inner, _start(theta, means), [support] * self.steps, self.lr)
            v, loss = outer(phi, query)
            weights, biases = v[len(theta) : -len(means)].view_as(means), v[-len(means) :]
            pull = 2 * weights - 2 * means * biases[:, None]  # d loss / d prototype, (N, features)
            return v[: len(theta)] + _way_back(setting, theta, support, pull, session), loss

        return meta_gradient

    def adapt(self, setting: Setting, theta: Tensor, support: Batch, steps: int) -> Predictor:
        """Prototypes, then full-batch gradient descent; 0 steps is the prototypes alone."""
        net = setting.network(setting.spec.outputs)
        with torch.no_grad():
            start = with_prototypes(setting, theta, support)
        phi, _ = descend(plain_gradient(setting, net), start, [support] * steps, self.lr)
        return lambda x: net.forward(phi, x)


def with_prototypes(setting: Setting, theta: Tensor, support: Batch) -> Tensor:
    """The body theta and the head of nearest class means on its features, as one vector (dim,)."""
    features = setting.network(0).forward(theta, support.x)
    classes = range(setting.spec.outputs)
    return _start(theta, torch.stack([features[support.y == c].mean(dim=0) for c in classes]))


def _start(theta: Tensor, means: Tensor) -> Tensor:
    """theta and the linear head that measures squared distances to ``means`` (N, features)."""
    return torch.cat([theta, (2 * means).reshape(-1), -means.square().sum(dim=1)])


def _noisy_means(setting: Setting, theta: Tensor, support: Batch, session: Session) -> Tensor:
    """Prototypes (N, features) from one noisy sum: a record adds its features to its class."""
    body, ways = setting.network(0), setting.spec.outputs

    def one(x: Tensor, y: Tensor) -> Tensor:
        features = body.forward(theta, x[None])[0]
        return torch.outer(functional.one_hot(y, ways).to(features), features).reshape(-1)

    sums = session.mean(one, support, "features", ways * body.features)
    share = torch.bincount(support.y, minlength=ways) / len(support.y)  # public: K of N * K
    return sums.view(ways, -1) / share[:, None]


def _way_back(
    setting: Setting, theta: Tensor, support: Batch, pull: Tensor, session: Session
) -> Tensor:
    """Noisy (d prototypes / d theta)^T pull (dim,), zero where theta is not trained."""
    body, ways = setting.network(0), setting.spec.outputs
    chosen = body.mask(session.parts).to(setting.device)
    scale = len(support.y) / torch.bincount(support.y, minlength=ways)  # 1 / share of the class

    weights = pull * scale[:, None]

    def one(x: Tensor, y: Tensor) -> Tensor:
        found: Tensor = grad(lambda at: (body.forward(at, x[None])[0] * weights[y]).sum())(theta)
        return found[chosen]

    found = torch.zeros_like(theta)
    found[chosen] = session.mean(one, support, "adjoint", int(chosen.sum()))
    return found
