"""The steps of every inner loop: gradients of a session, descent, and the mean over tasks."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from metaward.client.inner.programs import Task, Work
from metaward.client.inner.setting import Setting, Update
from metaward.client.models import Layer, Network
from metaward.client.tasks.base import Episode
from metaward.privacy import Batch, Kind, Session

Gradient = Callable[[Tensor, Batch], tuple[Tensor, Tensor]]
Pooled = Callable[[Sequence[tuple[Tensor, Batch]]], tuple[Tensor, Tensor]]
Direction = Callable[[Tensor, Sequence[Task]], tuple[Tensor, Tensor]]
"""(theta (dim,), tasks) -> their mean direction (dim,) and loss. Where a learner ``takes_stacks``,
theta (tasks, dim) and one stack of tasks -> a direction (tasks, dim) and a loss (tasks,) for each.
"""
Each = Callable[[Direction, Tensor, Sequence[Episode]], list[tuple[Tensor, Tensor]]]
"""The direction and the loss of each episode alone, all at the same theta (dim,)."""


def descend(
    gradient: Gradient, phi: Tensor, batches: Iterable[Batch], lr: float
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
    losses, mask = setting.objective(net), net.mask(session.trained, setting.device)
    return lambda at: session.gradient(losses, at, kind, mask)


def task_gradients(setting: Setting, net: Network, session: Session, kind: Kind) -> Gradient:
    """Each task's own gradient, all tasks at once: phi (tasks, dim), a batch with a task axis.

    ``descend`` takes it as it takes the gradient of one task. As many tasks as the setting computes
    at once are one call of the session; it draws the noise of all of them in their order.
    """
    losses, mask = setting.objective(net), net.mask(session.trained, setting.device)

    def gradients(phi: Tensor, tasks: Batch) -> tuple[Tensor, Tensor]:
        found = [
            session.gradients(losses, some, batch, kind, mask)
            for some, batch in pieces(setting, phi, tasks)
        ]
        g, loss = (torch.cat(list(column)) for column in zip(*found, strict=True))
        return g, loss

    return gradients


def pieces(setting: Setting, phi: Tensor, tasks: Batch) -> Iterator[tuple[Tensor, Batch]]:
    """Points (tasks, dim) and a stack of their tasks, as many as are summed and noised at once."""
    most = setting.at_once.noised(phi.shape[-1])
    for start in range(0, len(phi), most):
        part = slice(start, start + most)
        yield phi[part], Batch(tasks.x[part], tasks.y[part], tasks.rows[part])


def alike(sizes: Sequence[Hashable]) -> list[list[int]]:
    """The places of equal sizes, whose tasks can be stacked; in the order of the first ones."""
    found: dict[Hashable, list[int]] = {}
    for place, size in enumerate(sizes):
        found.setdefault(size, []).append(place)
    return list(found.values())


def inner_loops(
    setting: Setting,
    net: Network,
    session: Session,
    starts: Sequence[Tensor],
    batches: Sequence[Sequence[Batch]],
    lr: float,
) -> list[Tensor]:
    """phi_T (dim,) of each task, from its start (dim,) by a step for each of its batches.

    Tasks of equal sizes take each step together where sums are noised, so that their sums can be
    computed at once. Their noise is drawn step by step then, also where they are not.
    """
    if session.raw or not batches[0]:
        step = private_gradient(setting, net, session, "support")
        pairs = zip(starts, batches, strict=True)
        return [descend(step, start, own, lr)[0] for start, own in pairs]
    step, ends = task_gradients(setting, net, session, "support"), list(starts)
    for places in alike([len(own[0].rows) for own in batches]):
        stacks = (Batch.stack(now) for now in zip(*(batches[i] for i in places), strict=True))
        phi, _ = descend(step, torch.stack([starts[i] for i in places]), stacks, lr)
        for place, end in zip(places, phi, strict=True):
            ends[place] = end
    return ends


def one_by_one(
    direction: Direction, theta: Tensor, episodes: Sequence[Episode]
) -> list[tuple[Tensor, Tensor]]:
    """One episode after the other."""
    return [direction(theta, [episode]) for episode in episodes]


def together(setting: Setting, key: Hashable | None) -> Each:
    """All episodes as the setting computes several tasks (``client.inner.at_once``).

    ``key`` names what the direction does to its tasks: whatever it depends on beside theta, the
    tasks and the setting's networks. None where it draws random numbers.
    """

    def each(
        direction: Direction, theta: Tensor, episodes: Sequence[Episode]
    ) -> list[tuple[Tensor, Tensor]]:
        def program(theta: Tensor, task: Task) -> tuple[Tensor, ...]:
            return direction(theta, [task])

        points = [theta] * len(episodes)
        known = key and (setting.network, key)
        found = setting.at_once.run(Work(known, program, points, episodes, setting.stack))
        return [(delta, loss) for delta, loss in found]

    return each


def over_tasks(
    theta: Tensor,
    episodes: Sequence[Episode],
    direction: Direction,
    local_lr: float,
    session: Session,
    each: Each = one_by_one,
) -> Update:
    """A hospital's update from the mean direction that its tasks want theta to move in.

    Without a local rate it is the mean direction at theta. Where sums are noised, ``direction`` is
    called once for all tasks, so that a mean over tasks gets one noise; otherwise each task has a
    direction of its own, which ``each`` finds, and the session combines them. With a local rate
    theta moves after every task, and the update is the whole way it moved (Fallah, Mokhtari,
    Ozdaglar 2020: Personalized Federated Learning with Theoretical Guarantees).
    """
    if local_lr:
        return _moving(theta, episodes, direction, local_lr)
    pairs = each(direction, theta, episodes) if session.raw else [direction(theta, episodes)]
    directions, losses = zip(*pairs, strict=True)
    return Update(session.combine(directions), torch.stack(losses).mean())


def _moving(
    theta: Tensor, episodes: Sequence[Episode], direction: Direction, local_lr: float
) -> Update:
    here, losses = theta, []
    for episode in episodes:
        delta, loss = direction(here, [episode])
        losses.append(loss)
        here = here + local_lr * delta
    return Update(here - theta, torch.stack(losses).mean())


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
