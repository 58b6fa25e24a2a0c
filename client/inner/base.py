"""What an algorithm must provide, and the learner that most others are built on.

An algorithm is a frozen dataclass whose fields are its yaml options (``client.inner``). It turns
theta and a few episodes into an update (meta-training), and theta and a support set into a
predictor (adaptation). Learners without a head, with local heads or with learned rates have the
same methods: only the learner knows the length and meaning of theta.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Protocol

import numpy as np
from pydantic import Field
from torch import Tensor

from metaward.client.inner.fitted import at_point
from metaward.client.inner.reach import Means, Reach
from metaward.client.inner.setting import Predictor, Setting, Update
from metaward.client.inner.steps import descend, private_gradient
from metaward.client.models import Layer
from metaward.client.tasks.base import Episode, TaskSpec
from metaward.privacy import Batch, OpenSession, Session, Unit

Rate = Annotated[float, Field(gt=0, le=100)]
Steps = Annotated[int, Field(ge=1, le=1000)]
Lambda = Annotated[float, Field(ge=0, le=100)]

OPEN = OpenSession()
"""The session of an adaptation whose result stays at the hospital."""
FAR = 8.0
"""The clip norm of features' centre over that of features around it, chosen on phantoms."""


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

    takes_stacks: ClassVar[bool] = False
    """Whether ``adapt`` and the direction that ``over_tasks`` is given take stacks of tasks: theta
    is (tasks, dim) then, and all that comes out has the task axis first."""

    def __init_subclass__(cls, *args: Any, **kwargs: Any) -> None:
        """A learner that changes ``adapt`` or ``update`` gets one task at a time, unless its class
        says that it takes stacks as well."""
        super().__init_subclass__(*args, **kwargs)
        if {"adapt", "update"} & cls.__dict__.keys() and "takes_stacks" not in cls.__dict__:
            cls.takes_stacks = False

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

    def reach(self, means: Means, tasks: int) -> Reach | None:
        """How long an update of 1 to ``tasks`` tasks can be, made of means within ``means``; None
        where the learner does not say, and updates are judged by a fixed limit."""
        return None

    def usual_clips(self, setting: Setting, theta: Tensor) -> Mapping[str, float]:
        """The clip norm of kinds of sums in a noised adaptation, where theta alone tells a good
        one; of all other kinds it is that of meta-training."""
        return {}

    def adapt(
        self,
        setting: Setting,
        theta: Tensor,
        support: Batch,
        steps: int,
        session: Session = OPEN,
    ) -> Predictor:
        """A predictor fitted to the support set; ``steps = 0`` uses theta without adaptation.

        A learner that ``takes_stacks`` also fits a predictor for each of several tasks at once.

        It maps x (n, *input_shape) to the outputs of the kind of task: (n, N) logits for N-way
        tasks, (n, targets) for regression. Where it is a ``Fitted``, a hospital can write it as a
        module.

        ``session`` is open where the result stays at the hospital. Where it is to be published, the
        session noises every sum: then records are reached through it alone, as in ``update``, and
        the sequence of sums must not depend on their values.
        """
        ...


def require_classes(spec: TaskSpec, learner: str) -> None:
    """``ValueError`` where tasks have no classes and the learner needs their means or names."""
    if not spec.kind.classes:
        raise ValueError(f"{learner} needs classes; choose reptile, fomaml or maml")


def with_decay(
    direction: Reach | None, l2: float, local_lr: float = 0.0, tasks: int = 1
) -> Reach | None:
    """The reach of a ``direction`` with weight decay; of ``tasks`` steps where there is a local
    rate. None with both, since each step then decays from where the one before ended."""
    if direction is None or (l2 and local_lr):
        return None
    if local_lr:
        return direction.times(local_lr, tasks)
    return direction + Reach(0.0, 0.0, l2)


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

    takes_stacks: ClassVar[bool] = True

    def check(self, spec: TaskSpec, unit: Unit) -> None:
        """Fine-tuning suits every task; a task's protection needs tasks that do not mix."""
        refuse_mixed_tasks(unit, self.local_lr)

    def initial(self, setting: Setting, seed: int) -> Tensor:
        """A fresh network with one output for each way (or target)."""
        return setting.network(setting.spec.outputs).initial(seed)

    def layers(self, setting: Setting) -> tuple[Layer, ...]:
        """The network's layers."""
        return setting.network(setting.spec.outputs).layers()

    def reach(self, means: Means, tasks: int) -> Reach | None:
        """That of a direction and of weight decay; with a local rate, of a step for every task."""
        return with_decay(self.direction_reach(means), self.l2, self.local_lr, tasks)

    def direction_reach(self, means: Means) -> Reach | None:
        """How long the direction of a task, or the mean one, can be without weight decay."""
        return None

    def adapt(
        self,
        setting: Setting,
        theta: Tensor,
        support: Batch,
        steps: int,
        session: Session = OPEN,
    ) -> Predictor:
        """Full-batch gradient descent on the support set from theta."""
        net = setting.network(setting.spec.outputs)
        gradient = private_gradient(setting, net, session, "support")
        phi, _ = descend(gradient, theta, [support] * steps, self.lr)
        return at_point(setting, phi)
