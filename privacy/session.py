"""What an algorithm may do with private records: ask for noisy means, nothing else.

An algorithm reaches its records through a ``Session`` alone. A mechanism opens one for each
request, after the price has been charged; ``Rehearsal`` is the session that touches nothing and
writes down what the algorithm is going to ask for, which is how the price is known beforehand.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import grad, vmap

from metaward.privacy.kernel import Kernel

Rows = NDArray[np.int64]
TrainedGroup = Literal["body", "norm", "head"]
"""Coordinates of theta that gradients can train: weights of the body, gains and offsets of its
GroupNorm, the head."""
ParameterGroup = TrainedGroup | Literal["frame"]
"""The same, and the coordinates in which a body sees its input, which no gradient changes."""
ALL_GROUPS: frozenset[ParameterGroup] = frozenset(get_args(TrainedGroup))

Kind = Literal["support", "query", "adjoint", "centre", "features", "moments", "update", "open"]
"""What is summed: gradients of support or query records, Hessian or Jacobian products, features of
all records for their common centre, features by class, their second moments; or whole updates of
tasks or hospitals; ``open``: records used without any protection.

Each kind has its own clip norm and noise multiplier, because their sizes differ.
"""


class Batch(NamedTuple):
    """Records: ``x`` (n, ...), ``y`` (n, ...), and ``rows`` (n,): which of the hospital's."""

    x: Tensor
    y: Tensor
    rows: Rows

    @classmethod
    def stack(cls, batches: Sequence[Batch]) -> Batch:
        """Batches of several tasks as one with a task axis: ``x`` (tasks, n, ...), and so on.

        ``ValueError`` where tasks differ in size: what works on them together needs equal ones.
        """
        sizes = sorted({len(batch.rows) for batch in batches})
        if len(sizes) != 1:
            raise ValueError(f"tasks of {sizes} records cannot be stacked; group equal ones")
        x, y, rows = zip(*batches, strict=True)
        return cls(torch.stack(x), torch.stack(y), np.stack(rows))

    def unstack(self) -> list[Batch]:
        """The inverse: each task's batch."""
        return [Batch(*task) for task in zip(*self, strict=True)]


Losses = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(phi (dim,), x (n, ...), y (n, ...)) -> one loss a record (n,)."""


@dataclass(frozen=True)
class Objective:
    """The loss of a network, as a function of its flat vector: a ``Losses`` that shows its module.

    ``module`` has the parameters that phi (dim,) holds, in this order, with their shapes.
    ``forward``: (phi, x (n, ...)) -> outputs (n, ...); ``loss``: (outputs, y (n, ...)) -> one loss
    a record (n,). ``kernel`` gives the gradients where only these are asked for.
    """

    module: nn.Module
    forward: Callable[[Tensor, Tensor], Tensor]
    loss: Callable[[Tensor, Tensor], Tensor]
    kernel: Kernel | None = None

    def __call__(self, phi: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """One loss a record: (n,), or (tasks, n) at points ``phi`` (tasks, dim)."""
        if phi.ndim == 2:
            together: Tensor = vmap(self)(phi, x, y)
            return together
        return self.loss(self.forward(phi, x), y)


Contribution = Callable[[Tensor, Tensor], Tensor]
"""One record's (x, y), without a batch axis, -> its vector (d,). Pure, so that vmap can take it."""

TaskContribution = Callable[..., Tensor]
"""A contribution of which every task has its own: (*the task's tensors, x, y) -> the vector (d,) of
one record of that task. Pure, like those."""

Contributions = Sequence[tuple[Contribution, Batch]]
"""Records of several tasks, each task with its own contribution, all of one length (d,)."""


Points = Sequence[tuple[Tensor, Batch]]
"""Records of several tasks, each task with the phi (dim,) at which its gradient is taken."""

MeanGradient = tuple[Tensor, Tensor]
"""A mean gradient, and the mean loss."""


class Use(NamedTuple):
    """One noisy mean that was or will be asked for: over which records, of which kind."""

    kind: Kind
    rows: tuple[int, ...]


class Session(ABC):
    """One hospital's records, open for one request."""

    raw: bool = False
    """Whether records may be used freely: what comes out is protected later, or not at all."""
    trained: frozenset[ParameterGroup] = ALL_GROUPS
    """Which coordinates are trained; the others stay where theta has them."""

    def gradient(
        self,
        losses: Losses,
        at: Points,
        kind: Kind,
        mask: Tensor,
        beside: Contributions = (),
    ) -> MeanGradient:
        """Mean gradient (dim,) over the records of all tasks, each at its own phi; the mean loss.

        It is zero outside ``mask`` (dim,) bool, and the ``mean`` of the records' own gradients
        within. ``beside`` are further records of the same sum, whose vectors (d,) have a coordinate
        for each one in the mask. The loss (a scalar tensor) is for the hospital's own eyes; NaN
        where none looks.
        """
        chosen, one = mask.nonzero().squeeze(1), gradient(losses)

        def contribution(phi: Tensor) -> Contribution:
            return lambda x, y: one(phi, x, y)[chosen]

        found = torch.zeros_like(at[0][0])
        contributions = [*((contribution(phi.detach()), batch) for phi, batch in at), *beside]
        found[chosen] = self.mean(contributions, kind, len(chosen)).to(found)
        return found, torch.full((), float("nan"), device=found.device)

    def gradients(
        self, losses: Losses, phi: Tensor, tasks: Batch, kind: Kind, mask: Tensor
    ) -> MeanGradient:
        """Each task's own mean gradient (tasks, dim) at its own ``phi`` (tasks, dim).

        ``tasks`` has a task axis before the records' (``Batch.stack``). One use and one noise a
        task: price, protection and result are those of one ``gradient`` after the other. The losses
        (tasks,) are for the hospital's own eyes.
        """
        pairs = [
            self.gradient(losses, [(one, batch)], kind, mask)
            for one, batch in zip(phi, tasks.unstack(), strict=True)
        ]
        g, loss = (torch.stack(list(column)) for column in zip(*pairs, strict=True))
        return g, loss

    def means(
        self,
        contribution: TaskContribution,
        given: Sequence[Tensor],
        tasks: Batch,
        kind: Kind,
        dim: int,
    ) -> Tensor:
        """Each task's own ``mean`` (tasks, dim), one use and one noise a task, in their order.

        ``given`` are the tensors that ``contribution`` takes of each task, with a task axis first;
        ``tasks`` has it, too (``Batch.stack``).
        """
        each = zip(zip(*given, strict=True), tasks.unstack(), strict=True)
        return torch.stack(
            [self.mean([(partial(contribution, *own), batch)], kind, dim) for own, batch in each]
        )

    @abstractmethod
    def mean(self, contributions: Contributions, kind: Kind, dim: int) -> Tensor:
        """Mean (dim,) over the records of all ``contributions``.

        One noise for all of them: where the tasks of a round are only averaged, asking for their
        mean at once is cheaper than averaging noisy means. No unit may be in two of them. Only
        where ``raw`` is False.
        """

    def combine(self, directions: Sequence[Tensor]) -> Tensor:
        """The tasks' directions (dim,) as one: their mean."""
        return torch.stack(list(directions)).mean(dim=0)


HELD = 64  # vectors of records that are held at a time


@dataclass
class OpenSession(Session):
    """Records in the open: for mechanism ``none``, and for adaptation whose result never leaves.

    Also for whole-task and whole-hospital mechanisms, which protect what comes out of it.
    """

    raw: bool = True
    trained: frozenset[ParameterGroup] = ALL_GROUPS

    def gradient(
        self,
        losses: Losses,
        at: Points,
        kind: Kind,
        mask: Tensor,
        beside: Contributions = (),
    ) -> MeanGradient:
        """The plain mean gradient, of the network's kernel if it has one, else of autograd."""
        if beside:
            return super().gradient(losses, at, kind, mask, beside)
        pairs = [_slope(losses, phi, batch) for phi, batch in at]
        if len(pairs) == 1:
            return pairs[0][0] * mask, pairs[0][1]
        share = torch.tensor([len(batch.rows) for _, batch in at], device=mask.device)
        g, loss = (torch.stack(list(column)) for column in zip(*pairs, strict=True))
        weights = (share / share.sum()).to(g)
        return weights @ g * mask, weights @ loss

    def gradients(
        self, losses: Losses, phi: Tensor, tasks: Batch, kind: Kind, mask: Tensor
    ) -> MeanGradient:
        """All tasks in one pass of the network, by ``torch.func.vmap``; one by one in a kernel."""
        if isinstance(losses, Objective) and losses.kernel is not None:
            return super().gradients(losses, phi, tasks, kind, mask)
        g, loss = _slope(vmap(losses), phi, tasks)
        return g * mask, loss

    def mean(self, contributions: Contributions, kind: Kind, dim: int) -> Tensor:
        """The plain mean, ``HELD`` records at a time."""
        total = torch.zeros(())
        for one, batch in contributions:
            for x, y in zip(torch.split(batch.x, HELD), torch.split(batch.y, HELD), strict=True):
                total = total + vmap(one)(x, y).detach().sum(dim=0)
        return total / sum(len(batch.rows) for _, batch in contributions)


def _slope(losses: Losses, phi: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """The gradient of the mean loss; of each task's own at points ``phi`` (tasks, dim)."""
    if isinstance(losses, Objective) and losses.kernel is not None:
        return losses.kernel.slope(phi.detach(), batch.x, batch.y)
    phi = phi.detach().requires_grad_()
    loss = losses(phi, batch.x, batch.y).mean(dim=-1)
    return torch.autograd.grad(loss.sum(), phi)[0], loss.detach()


@dataclass
class Rehearsal(Session):
    """Touches no record: answers zeros and writes down every use, in order.

    Algorithms do not branch on values, so the rehearsed uses are the real ones; should one branch
    after all, the real session stops it at the first use that was not rehearsed.
    """

    trained: frozenset[ParameterGroup] = ALL_GROUPS
    uses: list[Use] = field(default_factory=list)
    widest: int = 0
    """The most coordinates that a sum had."""

    def mean(self, contributions: Contributions, kind: Kind, dim: int) -> Tensor:
        """Zeros."""
        batches = [batch for _, batch in contributions]
        self.uses.append(use(kind, *batches))
        self.widest = max(self.widest, dim)
        return torch.zeros(dim, device=batches[0].x.device)


def gradient(losses: Losses) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """(phi (d,), x (...), y (...)) -> the gradient (d,) of one record's loss at phi."""

    def loss(phi: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return losses(phi, x.unsqueeze(0), y.unsqueeze(0)).sum()

    found: Callable[[Tensor, Tensor, Tensor], Tensor] = grad(loss)
    return found


def use(kind: Kind, *batches: Batch) -> Use:
    """The use that a call makes."""
    return Use(kind, tuple(row for batch in batches for row in batch.rows.tolist()))
