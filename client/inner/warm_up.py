"""The first round of a run, in which the coordinates of a network's frame are learned.

Hospitals do not descend in it: they estimate how features vary within a class, and the frame
becomes the whitening of that covariance. A gradient that is clipped and noised in white coordinates
loses less of its direction, and one rate suits all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metaward.client.inner.base import Algorithm, Setting, Update
from metaward.client.inner.metric import (
    Metric,
    class_means,
    kept_means,
    second_moments,
    unpack,
    whitening,
)
from metaward.client.inner.reptile import named
from metaward.client.models import Layer
from metaward.client.tasks.base import Episode
from metaward.privacy import Session


@dataclass(frozen=True)
class WarmUp:
    """The work of a hospital in the first round, and what the server makes of it."""

    metric: Metric
    learner: Algorithm

    def update(
        self,
        setting: Setting,
        theta: Tensor,
        episodes: Sequence[Episode],
        session: Session,
        rng: np.random.Generator,
    ) -> Update:
        """The hospital's packed covariance, at the beginning of the frame's coordinates (dim,).

        A learner that remembers finds the class means in the next round.
        """
        batches = [named(setting, episode) for episode in episodes]
        means = class_means(setting, batches, session)
        packed = second_moments(setting, batches, means, session)
        delta, place = torch.zeros_like(theta), self._place(setting)
        delta[place.start : place.start + len(packed)] = packed
        keep = kept_means(means, batches) if self.learner.remembers else {}
        return Update(delta, unpack(packed).trace(), keep)

    def settle(self, setting: Setting, theta: Tensor, combined: Tensor) -> Tensor:
        """theta with the whitening of the hospitals' ``combined`` covariance as its frame."""
        size, place = len(self.metric.initial(setting, 0)), self._place(setting)
        covariance = unpack(combined[place.start : place.start + size])
        settled = theta.clone()
        settled[place] = whitening(covariance, self.metric.shrink).reshape(-1)
        return settled

    def check(self, setting: Setting) -> None:
        """``ValueError`` where the network has no frame."""
        self._place(setting)

    def _place(self, setting: Setting) -> slice:
        """The frame's coordinates in theta."""
        at = 0
        layers: Sequence[Layer] = self.learner.layers(setting)
        for layer in layers:
            if layer.group == "frame":
                return slice(at, at + layer.size)
            at += layer.size
        raise ValueError(
            "there is no frame in this network that a first round could learn; choose "
            "client.model.network: adapter, or set warm_up to null"
        )
