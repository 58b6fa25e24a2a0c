"""Class means of features, from sums over records that a session may noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from metaward.client.inner.setting import Kept
from metaward.privacy import Batch, Session

Measure = Callable[[Tensor], Tensor]
"""x (n, ...) -> features (n, width)."""


def class_means(
    measure: Measure,
    width: int,
    batches: Sequence[Batch],
    session: Session,
    classes: int,
    centred: bool = False,
) -> Tensor:
    """Mean features (classes, width) from one sum; a record adds its own to its class.

    ``centred``: a sum before it gives the mean of all records, and what a record adds is the
    difference from that. How many records a class has is public.
    """

    def whole(x: Tensor, y: Tensor) -> Tensor:
        return measure(x[None])[0]

    pairs = [(whole, batch) for batch in batches]
    centre = session.mean(pairs, "centre", width) if centred else torch.zeros(width)
    centre = centre.to(batches[0].x.device)

    def one(x: Tensor, y: Tensor) -> Tensor:
        mine = whole(x, y) - centre
        return torch.outer(functional.one_hot(y, classes).to(mine), mine).reshape(-1)

    sums = session.mean([(one, batch) for batch in batches], "features", classes * width)
    labels = torch.cat([batch.y for batch in batches])
    shares = torch.bincount(labels, minlength=classes).clamp(min=1).to(sums) / len(labels)
    return sums.view(classes, width) / shares[:, None] + centre


def plain_means(values: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The mean (classes, width) of the values (n, width) of each class, without protection.

    It is a product of matrices, which several tasks take at once: (tasks, classes, width).
    """
    members = functional.one_hot(labels, classes).to(values).mT
    return members @ values / members.sum(dim=-1, keepdim=True)


def kept_means(means: Tensor, batches: Sequence[Batch]) -> Kept:
    """``means`` (vocabulary, features) as a hospital keeps them, with the number of records of each
    class behind them, ``counts`` (vocabulary,), which is public."""
    labels = torch.cat([batch.y for batch in batches])
    return {"means": means, "counts": torch.bincount(labels, minlength=len(means))}
