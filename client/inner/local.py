"""Mean-regularised multi-task learning: every hospital keeps a model of its own.

Liu, Hu, Wu, Smith 2022: On Privacy and Personalization in Cross-Silo Federated Learning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor

from metaward.client.inner.fedavg import FedAvg
from metaward.client.inner.reach import Means, Reach
from metaward.client.inner.setting import Setting, Update
from metaward.client.inner.steps import decay, descend, private_gradient
from metaward.client.tasks.base import Episode, TaskSpec
from metaward.privacy import Batch, Session, Unit


@dataclass(frozen=True)
class Local(FedAvg):
    """Hospital h minimises f_h(w_h) + (``pull``/2) * |w_h - mean of all w|^2; theta is the mean.

    w_h stays at the hospital between rounds. A round trains it, from where the last one left it, on
    all tasks of the round together, in as many gradient steps as federated averaging takes. The
    gradient of the pull is taken at the end of each step, which keeps it stable at any rate:
    w <- (w - lr * g + lr * pull * theta) / (1 + lr * pull). The update is w_h - theta; with a plain
    mean and an outer rate of 1 the next theta is the mean of the models of the round's hospitals.

    ``pull = 0`` leaves the models alone, a large one makes them one model. A new hospital has no
    model: it gets theta and fine-tunes it, as under federated averaging.

    What leaves, and what is kept, is made of the session's gradients, theta and earlier models.
    Where these gradients are noised, all else is post-processing (``client.memory``).
    """

    takes_stacks: ClassVar[bool] = True

    remembers: ClassVar[bool] = True

    pull: Annotated[float, Field(ge=0, le=10_000)] = 0.1
    """The weight lambda of (lambda/2) * |w - theta|^2 in the objective of a hospital's own model w;
    0: the hospitals' models have nothing to do with each other."""

    def check(self, spec: TaskSpec, unit: Unit) -> None:
        """``ValueError`` for a unit that clips tasks: pooled tasks cannot be clipped alone, and a
        model that stays would carry records of one into the updates of others."""
        if unit.clips_tasks:
            raise ValueError(
                f"local pools its tasks and keeps a model; no {unit.name} can be protected alone; "
                "choose unit record, patient or hospital, or another learner"
            )

    def update(
        self,
        setting: Setting,
        theta: Tensor,
        episodes: Sequence[Episode],
        session: Session,
        rng: np.random.Generator,
    ) -> Update:
        """w - theta after ``steps`` steps for each task, minus lambda * theta; w is kept."""
        gradient = private_gradient(setting, self._network(setting), session, "support")

        def pulled(w: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
            g, loss = gradient(w, batch)
            return (g + self.pull * (w - theta)) / (1 + self.lr * self.pull), loss

        start = setting.kept.get("model", theta)
        w, loss = descend(pulled, start, self._batches(setting, episodes, rng), self.lr)
        pull = decay(self.layers(setting), theta, self.l2, session)
        return Update(w - theta - pull, loss, {"model": w})

    def reach(self, means: Means, tasks: int) -> Reach | None:
        """Unknown: how far w is from theta depends on all rounds before."""
        return None
