"""Proto-MAML, first-order (Triantafillou et al. 2020: Meta-Dataset).

A prototypical network (Snell, Swersky, Zemel 2017) classifies by the squared distance to each
class's mean feature, and that is a linear layer: weights 2 c_k, biases -|c_k|^2. Proto-MAML starts
the inner loop from this layer, so that a task with its own numbering of classes begins with a head
that fits, and the steps improve on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.func import grad

from metaward.client.inner.base import OPEN, GradientLearner, require_classes
from metaward.client.inner.fitted import at_point
from metaward.client.inner.maml import MetaGradient, Tasks, each, meta_update
from metaward.client.inner.means import class_means, plain_means
from metaward.client.inner.reach import Means, Reach
from metaward.client.inner.setting import Predictor, Setting, Update
from metaward.client.inner.steps import descend, inner_loops, private_gradient
from metaward.client.models import Layer
from metaward.client.tasks.base import Episode, TaskSpec
from metaward.privacy import Batch, Contribution, Session, Unit


@dataclass(frozen=True)
class ProtoMaml(GradientLearner):
    """theta is the body alone; every task builds its own head from its support set.

    The meta-gradient is first-order in the steps (phi_T = phi_0(theta) + a constant) and exact in
    the start: it flows through the prototypes. ``steps = 0`` is the prototypical network.

    Where every sum over records must be noised, a support record is in T + 2 of them: the sum of
    its class's features, T inner gradients, and the backward pass through the prototypes, in which
    its features' Jacobian is multiplied with the query gradient of its class's prototype. A query
    record is in one sum. The last two sums run over all tasks of the round at once.
    """

    takes_stacks: ClassVar[bool] = True

    steps: Annotated[int, Field(ge=0, le=1000)] = 5
    """Inner steps T of a task in meta-training; 0 is the prototypical network."""

    def check(self, spec: TaskSpec, unit: Unit) -> None:
        """``ValueError`` for regression: prototypes are means of classes, and it has none."""
        super().check(spec, unit)
        require_classes(spec, "proto_maml")

    def initial(self, setting: Setting, seed: int) -> Tensor:
        """A fresh body."""
        return setting.network(0).initial(seed)

    def layers(self, setting: Setting) -> tuple[Layer, ...]:
        """The body's layers, and the head, which each task makes for itself."""
        return setting.network(setting.spec.outputs).layers(local_head=True)

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

        def one(theta: Tensor, support: Batch, query: Batch) -> tuple[Tensor, Tensor]:
            theta = theta.detach().requires_grad_()
            start = with_prototypes(setting, theta, support)
            moved, _ = descend(step, start.detach(), [support] * self.steps, self.lr)
            phi = start + (moved - start).detach()
            loss = setting.objective(net)(phi, query.x, query.y).mean(dim=-1)
            return torch.autograd.grad(loss.sum(), theta)[0], loss.detach()

        return each(one)

    def _noised(self, setting: Setting, session: Session) -> MetaGradient:
        net = setting.network(setting.spec.outputs)

        def meta_gradient(theta: Tensor, tasks: Tasks) -> tuple[Tensor, Tensor]:
            means = [_noisy_means(setting, theta, support, session) for support, _ in tasks]
            starts = [_start(theta, c) for c in means]
            steps = [[support] * self.steps for support, _ in tasks]
            ends = inner_loops(setting, net, session, starts, steps, self.lr)
            queries = [query for _, query in tasks]
            v, heads = _query_gradient(setting, theta, ends, queries, session)
            pulls = [_pull(c, head) for c, head in zip(means, heads, strict=True)]
            way_back = _way_back(setting, theta, [s for s, _ in tasks], pulls, session)
            return v + way_back, torch.full((), float("nan"), device=theta.device)

        return meta_gradient

    def direction_reach(self, means: Means) -> Reach | None:
        """The query gradient, and the way back through the prototypes."""
        return means["query"] + means["adjoint"]

    def adapt(
        self,
        setting: Setting,
        theta: Tensor,
        support: Batch,
        steps: int,
        session: Session = OPEN,
    ) -> Predictor:
        """Prototypes, then full-batch gradient descent; 0 steps uses the prototypes alone."""
        return from_prototypes(setting, theta, support, steps, self.lr, session)


def from_prototypes(
    setting: Setting, theta: Tensor, support: Batch, steps: int, lr: float, session: Session = OPEN
) -> Predictor:
    """A predictor from the body ``theta`` (dim,) by ``steps`` full-batch steps of rate ``lr``."""
    net = setting.network(setting.spec.outputs)
    with torch.no_grad():
        start = (
            with_prototypes(setting, theta, support)
            if session.raw
            else _start(theta, _noisy_means(setting, theta, support, session))
        )
    gradient = private_gradient(setting, net, session, "support")
    phi, _ = descend(gradient, start, [support] * steps, lr)
    return at_point(setting, phi)


def with_prototypes(setting: Setting, theta: Tensor, support: Batch) -> Tensor:
    """The body theta and the head of nearest class means of its features, as one vector (dim,)."""
    features = setting.network(0).forward(theta, support.x)
    return _start(theta, plain_means(features, support.y, setting.spec.outputs))


def _start(theta: Tensor, means: Tensor) -> Tensor:
    """theta and the linear head that measures squared distances to ``means`` (N, features)."""
    return torch.cat([theta, (2 * means).flatten(-2), -means.square().sum(dim=-1)], dim=-1)


def _noisy_means(setting: Setting, theta: Tensor, support: Batch, session: Session) -> Tensor:
    """Prototypes (N, features) from one noisy sum."""
    body = setting.network(0)

    def measure(x: Tensor) -> Tensor:
        return body.forward(theta, x)

    return class_means(measure, body.features, [support], session, setting.spec.outputs)


def _query_gradient(
    setting: Setting,
    theta: Tensor,
    ends: Sequence[Tensor],
    queries: Sequence[Batch],
    session: Session,
) -> tuple[Tensor, Tensor]:
    """Noisy mean query gradients: of the body (dim,), and of each task's head (tasks, head).

    One sum runs over the records of all tasks: a record adds its gradient of the body to the shared
    coordinates, and its gradient of the head to those of its task. Both are clipped as one vector.
    """
    net, dim = setting.network(setting.spec.outputs), len(theta)
    chosen = net.mask(session.trained | {"head"}, setting.device)[:dim].nonzero().squeeze(1)
    head = net.dim - dim

    def at(phi: Tensor, place: int) -> Contribution:
        def one(x: Tensor, y: Tensor) -> Tensor:
            g: Tensor = grad(lambda p: setting.objective(net)(p, x[None], y[None])[0])(phi)
            before, after = (g.new_zeros(head * n) for n in (place, len(ends) - 1 - place))
            return torch.cat([g[:dim][chosen], before, g[dim:], after])

        return one

    contributions = [(at(phi, i), q) for i, (phi, q) in enumerate(zip(ends, queries, strict=True))]
    gradient = session.mean(contributions, "query", len(chosen) + head * len(ends))
    v = torch.zeros_like(theta)
    v[chosen] = gradient[: len(chosen)]
    # a task's own mean: the sum is over the records of all tasks, which are equally large
    return v, gradient[len(chosen) :].view(len(ends), head) * len(ends)


def _pull(means: Tensor, head: Tensor) -> Tensor:
    """The gradient with respect to the prototypes ``means`` (N, features) behind the head's."""
    weights, biases = head[: -len(means)].view_as(means), head[-len(means) :]
    return 2 * weights - 2 * means * biases[:, None]


def _way_back(
    setting: Setting,
    theta: Tensor,
    supports: Sequence[Batch],
    pulls: Sequence[Tensor],
    session: Session,
) -> Tensor:
    """Noisy mean over the tasks of (d prototypes / d theta)^T pull (dim,), one sum for all."""
    body = setting.network(0)
    chosen = body.mask(session.trained, setting.device).nonzero().squeeze(1)

    def at(weights: Tensor) -> Contribution:
        def one(x: Tensor, y: Tensor) -> Tensor:
            g: Tensor = grad(lambda p: (body.forward(p, x[None])[0] * weights[y]).sum())(theta)
            return g[chosen]

        return one

    scaled = [p / _shares(setting, s)[:, None] for p, s in zip(pulls, supports, strict=True)]
    contributions = [(at(weights), s) for weights, s in zip(scaled, supports, strict=True)]
    gradient = torch.zeros_like(theta)
    gradient[chosen] = session.mean(contributions, "adjoint", len(chosen))
    return gradient


def _shares(setting: Setting, support: Batch) -> Tensor:
    """Share (N,) of each class in a support set; public, K of N * K."""
    counts = torch.bincount(support.y, minlength=setting.spec.outputs)
    return counts.to(support.x) / len(support.y)
