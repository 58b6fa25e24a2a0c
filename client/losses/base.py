"""What a loss must provide, and the weights of classes that any loss of classes can have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from metaward.client.tasks.base import TaskSpec


class Loss(Protocol):
    """An entry of ``LOSSES``: a frozen dataclass whose fields are its yaml options.

    A learner never sees more of it than the kind of task's own ``losses``, in whose place it
    stands: it is differentiated once or twice, record by record, under ``torch.func``.
    """

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Outputs (n, ...) and labels (n, ...) of a kind of task -> one loss a record (n,).

        The loss of a record must not depend on the others: clipping bounds what one record can
        move only if it moves its own vector alone.
        """
        ...

    def check(self, spec: TaskSpec) -> None:
        """``ValueError``, with the way out, where it does not suit such tasks."""
        ...


@dataclass(frozen=True)
class Weighted:
    """A loss of which each record's is multiplied by the weight of its class.

    ``weights`` (N,) belong to the labels 0 .. N - 1. They are factors and not shares: nothing is
    divided by their sum, so that weights of 2 for all classes double every gradient. The factor is
    in the record's own gradient before that is clipped, so it cannot move a sum by more than the
    clip norm.
    """

    losses: Callable[[Tensor, Tensor], Tensor]
    weights: tuple[float, ...]

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """One loss a record (n,)."""
        factors = torch.tensor(self.weights, dtype=outputs.dtype, device=outputs.device)
        return self.losses(outputs, labels) * factors[labels]
