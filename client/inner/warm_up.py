"""The first round of a run, in which the coordinates of a network's frame are learned.

Hospitals do not descend in it: they estimate how features vary within a class, and the frame
becomes the whitening of that covariance. A gradient that is clipped and noised in white coordinates
loses less of its direction, and one rate suits all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from metaward.client.inner.base import Algorithm
from metaward.client.inner.means import kept_means
from metaward.client.inner.metric import (
    Metric,
    second_moments,
    unpack,
    vocabulary_means,
    whitening,
)
from metaward.client.inner.reach import Means, Reach
from metaward.client.inner.reptile import named
from metaward.client.inner.setting import Setting, Update
from metaward.client.tasks.base import Episode, TaskSpec
from metaward.privacy import Session, Unit


@dataclass(frozen=True)
class WarmUp:
    """The section ``client.warm_up``: how the frame is learned."""

    shrink: Annotated[float, Field(gt=0, le=100)] = 0.3
    """The share of the covariance's mean eigenvalue that is added to each eigenvalue before the
    features are whitened."""
    centre: bool = False
    """Whether a sum of its own gives the mean feature of all records first, and class means are
    summed around it. Features that lie far from zero then need a much smaller `clip_features`."""


@dataclass(frozen=True)
class FirstRound:
    """The work of a hospital in the first round, and what the server makes of it.

    theta is that of ``learner``, which works in all later rounds.
    """

    warm_up: WarmUp
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
        means = vocabulary_means(setting, batches, session, self.warm_up.centre)
        packed = second_moments(setting, batches, means, session)
        delta, place = torch.zeros_like(theta), self._place(setting)
        delta[place.start : place.start + len(packed)] = packed
        keep = kept_means(means, batches) if self.learner.remembers else {}
        return Update(delta, unpack(packed).trace(), keep)

    def reach(self, means: Means, tasks: int) -> Reach | None:
        """The second moments."""
        return means["moments"]

    def settle(self, setting: Setting, theta: Tensor, combined: Tensor) -> Tensor:
        """theta with the whitening of the hospitals' ``combined`` covariance as its frame."""
        features, place = setting.network(0).features, self._place(setting)
        packed = combined[place.start : place.start + features * (features + 1) // 2]
        settled = theta.clone()
        settled[place] = whitening(unpack(packed), self.warm_up.shrink).reshape(-1)
        return settled

    def check(self, setting: Setting, spec: TaskSpec, unit: Unit) -> None:
        """``ValueError`` where network or learner have no frame, where tasks have no classes, or
        are clipped alone: they are pooled here."""
        Metric().check(spec, unit)
        if not any(layer.group == "frame" for layer in setting.network(0).layers()):
            raise ValueError(
                "there is no frame in this network that a first round could learn; choose "
                "client.model.network: adapter, or set warm_up to null"
            )
        if self.learner.layers(setting):  # one that has nothing to learn is refused for that
            self._place(setting)

    def _place(self, setting: Setting) -> slice:
        """The frame's coordinates in theta."""
        at = 0
        for layer in self.learner.layers(setting):
            if layer.group == "frame":
                return slice(at, at + layer.size)
            at += layer.size
        raise ValueError("the learner's theta holds no frame; set it to null")
