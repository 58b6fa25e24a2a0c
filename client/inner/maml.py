"""MAML, exact and first-order (Finn, Abbeel, Levine 2017: Model-Agnostic Meta-Learning)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.func import grad

from metaward.client.inner.base import GradientLearner
from metaward.client.inner.programs import Task
from metaward.client.inner.reach import Means, Reach
from metaward.client.inner.setting import Setting, Update
from metaward.client.inner.steps import (
    alike,
    decay,
    inner_loops,
    over_tasks,
    pieces,
    pooled_gradient,
    private_gradient,
    task_gradients,
    together,
)
from metaward.client.models import Network
from metaward.client.tasks.base import Episode
from metaward.privacy import Batch, Session

Tasks = Sequence[tuple[Batch, Batch]]
"""Support and query of each task."""

MetaGradient = Callable[[Tensor, Tasks], tuple[Tensor, Tensor]]
"""(theta (dim,), tasks) -> their mean meta-gradient (dim,) and query loss."""

LossAt = Callable[[Tensor, Batch], Tensor]
"""(phi (dim,), records) -> their mean loss; (phi (tasks, dim), a stack of tasks) -> one a task."""


@dataclass(frozen=True)
class Fomaml(GradientLearner):
    """First-order MAML: the query gradient at phi_T, as if phi_T did not depend on theta."""

    takes_stacks: ClassVar[bool] = True

    def update(
        self,
        setting: Setting,
        theta: Tensor,
        episodes: Sequence[Episode],
        session: Session,
        rng: np.random.Generator,
    ) -> Update:
        """-(mean over the tasks of the query gradient at phi_T), minus lambda * theta."""
        net = setting.network(setting.spec.outputs)
        outer = pooled_gradient(setting, net, session, "query")

        def meta_gradient(theta: Tensor, tasks: Tasks) -> tuple[Tensor, Tensor]:
            steps = [[support] * self.steps for support, _ in tasks]
            starts = [theta] * len(tasks)
            adapted = inner_loops(setting, net, session, starts, steps, self.lr)
            return outer([(phi, q) for phi, (_, q) in zip(adapted, tasks, strict=True)])

        return meta_update(setting, theta, episodes, meta_gradient, self, session)

    def direction_reach(self, means: Means) -> Reach | None:
        """The query gradient."""
        return means["query"]


@dataclass(frozen=True)
class Maml(GradientLearner):
    """Exact second-order MAML: the query loss at phi_T(theta), differentiated through all T steps.

    Where the learner sees raw records, ``backward`` chooses the way back through the steps. Where
    every sum over records must be noised it is always the recursion, whose step is one noisy mean:
    clipping the query gradient alone would let support records through the Hessian without noise.
    """

    takes_stacks: ClassVar[bool] = True

    backward: Literal["graph", "recursion"] = "graph"
    """`graph` keeps what autograd needs of every inner step, so memory grows with the steps.
    `recursion` keeps theta of every step only and takes v <- v - lr * mean_j(H_j(phi_t) v) for
    t = T-1 .. 0: the same derivative, in the memory of one step whatever their number, for a little
    more time."""

    def update(
        self,
        setting: Setting,
        theta: Tensor,
        episodes: Sequence[Episode],
        session: Session,
        rng: np.random.Generator,
    ) -> Update:
        """-(mean over the tasks of d query loss(phi_T(theta)) / d theta), minus lambda * theta."""
        net = setting.network(setting.spec.outputs)
        meta_gradient = (
            self._exact(setting, net, session)
            if session.raw
            else self._adjoint(setting, net, session)
        )
        return meta_update(setting, theta, episodes, meta_gradient, self, session)

    def direction_reach(self, means: Means) -> Reach | None:
        """The query gradient, and a Hessian product for each step on the way back."""
        return means["query"] + means["adjoint"].times(self.lr, self.steps)

    def _exact(self, setting: Setting, net: Network, session: Session) -> MetaGradient:
        inner = private_gradient(setting, net, session, "support")
        outer = private_gradient(setting, net, session, "query")

        def loss_at(phi: Tensor, batch: Batch) -> Tensor:
            return setting.objective(net)(phi, batch.x, batch.y).mean(dim=-1)

        def by_graph(theta: Tensor, support: Batch, query: Batch) -> tuple[Tensor, Tensor]:
            start = phi = theta.detach().requires_grad_()
            for _ in range(self.steps):
                (g,) = torch.autograd.grad(loss_at(phi, support).sum(), phi, create_graph=True)
                phi = phi - self.lr * g
            loss = loss_at(phi, query)
            return torch.autograd.grad(loss.sum(), start)[0], loss.detach()

        def by_recursion(theta: Tensor, support: Batch, query: Batch) -> tuple[Tensor, Tensor]:
            path = [theta.detach()]
            for _ in range(self.steps):
                path.append(path[-1] - self.lr * inner(path[-1], support)[0])
            v, loss = outer(path[-1], query)
            for phi in reversed(path[:-1]):
                v = v - self.lr * hessian_product(loss_at, phi, v, support)
            return v, loss

        return each(by_graph if self.backward == "graph" else by_recursion)

    def _adjoint(self, setting: Setting, net: Network, session: Session) -> MetaGradient:
        inner = task_gradients(setting, net, session, "support")
        outer = task_gradients(setting, net, session, "query")
        product = hessian_products(setting, net, session)

        def several(theta: Tensor, support: Batch, query: Batch) -> tuple[Tensor, Tensor]:
            path = [theta]
            for _ in range(self.steps):
                path.append(path[-1] - self.lr * inner(path[-1], support)[0])
            v, loss = outer(path[-1], query)
            for phi in reversed(path[:-1]):
                v = v - self.lr * product(phi, v, support)
            return v, loss

        return each_stack(several)


def hessian_product(loss_at: LossAt, phi: Tensor, v: Tensor, batch: Batch) -> Tensor:
    """The Hessian of the mean loss at phi (dim,), or (tasks, dim), times v of the same shape.

    The gradient of the gradient's product with v (Pearlmutter 1994: Fast Exact Multiplication by
    the Hessian), which is Hv because Hessians are symmetric.
    """
    phi = phi.detach().requires_grad_()
    (g,) = torch.autograd.grad(loss_at(phi, batch).sum(), phi, create_graph=True)
    return torch.autograd.grad(g, phi, v)[0]


def hessian_products(
    setting: Setting, net: Network, session: Session
) -> Callable[[Tensor, Tensor, Batch], Tensor]:
    """(phi (tasks, dim), v (tasks, dim), a stack of support sets) -> each task's noisy mean of its
    records' Hessians at its phi, times its v (tasks, dim)."""
    chosen = net.mask(session.trained, setting.device).nonzero().squeeze(1)

    def one(phi: Tensor, v: Tensor, x: Tensor, y: Tensor) -> Tensor:
        slope = grad(lambda p: setting.objective(net)(p, x[None], y[None])[0])
        product: Tensor = grad(lambda p: slope(p) @ v)(phi)  # Hessians are symmetric
        return product[chosen]

    def products(phi: Tensor, v: Tensor, support: Batch) -> Tensor:
        noisy, pairs = torch.zeros_like(phi), torch.stack([phi, v], dim=1)
        means = [
            session.means(one, pair.unbind(1), some, "adjoint", len(chosen))
            for pair, some in pieces(setting, pairs, support)
        ]
        noisy[:, chosen] = torch.cat(means)
        return noisy

    return products


def each(one: Callable[[Tensor, Batch, Batch], tuple[Tensor, Tensor]]) -> MetaGradient:
    """The mean of a meta-gradient that is taken task by task."""

    def meta_gradient(theta: Tensor, tasks: Tasks) -> tuple[Tensor, Tensor]:
        results = [one(theta, support, query) for support, query in tasks]
        g, loss = (torch.stack(list(column)).mean(dim=0) for column in zip(*results, strict=True))
        return g, loss

    return meta_gradient


def each_stack(one: Callable[[Tensor, Batch, Batch], tuple[Tensor, Tensor]]) -> MetaGradient:
    """The mean of a meta-gradient that is taken of stacks of tasks of equal sizes."""

    def meta_gradient(theta: Tensor, tasks: Tasks) -> tuple[Tensor, Tensor]:
        results = []
        for places in alike([(len(support.rows), len(query.rows)) for support, query in tasks]):
            support, query = map(Batch.stack, zip(*(tasks[i] for i in places), strict=True))
            results.append(one(theta.expand(len(places), -1), support, query))
        g, loss = (torch.cat(list(column)).mean(dim=0) for column in zip(*results, strict=True))
        return g, loss

    return meta_gradient


def meta_update(
    setting: Setting,
    theta: Tensor,
    episodes: Sequence[Episode],
    meta_gradient: MetaGradient,
    learner: GradientLearner,
    session: Session,
) -> Update:
    """The update: minus the meta-gradient of the query loss + (lambda/2) |theta|^2."""
    pull = decay(learner.layers(setting), torch.ones_like(theta), learner.l2, session)

    def direction(theta: Tensor, tasks: Sequence[Task]) -> tuple[Tensor, Tensor]:
        g, loss = meta_gradient(theta, [(setting.support(t), setting.query(t)) for t in tasks])
        return -(g + pull * theta), loss

    each = together(setting, (learner, session.trained))
    return over_tasks(theta, episodes, direction, learner.local_lr, session, each)
