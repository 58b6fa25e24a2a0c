"""A supervised embedding: classify all classes that hospitals share, keep the body for new tasks.

Chen, Liu, Kira, Wang, Huang 2019: A Closer Look at Few-shot Classification; Tian, Wang, Krishnan,
Tenenbaum, Isola 2020: Rethinking Few-Shot Image Classification: a Good Embedding Is All You Need?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from metaward.client.inner.base import (
    OPEN,
    Algorithm,
    Lambda,
    Rate,
    Steps,
    refuse_mixed_tasks,
    require_classes,
    with_decay,
)
from metaward.client.inner.programs import Task
from metaward.client.inner.proto_maml import from_prototypes
from metaward.client.inner.reach import Means, Reach
from metaward.client.inner.reptile import named
from metaward.client.inner.setting import Predictor, Setting, Update
from metaward.client.inner.steps import decay, over_tasks, pooled_gradient, together
from metaward.client.models import Layer, Network
from metaward.client.tasks.base import Episode, TaskSpec
from metaward.privacy import Batch, Session, Unit


@dataclass(frozen=True)
class Embedding(Algorithm):
    """theta is the body and a head with one output for each class name of the hospitals.

    All hospitals agree on the name of every class. The update is the direction of steepest descent
    of the cross-entropy over a round's tasks, support and query alike. An unseen hospital, whose
    classes may be new, keeps the body, replaces the head by its own prototypes, and fine-tunes as
    Proto-MAML does.

    It suits noisy sums: a round takes one sum, over all records of its tasks, and no step starts
    at the result of another noisy one, as long as ``local_lr`` is 0.
    """

    takes_stacks: ClassVar[bool] = True

    lr: Rate = 0.1
    """The rate of fine-tuning at an unseen hospital."""
    adapt_steps: Steps = 10
    """Full-batch steps at an unseen hospital."""
    l2: Lambda = 0.0
    """The weight lambda of (lambda/2) * |theta|^2 in the outer objective."""
    local_lr: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Above 0: the hospital takes a step of this rate after every task, each by a noisy sum."""

    def check(self, spec: TaskSpec, unit: Unit) -> None:
        """Prototypes are means of classes, and names are of classes: regression has neither."""
        refuse_mixed_tasks(unit, self.local_lr)
        require_classes(spec, "embedding")

    def initial(self, setting: Setting, seed: int) -> Tensor:
        """A fresh network with one output for each class name."""
        return self._network(setting).initial(seed)

    def layers(self, setting: Setting) -> tuple[Layer, ...]:
        """The network's layers."""
        return self._network(setting).layers()

    def update(
        self,
        setting: Setting,
        theta: Tensor,
        episodes: Sequence[Episode],
        session: Session,
        rng: np.random.Generator,
    ) -> Update:
        """-(mean gradient over the records of all tasks), minus lambda * theta."""
        slope = pooled_gradient(setting, self._network(setting), session, "support")
        pull = decay(self.layers(setting), torch.ones_like(theta), self.l2, session)

        def direction(theta: Tensor, tasks: Sequence[Task]) -> tuple[Tensor, Tensor]:
            g, loss = slope([(theta, named(setting, task)) for task in tasks])
            return -g - pull * theta, loss

        each = together(setting, (self, session.trained))
        return over_tasks(theta, episodes, direction, self.local_lr, session, each)

    def reach(self, means: Means, tasks: int) -> Reach | None:
        """One mean gradient and weight decay; with a local rate, a step for every task."""
        return with_decay(means["support"], self.l2, self.local_lr, tasks)

    def adapt(
        self,
        setting: Setting,
        theta: Tensor,
        support: Batch,
        steps: int,
        session: Session = OPEN,
    ) -> Predictor:
        """Proto-MAML's adaptation of the body; 0 steps is the prototypes alone."""
        body = theta[..., : self._network(setting).head.start]
        return from_prototypes(setting, body, support, steps, self.lr, session)

    def _network(self, setting: Setting) -> Network:
        return setting.network(setting.spec.vocabulary)
