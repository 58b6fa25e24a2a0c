"""The parts every inner loop is built from, and what an algorithm must provide.

An algorithm is a frozen dataclass whose fields are its yaml options (``client.inner``). It turns
theta and a few episodes into an update (meta-training), and theta and a support set into a
predictor (adaptation). Learners without a head, with local heads or with learned rates have the
same methods: only the learner knows the length and meaning of theta.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Annotated, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from metaward.client.models import Architecture, Layer, Network, fed_shape, network
from metaward.client.tasks.base import Episode, FloatArray, IntArray, TaskSpec
from metaward.privacy import Batch, Kind, Objective, OpenSession, Session, Unit

Gradient = Callable[[Tensor, Batch], tuple[Tensor, Tensor]]
Pooled = Callable[[Sequence[tuple[Tensor, Batch]]], tuple[Tensor, Tensor]]
Direction = Callable[[Tensor, Sequence[Episode]], tuple[Tensor, Tensor]]
Predictor = Callable[[Tensor], Tensor]
Kept = Mapping[str, Tensor]
"""Vectors that a learner keeps at a hospital between rounds, by name (``client.memory``)."""

PREPARED = 256
"""Records that go through a fixed front at a time."""

Rate = Annotated[float, Field(gt=0, le=100)]
Steps = Annotated[int, Field(ge=1, le=1000)]
Lambda = Annotated[float, Field(ge=0, le=100)]


@dataclass(frozen=True)
class Update:
    """What meta-training gives: ``delta`` (dim,), the direction for theta, and the mean loss.

    ``keep`` stays at the hospital; the next update there finds it in ``setting.kept``.
    Only a learner that ``remembers`` may fill it.
    """

    delta: Tensor
    loss: Tensor
    keep: Kept = field(default_factory=dict)


class Setting:
    """What an algorithm works with: the task's shape, the architecture, the device.

    ``spec`` and all records of an algorithm have the shape that comes out of the network's fixed
    front, if it has one: ``prepare`` computes that part once a record. ``kept`` is what the last
    update at this hospital returned as ``keep``: empty at first, in adaptation, and for all
    learners that do not remember.
    """

    def __init__(self, architecture: Architecture, spec: TaskSpec, device: str = "cpu") -> None:
        self.device = torch.device(device)
        self.spec = replace(spec, input_shape=fed_shape(architecture, spec.input_shape))
        self.network: Callable[[int], Network] = cache(
            lambda outputs: network(architecture, self.spec, outputs, self.device)
        )
        self.front = architecture.front(spec.input_shape)
        self.kept: Kept = {}

    def prepare(self, x: FloatArray) -> FloatArray:
        """Records (n, *input_shape) through the fixed front; as they are where there is none."""
        if self.front is None:
            return x
        front = self.front.to(self.device)
        pieces = torch.split(torch.from_numpy(x), PREPARED)
        with torch.no_grad():
            done = [front(piece.to(self.device)).cpu() for piece in pieces]
        return np.asarray(torch.cat(done).numpy(), np.float32)

    def recalling(self, kept: Kept) -> Setting:
        """A copy of this setting in which ``kept`` has these vectors, moved to the device."""
        other = copy(self)
        other.kept = {name: vector.to(self.device) for name, vector in kept.items()}
        return other

    def objective(self, net: Network) -> Objective:
        """The task's loss of a network, one for each record."""
        return Objective(net.module, net.forward, self.spec.kind.losses)

    def support(self, episode: Episode) -> Batch:
        """The support set as tensors on the device."""
        return self._batch(episode.support_x, episode.support_y, episode.support_rows)

    def query(self, episode: Episode) -> Batch:
        """The query set as tensors on the device."""
        return self._batch(episode.query_x, episode.query_y, episode.query_rows)

    def _batch(self, x: NDArray[Any], y: NDArray[Any], rows: IntArray) -> Batch:
        to = self.device
        return Batch(torch.from_numpy(x).to(to), torch.from_numpy(y).to(to), rows)


class Algorithm(Protocol):
    """An entry of ``ALGORITHMS``; a learner that names it as its base class has its defaults."""

    @property
    def remembers(self) -> bool:
        """Whether it keeps vectors at a hospital between rounds (``client.memory``)."""
        return False

    @property
    def inner_steps(self) -> int:
        """How many steps meta-training takes on a task; 0 where it takes none."""
        return 0

    @property
    def takes_batches(self) -> bool:
        """Whether steps take mini-batches, so that a record's sums depend on the task's size."""
        return False

    @property
    def adapt_steps(self) -> int:
        """How many steps an unseen hospital adapts for."""
        ...

    def check(self, spec: TaskSpec, unit: Unit) -> None:
        """``ValueError``, with the way out, if it cannot learn such tasks or protect ``unit``."""
        ...

    def check_network(self, setting: Setting) -> None:
        """``ValueError``, with the way out, if it cannot learn with the setting's network."""
        return

    def initial(self, setting: Setting, seed: int) -> Tensor:
        """The first theta (dim,), a pure function of the seed; empty where nothing is learned."""
        ...

    def layers(self, setting: Setting) -> tuple[Layer, ...]:
        """The layers of theta, in order; then the layers that each task makes for itself, if any.

        A gradient over records has coordinates for all of them, theta for those not ``local``.
        """
        ...

    def update(
        self,
        setting: Setting,
        theta: Tensor,
        episodes: Sequence[Episode],
        session: Session,
        rng: np.random.Generator,
    ) -> Update:
        """One hospital's contribution of one round from its episodes.

        Records are reached through ``session`` alone. The sequence of sums must not depend on the
        records' values. ``check`` refuses the units whose sessions do not suit the learner.
        """
        ...

    def adapt(self, setting: Setting, theta: Tensor, support: Batch, steps: int) -> Predictor:
        """A predictor fitted to the support set; ``steps = 0`` uses theta without adaptation.

        It maps x (n, *input_shape) to the outputs of the kind of task: (n, N) logits for N-way
        tasks, (n, targets) for regression.
        """
        ...


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


def plain_gradient(setting: Setting, net: Network) -> Gradient:
    """The gradient without protection: for adaptation, whose result never leaves a hospital."""
    return private_gradient(setting, net, OpenSession(), "support")


def private_gradient(setting: Setting, net: Network, session: Session, kind: Kind) -> Gradient:
    """The session's gradient of the task's loss: meta-training may use no other."""
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


def require_classes(spec: TaskSpec, learner: str) -> None:
    """``ValueError`` where tasks have no classes and the learner needs their means or names."""
    if not spec.kind.classes:
        raise ValueError(f"{learner} needs classes; choose reptile, fomaml or maml")


def refuse_mixed_tasks(unit: Unit, local_lr: float) -> None:
    """``ValueError`` where a task is protected and the next task would start from its result."""
    if unit.clips_tasks and local_lr:
        raise ValueError(
            f"local_lr = {local_lr}: each task would start where the one before ended, so "
            f"clipping one task does not bound what it changes; set it to 0 for unit {unit.name}"
        )


@dataclass(frozen=True)
class GradientLearner(Algorithm):
    """Options and adaptation shared by all learners that fine-tune the whole network."""

    lr: Rate = 0.1
    """The inner rate."""
    steps: Steps = 5
    """Inner steps T of a task in meta-training."""
    adapt_steps: Steps = 10
    """Inner steps at an unseen hospital."""
    l2: Lambda = 0.0
    """The weight lambda of (lambda/2) * |theta|^2 in the outer objective."""
    local_lr: Annotated[float, Field(ge=0, le=100)] = 0.0
    """0: the mean direction over a round's tasks is sent. Above 0 (Per-FedAvg): the hospital takes
    an outer step of this rate after every task."""

    @property
    def inner_steps(self) -> int:
        """The option ``steps``."""
        return self.steps

    def check(self, spec: TaskSpec, unit: Unit) -> None:
        """Fine-tuning suits every task; a task's protection needs tasks that do not mix."""
        refuse_mixed_tasks(unit, self.local_lr)

    def initial(self, setting: Setting, seed: int) -> Tensor:
        """A fresh network with one output for each way (or target)."""
        return setting.network(setting.spec.outputs).initial(seed)

    def layers(self, setting: Setting) -> tuple[Layer, ...]:
        """The network's layers."""
        return setting.network(setting.spec.outputs).layers()

    def adapt(self, setting: Setting, theta: Tensor, support: Batch, steps: int) -> Predictor:
        """Full-batch gradient descent on the support set from theta."""
        net = setting.network(setting.spec.outputs)
        phi, _ = descend(plain_gradient(setting, net), theta, [support] * steps, self.lr)
        return lambda x: net.forward(phi, x)
