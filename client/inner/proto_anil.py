"""ANIL from prototypes, where every hospital is one large task.

Raghu, Raghu, Bengio, Vinyals 2020: Rapid Learning or Feature Reuse? Towards Understanding the
Effectiveness of MAML (ANIL: the inner loop moves the head alone); Triantafillou et al. 2020:
Meta-Dataset (Proto-MAML: the inner loop starts at the head of the class means).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from metaward.client.inner.base import (
    FAR,
    OPEN,
    Algorithm,
    Lambda,
    Rate,
    Steps,
    require_classes,
    with_decay,
)
from metaward.client.inner.fitted import Fitted
from metaward.client.inner.heads import head_steps, joined, parted
from metaward.client.inner.means import class_means, kept_means, plain_means
from metaward.client.inner.metric import vocabulary_means
from metaward.client.inner.reach import Means, Reach
from metaward.client.inner.reptile import named, pooled
from metaward.client.inner.setting import Kept, Predictor, Setting, Update
from metaward.client.inner.steps import decay
from metaward.client.models import Layer
from metaward.client.tasks.base import Episode, TaskSpec
from metaward.privacy import Batch, Objective, Session, Unit


@dataclass(frozen=True)
class ProtoAnil(Algorithm):
    """theta is a body that is linear in its input, such as ``adapter``; tasks make their own heads.

    A hospital pools the tasks of a round to one task of all its classes. The mean of each class, in
    the body's input, is taken in the first round and kept: the body maps it to the prototype of the
    class, whatever theta becomes. The inner loop starts at the head of the prototypes and takes
    ``steps`` full-batch steps of rate ``lr`` on it. The meta-gradient is that of the loss at its
    end: first-order in the steps, exact in the body and in the prototypes.

    Where sums are noised, a record is in ``steps`` sums of gradients of a head and in one of
    gradients of the body in each round, and once in a sum of features. The noise of each is divided
    by all records of the hospital and not by those of a small task, and no sum over records is
    needed to differentiate the prototypes.

    Distances d between a record and the prototypes give the logits -``temperature`` * d^2.
    """

    takes_stacks: ClassVar[bool] = True

    lr: Rate = 0.1
    """The rate of the inner loop, at training and at unseen hospitals."""
    steps: Annotated[int, Field(ge=0, le=1000)] = 1
    """Inner steps T on the head in a round; 0 leaves it at the prototypes."""
    adapt_steps: Steps = 10
    """Inner steps on the head at an unseen hospital."""
    temperature: Annotated[float, Field(gt=0, le=1000)] = 0.15
    """The factor of squared distances in the logits; a large one lets only records count that are
    near the border of two classes."""
    l2: Lambda = 0.0
    """The weight lambda of (lambda/2) * |theta|^2 in the outer objective."""
    centre: bool = False
    """Whether class means are summed around the mean of all records, which a sum before gives;
    where a first round takes them, `client.warm_up.centre` says so instead."""

    @property
    def remembers(self) -> bool:
        """The class means of the hospital are kept."""
        return True

    @property
    def inner_steps(self) -> int:
        """The option ``steps``."""
        return self.steps

    def check(self, spec: TaskSpec, unit: Unit) -> None:
        """``ValueError`` without classes, or if tasks are clipped alone: they are pooled here."""
        require_classes(spec, "proto_anil")
        if unit.clips_tasks:
            raise ValueError(f"proto_anil pools its tasks; no {unit.name} can be protected alone")

    def check_network(self, setting: Setting) -> None:
        """``ValueError`` where the body does not map class means to class means."""
        body, shape = setting.network(0), setting.spec.input_shape
        x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)).to(setting.device)
        theta = body.initial(0).to(setting.device)
        with torch.no_grad():
            apart = body.forward(theta, x).mean(dim=0) - body.forward(theta, x.mean(0, True))[0]
        if float(apart.abs().max()) > 1e-3 or len(shape) != 1:
            raise ValueError(
                "proto_anil keeps class means of the network's input, which this network does not "
                "map to class means; choose client.model.network: adapter, or proto_maml"
            )

    def initial(self, setting: Setting, seed: int) -> Tensor:
        """A fresh body."""
        return setting.network(0).initial(seed)

    def layers(self, setting: Setting) -> tuple[Layer, ...]:
        """The body's layers, and the head, which each task makes for itself."""
        return setting.network(setting.spec.outputs).layers(local_head=True)

    def update(
        self,
        setting: Setting,
        theta: Tensor,
        episodes: Sequence[Episode],
        session: Session,
        rng: np.random.Generator,
    ) -> Update:
        """-(mean over the records of d loss / d theta), minus lambda * theta on what is trained."""
        batches = [named(setting, episode) for episode in episodes]
        kept = setting.kept or self._means(setting, batches, session)
        batch, means = _known(pooled(batches), kept)
        moved = self._inner(setting, theta, means, batch, session)
        g, loss = self._outer(setting, theta, means, batch, moved, session)
        return Update(-g - decay(self.layers(setting), theta, self.l2, session), loss, kept)

    def reach(self, means: Means, tasks: int) -> Reach | None:
        """One mean gradient and weight decay."""
        return with_decay(means["query"], self.l2)

    def adapt(
        self,
        setting: Setting,
        theta: Tensor,
        support: Batch,
        steps: int,
        session: Session = OPEN,
    ) -> Predictor:
        """The head of the prototypes, then ``steps`` full-batch steps on it.

        Where it is noised, class means are summed in the body's output, whose coordinates are white
        where a first round has learned its frame, and around the mean of all records.
        """
        body, ways = setting.network(0), setting.spec.outputs
        with torch.no_grad():
            seen = support._replace(x=body.forward(theta, support.x))
            if session.raw:
                prototypes = plain_means(seen.x, support.y, ways)
            else:
                width = body.features
                prototypes = class_means(lambda z: z, width, [seen], session, ways, centred=True)
        head = head_steps(setting, self._start(prototypes), seen, ways, steps, self.lr, session)
        return Fitted(body, theta, *parted(head, ways))

    def usual_clips(self, setting: Setting, theta: Tensor) -> Mapping[str, float]:
        """How far features lie from their class's mean where they are white: in each coordinate as
        far as in any other, of which half is taken for noise of the frame."""
        near = (setting.network(0).features / 2) ** 0.5
        return {"features": near, "centre": FAR * near}

    def _means(self, setting: Setting, batches: Sequence[Batch], session: Session) -> Kept:
        """The class means, as the hospital keeps them."""
        return kept_means(vocabulary_means(setting, batches, session, self.centre), batches)

    def _inner(
        self, setting: Setting, theta: Tensor, means: Tensor, batch: Batch, session: Session
    ) -> Tensor:
        """How far the inner loop moves the head (classes * (features + 1),) from the prototypes."""
        body = setting.network(0)
        with torch.no_grad():
            features, prototypes = body.forward(theta, batch.x), body.forward(theta, means)
        seen, start = batch._replace(x=features), self._start(prototypes)
        steps, classes = self.steps, len(prototypes)
        return head_steps(setting, start, seen, classes, steps, self.lr, session) - start

    def _start(self, prototypes: Tensor) -> Tensor:
        """The linear head (classes * (features + 1),) whose outputs order classes by distance."""
        weights, biases = 2 * prototypes, -prototypes.square().sum(dim=-1)
        return self.temperature * joined(weights, biases)

    def _outer(
        self,
        setting: Setting,
        theta: Tensor,
        means: Tensor,
        batch: Batch,
        moved: Tensor,
        session: Session,
    ) -> tuple[Tensor, Tensor]:
        """Mean gradient (dim,) of the loss at the end of the inner loop, and the mean loss.

        The body sees each record as a short sequence, itself and then the class means, so that the
        gradient of one record is whole, with its part through the prototypes.
        """
        body, classes = setting.network(0), len(means)
        sequence = torch.cat([batch.x[:, None], means.expand(len(batch.x), -1, -1)], dim=1)
        weights, biases = parted(moved, classes)
        losses = setting.spec.kind.losses
        logits = _logits(self.temperature, weights, biases)
        objective = Objective(body.module, body.forward, lambda out, y: losses(logits(out), y))
        mask = body.mask(session.trained, setting.device)
        at = [(theta, batch._replace(x=sequence))]
        return session.gradient(objective, at, "query", mask)


def _known(batch: Batch, kept: Kept) -> tuple[Batch, Tensor]:
    """The records of the classes whose means are kept, numbered anew from 0, and these means."""
    held = kept["counts"].nonzero().squeeze(1)
    chosen = torch.isin(batch.y, held)
    rows = batch.rows[chosen.cpu().numpy()]
    labels = torch.searchsorted(held, batch.y[chosen])
    return Batch(batch.x[chosen], labels, rows), kept["means"][held]


def _logits(temperature: float, weights: Tensor, biases: Tensor) -> Callable[[Tensor], Tensor]:
    """Outputs (n, 1 + classes, features) -> logits (n, classes) of the head that moved so far."""

    def logits(outputs: Tensor) -> Tensor:
        record, prototypes = outputs[:, 0], outputs[:, 1:]
        head = 2 * temperature * prototypes + weights
        offset = biases - temperature * prototypes.square().sum(dim=2)
        return torch.einsum("nkd,nd->nk", head, record) + offset

    return logits
