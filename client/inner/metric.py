"""A shared metric: hospitals learn together how features vary within a class.

Nearest class means in Mahalanobis distance (Bateni, Goyal, Masrani, Wood, Sigal 2020: Improved
Few-Shot Visual Classification) are Fisher's linear discriminant (Hastie, Tibshirani, Friedman 2009:
The Elements of Statistical Learning, section 4.3). What a new hospital cannot know from a handful
of records is the covariance, and that is what the federation learns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isqrt
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from metaward.client.inner.base import Algorithm, Rate, Steps, require_classes
from metaward.client.inner.fitted import Fitted
from metaward.client.inner.reptile import named
from metaward.client.inner.setting import Kept, Predictor, Setting, Update
from metaward.client.inner.steps import descend
from metaward.client.models import Layer
from metaward.client.tasks.base import Episode, TaskSpec
from metaward.privacy import Batch, Session, Unit


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
    full-batch steps of rate ``lr`` on metric and prototypes together, as Proto-MAML does.
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
        means = class_means(setting, batches, session, self.centre)
        moments = second_moments(setting, batches, means, session)
        return Update(moments - theta, unpack(moments).trace())

    def adapt(self, setting: Setting, theta: Tensor, support: Batch, steps: int) -> Predictor:
        """Nearest class means in the metric, then gradient steps; 0 steps uses the means alone."""
        ways, width = setting.spec.outputs, setting.network(0).features
        measure = features(setting)
        seen = Batch(measure(support.x), support.y, support.rows)

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
        body, known = setting.network(0), setting.network(0).initial(0).to(theta)
        return Fitted(body, known, weights, biases, mix)

    def _start(self, theta: Tensor, support: Batch, ways: int) -> Tensor:
        """Metric (d, d) and the linear head of the class means in it, as one vector.
        The head's outputs are the log densities of normal classes, up to a common term.
        """
        mix = _known(theta.cpu().numpy().tobytes(), theta.dtype, self.shrink).to(theta.device)
        mix = mix * self._factor(support.x @ mix.T)
        whitened = support.x @ mix.T
        means = torch.stack([whitened[support.y == c].mean(dim=0) for c in range(ways)])
        parts = [mix, means, -means.square().sum(dim=1) / 2]
        return torch.cat([part.reshape(-1) for part in parts])

    def _factor(self, whitened: Tensor) -> float:
        """The factor that gives ``whitened`` (n, d) the spread that the steps begin with."""
        far = float((whitened - whitened.mean(dim=0)).square().sum(dim=1).mean().sqrt())
        return 1.0 if self.spread is None or far == 0 else self.spread / far


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


def features(setting: Setting) -> Callable[[Tensor], Tensor]:
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


def class_means(
    setting: Setting, batches: Sequence[Batch], session: Session, centred: bool
) -> Tensor:
    """Mean features (vocabulary, features) from one sum; a record adds its own to its class.

    ``centred``: a sum before it gives the mean of all records, and what a record adds is the
    difference from that. How many records a class has is public.
    """
    names, width, measure = setting.spec.vocabulary, setting.network(0).features, features(setting)

    def whole(x: Tensor, y: Tensor) -> Tensor:
        return measure(x[None])[0]

    pairs = [(whole, batch) for batch in batches]
    centre = session.mean(pairs, "centre", width) if centred else torch.zeros(width)
    centre = centre.to(batches[0].x.device)

    def one(x: Tensor, y: Tensor) -> Tensor:
        mine = whole(x, y) - centre
        return torch.outer(functional.one_hot(y, names).to(mine), mine).reshape(-1)

    sums = session.mean([(one, batch) for batch in batches], "features", names * width)
    labels = torch.cat([batch.y for batch in batches])
    shares = torch.bincount(labels, minlength=names).clamp(min=1).to(sums) / len(labels)
    return sums.view(names, width) / shares[:, None] + centre


def kept_means(means: Tensor, batches: Sequence[Batch]) -> Kept:
    """``means`` (vocabulary, features) as a hospital keeps them, with the number of records of each
    class behind them, ``counts`` (vocabulary,), which is public."""
    labels = torch.cat([batch.y for batch in batches])
    return {"means": means, "counts": torch.bincount(labels, minlength=len(means))}
