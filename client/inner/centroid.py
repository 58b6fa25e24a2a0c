"""The baseline that every learner must beat: nearest neighbours in raw input space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metaward.client.inner.base import OPEN, Algorithm
from metaward.client.inner.means import class_means, plain_means
from metaward.client.inner.setting import Predictor, Setting, Update
from metaward.client.models import Layer
from metaward.client.tasks.base import Episode, TaskSpec
from metaward.privacy import Batch, Session, Unit


@dataclass(frozen=True)
class Centroid(Algorithm):
    """Nearest class mean of the raw support inputs; nothing is learned and nothing is sent.

    Where there are no classes, it predicts the label of the nearest support input.
    """

    @property
    def adapt_steps(self) -> int:
        """Adaptation is one look at the support set."""
        return 1

    def check(self, spec: TaskSpec, unit: Unit) -> None:
        """Nothing to refuse: distances suit every task, and nothing is sent."""

    def initial(self, setting: Setting, seed: int) -> Tensor:
        """Nothing to learn: an empty vector."""
        return torch.zeros(0)

    def layers(self, setting: Setting) -> tuple[Layer, ...]:
        """None: theta is empty."""
        return ()

    def update(
        self,
        setting: Setting,
        theta: Tensor,
        episodes: Sequence[Episode],
        session: Session,
        rng: np.random.Generator,
    ) -> Update:
        """An update of zeros."""
        return Update(torch.zeros_like(theta), torch.zeros(()))

    def adapt(
        self,
        setting: Setting,
        theta: Tensor,
        support: Batch,
        steps: int,
        session: Session = OPEN,
    ) -> Predictor:
        """Minus the distance to each class mean; before adaptation (0 steps) nothing is known."""
        x, y, _ = support
        spec = setting.spec
        certain = spec.kind.certain(spec, y)
        if steps == 0:
            return lambda q: certain.new_zeros(len(q), *certain.shape[1:])
        if not spec.kind.classes:
            if not session.raw:
                raise ValueError("the nearest support point shows a record; no noise covers it")
            return lambda q: certain[torch.cdist(q.flatten(1), x.flatten(1)).argmin(dim=1)]
        if session.raw:
            means = plain_means(x.flatten(1), y, spec.outputs)
        else:
            width = x[0].numel()
            means = class_means(lambda q: q.flatten(1), width, [support], session, spec.outputs)
        return lambda q: -torch.cdist(q.flatten(1), means)
