"""The steps of every inner loop: gradients of a session, descent, and the mean over tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from metaward.client.inner.setting import Setting, Update
from metaward.client.models import Layer, Network
from metaward.client.tasks.base import Episode
from metaward.privacy import Batch, Kind, Session

Gradient = Callable[[Tensor, Batch], tuple[Tensor, Tensor]]
Pooled = Callable[[Sequence[tuple[Tensor, Batch]]], tuple[Tensor, Tensor]]
Direction = Callable[[Tensor, Sequence[Episode]], tuple[Tensor, Tensor]]


def descend(
    gradient: Gradient, phi: Tensor, batches: Sequence[Batch], lr: float
) -> tuple[Tensor, Tensor]:
    """The inner loop: one gradient step per batch. Returns phi_T (dim,) and the last mean loss.

    For several tasks at once phi is (tasks, dim) and there is a loss for each (tasks,).
    """
    loss = torch.zeros(phi.shape[:-1], device=phi.device)
    for batch in batches:
        g, loss = gradient(phi, batch)
        phi = phi - lr * g
    return phi, loss


def private_gradient(setting: Setting, net: Network, session: Session, kind: Kind) -> Gradient:
    """The session's gradient of the task's loss: no learner may use another one."""
    pooled = pooled_gradient(setting, net, session, kind)
    return lambda phi, batch: pooled([(phi, batch)])


def pooled_gradient(setting: Setting, net: Network, session: Session, kind: Kind) -> Pooled:
    """The mean gradient over several tasks, each at its own phi, with one noise for the mean."""
    losses, mask = setting.objective(net), net.mask(session.trained).to(setting.device)
    return lambda at: session.gradient(losses, at, kind, mask)


def task_gradients(setting: Setting, net: Network, session: Session, kind: Kind) -> Gradient:
    """Each task's own gradient, all tasks at once: phi (tasks, dim), a batch with a task axis.

    ``descend`` takes it as it takes the gradient of one task.
    """
    losses, mask = setting.objective(net), net.mask(session.trained).to(setting.device)
    return lambda phi, tasks: session.gradients(losses, phi, tasks, kind, mask)


def over_tasks(
    theta: Tensor,
    episodes: Sequence[Episode],
    direction: Direction,
    local_lr: float,
    session: Session,
) -> Update:
    """A hospital's update from the mean direction that its tasks want theta to move in.

    Without a local rate it is the mean direction at theta. Where sums are noised, ``direction`` is
    called once for all tasks, so that a mean over tasks gets one noise; otherwise it is called for
    each task, and the session combines the results. With a local rate theta moves after every task,
    and the update is the whole way it moved (Fallah, Mokhtari, Ozdaglar 2020: Personalized
    Federated Learning with Theoretical Guarantees).
    """
    here, losses, directions = theta, [], []
    alone = session.raw or local_lr > 0
    for group in [[e] for e in episodes] if alone else [episodes]:
        delta, loss = direction(here, group)
        losses.append(loss)
        directions.append(delta)
        if local_lr:  # else a task whose direction is not finite would reach the others: 0 * inf
            here = here + local_lr * delta
    mean_loss = torch.stack(losses).mean()
    return Update(here - theta if local_lr else session.combine(directions), mean_loss)


def decay(layers: Sequence[Layer], theta: Tensor, weight: float, session: Session) -> Tensor:
    """The gradient (dim,) of (weight/2) * |theta|^2 over the coordinates that are trained.

    ``layers`` are those of the learner. What stays as it is, a frame or a group of layers that the
    mechanism does not train, is not pulled to zero either.
    """
    trained = [
        torch.full((layer.size,), float(layer.group in session.trained))
        for layer in layers
        if not layer.local
    ]
    return weight * torch.cat([torch.zeros(0), *trained]).to(theta) * theta
