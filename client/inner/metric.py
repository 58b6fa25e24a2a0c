"""A shared metric: hospitals learn together how features vary within a class.

Nearest class means in Mahalanobis distance (Bateni, Goyal, Masrani, Wood, Sigal 2020: Improved
Few-Shot Visual Classification) are Fisher's linear discriminant (Hastie, Tibshirani, Friedman 2009:
The Elements of Statistical Learning, section 4.3). What a new hospital cannot know from a handful
of records is the covariance, and that is what the federation learns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isqrt
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from metaward.client.inner.base import (
    FAR,
    OPEN,
    Algorithm,
    Rate,
    Steps,
    require_classes,
    with_decay,
)
from metaward.client.inner.fitted import Fitted
from metaward.client.inner.heads import head_steps, joined, parted
from metaward.client.inner.means import Measure, class_means, plain_means
from metaward.client.inner.reach import Means, Reach
from metaward.client.inner.reptile import named
from metaward.client.inner.setting import Predictor, Setting, Update
from metaward.client.inner.steps import descend
from metaward.client.models import Layer
from metaward.client.tasks.base import Episode, TaskSpec
from metaward.privacy import Batch, Session, Unit

NEAR = 0.35
"""The clip norm of features around their centre, as a share of how far they lie from their class's
mean by a covariance that is mostly noise where few hospitals made it; chosen on phantoms."""


@dataclass(frozen=True)
class Metric(Algorithm):
    """theta is the covariance of the features within a class, packed; the body stays as it is.

    A hospital takes two sums over all records of a round. The first gives the mean feature of each
    of its classes; class names are the hospital's own, and no other hospital needs to share them.
    The second is of the outer products of each record's features around its class's mean. The
    update is the mean of these minus theta, so that with outer rate 1 one round is enough: using a
    record again gains nothing. No other learner here costs less privacy: a record pays for two sums
    in all (Dwork, Talwar, Thakurta, Zhang 2014: Analyze Gauss).

    An unseen hospital measures distances in the metric of the covariance, after ``shrink`` times
    the mean eigenvalue was added to each eigenvalue (Ledoit, Wolf 2004), and takes ``adapt_steps``
    full-batch steps of rate ``lr`` on metric and prototypes together, as Proto-MAML does. Where its
    adaptation is noised, class means are summed in the metric's coordinates and around the mean of
    all, and the steps move them alone: noise on the metric, which has as many coordinates as the
    features squared, would undo what the federation learned.
    """

    lr: Rate = 0.01
    """The rate of the steps at an unseen hospital."""
    adapt_steps: Steps = 10
    """Full-batch steps at an unseen hospital, on metric and prototypes together."""
    shrink: Annotated[float, Field(gt=0, le=100)] = 0.3
    """The share of the covariance's mean eigenvalue that is added to each eigenvalue."""
    spread: Annotated[float, Field(gt=0, le=1000)] | None = None
    """How far the support's features lie from their mean, as a root mean square, when the steps
    begin; null: as far as the metric says. A value makes `lr` suit features of any scale."""
    centre: bool = False
    """Whether a sum of its own gives the mean feature of all records first, and class means are
    summed around it. Features that lie far from zero then need a much smaller `clip_features`."""

    def check(self, spec: TaskSpec, unit: Unit) -> None:
        """``ValueError`` without classes, or if tasks are clipped alone: they are pooled here."""
        require_classes(spec, "metric")
        if unit.clips_tasks:
            raise ValueError(f"metric pools its tasks; no {unit.name} can be protected alone")

    def initial(self, setting: Setting, seed: int) -> Tensor:
        """The identity, which gives the Euclidean distance between features."""
        return pack(torch.eye(setting.network(0).features))

    def layers(self, setting: Setting) -> tuple[Layer, ...]:
        """The covariance, in the group of a body."""
        return (Layer("covariance", len(self.initial(setting, 0)), "body"),)

    def update(
        self,
        setting: Setting,
        theta: Tensor,
        episodes: Sequence[Episode],
        session: Session,
        rng: np.random.Generator,
    ) -> Update:
        """Mean outer product of the records' features around their classes' means, minus theta.

        The loss is their mean squared distance from the means.
        """
        if "body" not in session.trained:
            return Update(torch.zeros_like(theta), torch.zeros((), device=theta.device))
        batches = [named(setting, episode) for episode in episodes]
        means = vocabulary_means(setting, batches, session, self.centre)
        moments = second_moments(setting, batches, means, session)
        return Update(moments - theta, unpack(moments).trace())

    def reach(self, means: Means, tasks: int) -> Reach | None:
        """The second moments, and theta, which they replace."""
        return with_decay(means["moments"], 1.0) if "moments" in means else None

    def adapt(
        self,
        setting: Setting,
        theta: Tensor,
        support: Batch,
        steps: int,
        session: Session = OPEN,
    ) -> Predictor:
        """Nearest class means in the metric, then gradient steps; 0 steps uses the means alone."""
        seen = support._replace(x=features(setting)(support.x))
        if session.raw:
            mix, head = self._together(setting, theta, seen, steps)
        else:
            mix, head = self._noised(setting, theta, seen, steps, session)
        body, known = setting.network(0), setting.network(0).initial(0).to(theta)
        return Fitted(body, known, *parted(head, setting.spec.outputs), mix)

    def usual_clips(self, setting: Setting, theta: Tensor) -> Mapping[str, float]:
        """A share of how far features lie from their class's mean, by the covariance theta."""
        near = NEAR * _within(theta, self._mix(theta)) ** 0.5 or 1.0
        return {"features": near, "centre": FAR * near}

    def _together(
        self, setting: Setting, theta: Tensor, seen: Batch, steps: int
    ) -> tuple[Tensor, Tensor]:
        """Metric (d, d) and head after steps on both, from features ``seen`` (n, d)."""
        ways, width = setting.spec.outputs, setting.network(0).features

        def parts(phi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            mix, weights, biases = torch.split(phi, [width**2, ways * width, ways])
            return mix.view(width, width), weights.view(ways, width), biases

        def gradient(phi: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
            phi = phi.detach().requires_grad_()
            mix, weights, biases = parts(phi)
            outputs = functional.linear(batch.x @ mix.T, weights, biases)
            loss = setting.spec.kind.losses(outputs, batch.y).mean()
            return torch.autograd.grad(loss, phi)[0], loss.detach()

        start = self._start(theta, seen, ways)
        phi, _ = descend(gradient, start, [seen] * steps, self.lr)
        mix, weights, biases = parts(phi)
        return mix, joined(weights, biases)

    def _noised(
        self, setting: Setting, theta: Tensor, seen: Batch, steps: int, session: Session
    ) -> tuple[Tensor, Tensor]:
        """The same where every sum over records is noised: class means, then steps on the head."""
        ways, mix = setting.spec.outputs, self._mix(theta)
        whitened = seen._replace(x=seen.x @ mix.T)
        means = class_means(lambda z: z, len(mix), [whitened], session, ways, centred=True)
        shares = torch.bincount(seen.y, minlength=ways).to(means) / len(seen.y)
        factor = self._factor(_within(theta, mix) + _between(means, shares))
        start = joined(*_gaussian(factor * means))
        scaled = whitened._replace(x=factor * whitened.x)
        return factor * mix, head_steps(setting, start, scaled, ways, steps, self.lr, session)

    def _start(self, theta: Tensor, support: Batch, ways: int) -> Tensor:
        """Metric (d, d) and the linear head of the class means in it, as one vector."""
        mix = self._mix(theta)
        around = support.x @ mix.T
        around = around - around.mean(dim=0)
        mix = mix * self._factor(float(around.square().sum(dim=1).mean()))
        means = plain_means(support.x @ mix.T, support.y, ways)
        return torch.cat([mix.reshape(-1), joined(*_gaussian(means))])

    def _mix(self, theta: Tensor) -> Tensor:
        """The whitening (d, d) of theta."""
        known = _known(theta.cpu().numpy().tobytes(), theta.dtype, self.shrink)
        return known.to(theta.device)

    def _factor(self, square: float) -> float:
        """The factor that gives whitened features, whose mean squared distance from their mean is
        ``square``, the spread that the steps begin with."""
        return 1.0 if self.spread is None or square == 0 else self.spread / square**0.5


def _gaussian(means: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (N, d) and biases (N,) of a head whose outputs are the log densities of normal
    classes with these means and the unit covariance, up to a common term."""
    return means, -means.square().sum(dim=1) / 2


def _within(theta: Tensor, mix: Tensor) -> float:
    """The mean squared distance of features in the coordinates ``mix`` from their class's mean, by
    the covariance theta; no record is looked at. What noise has made negative counts as zero."""
    along = torch.linalg.eigh(unpack(theta).double())
    variances = along.eigenvalues.clamp(min=0)
    return float(variances @ (mix.double() @ along.eigenvectors).square().sum(dim=0))


def _between(means: Tensor, shares: Tensor) -> float:
    """That of the classes' means (N, d) from the mean of all, by the classes' shares (N,)."""
    return float(shares @ (means - shares @ means).square().sum(dim=1))


def second_moments(
    setting: Setting, batches: Sequence[Batch], means: Tensor, session: Session
) -> Tensor:
    """Mean outer product of the features around their class's mean, packed, from one sum."""
    measure = features(setting)

    def spread(x: Tensor, y: Tensor) -> Tensor:
        rest = measure(x[None])[0] - means[y]
        return pack(torch.outer(rest, rest))

    d = means.shape[1]
    return session.mean([(spread, batch) for batch in batches], "moments", d * (d + 1) // 2)


def features(setting: Setting) -> Measure:
    """x (n, *input_shape) -> the features (n, features) of the body at its start.

    The start is the same in every run, and depends on no record.
    """
    body = setting.network(0)
    start = body.initial(0)
    return lambda x: body.forward(start.to(x), x)


def pack(matrix: Tensor) -> Tensor:
    """A symmetric matrix (d, d) as (d (d + 1) / 2,): each pair is kept once,
    and the norm stays the same."""
    row, column = torch.triu_indices(*matrix.shape, device=matrix.device)
    twice: Tensor = (1 + (row != column)).to(matrix).sqrt()
    return matrix[row, column] * twice


def unpack(theta: Tensor) -> Tensor:
    """The symmetric matrix (d, d) of a packed one."""
    d = (isqrt(8 * len(theta) + 1) - 1) // 2
    row, column = torch.triu_indices(d, d, device=theta.device)
    once = (1 + (row != column)).to(theta).rsqrt()
    matrix = theta.new_zeros(d, d)
    matrix[row, column] = theta * once
    matrix[column, row] = theta * once
    return matrix


@lru_cache(maxsize=4)
def _known(theta: bytes, dtype: torch.dtype, shrink: float) -> Tensor:
    """The whitening of a packed covariance, found once for all episodes that it is judged on."""
    return whitening(unpack(torch.frombuffer(bytearray(theta), dtype=dtype)), shrink)


def whitening(covariance: Tensor, shrink: float) -> Tensor:
    """The matrix (d, d) that makes ``covariance``, after shrinkage, the identity.
    Eigenvalues that noise has made negative count as zero; where all do, the result is the identity
    up to a factor, which is the Euclidean distance.
    """
    values, vectors = torch.linalg.eigh(covariance.double())
    values = values.clamp(min=0)
    values = values + shrink * (float(values.mean()) or 1.0)
    root: Tensor = vectors * values.rsqrt() @ vectors.T
    return root.to(covariance)


def vocabulary_means(
    setting: Setting, batches: Sequence[Batch], session: Session, centred: bool
) -> Tensor:
    """Mean features (vocabulary, features) of the body at its start (``class_means``)."""
    width, names = setting.network(0).features, setting.spec.vocabulary
    return class_means(features(setting), width, batches, session, names, centred)
