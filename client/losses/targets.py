"""Losses of regression: outputs and targets are (n, targets)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from metaward.client.losses.base import Loss
from metaward.client.tasks.base import TaskSpec
from metaward.client.tasks.kinds import REGRESSION, squared_errors


def require_targets(spec: TaskSpec, name: str) -> None:
    """``ValueError`` where outputs are not compared with targets of the same shape."""
    if spec.kind.name != REGRESSION.name:
        raise ValueError(
            f"{name} needs targets, and these tasks are of kind {spec.kind.name}; set client.loss "
            "to null for the loss of the kind, or choose one that suits it (cross_entropy, focal, "
            "binary_cross_entropy)"
        )


@dataclass(frozen=True)
class Squared(Loss):
    """The squared error, the mean over a record's targets; what regression has by default."""

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """One loss a record (n,)."""
        return squared_errors(outputs, labels)

    def check(self, spec: TaskSpec) -> None:
        """It takes targets."""
        require_targets(spec, "squared")


@dataclass(frozen=True)
class Huber(Loss):
    """Half the squared error where it is small, and linear beyond ``delta``, so that a record that
    is far off does not outweigh the others (Huber 1964: Robust Estimation of a Location Parameter).
    """

    delta: Annotated[float, Field(gt=0, le=1_000_000)] = 1.0
    """The error, in the unit of the targets, from which on the loss is linear."""

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """One loss a record (n,), the mean over its targets."""
        return functional.huber_loss(outputs, labels, reduction="none", delta=self.delta).mean(1)

    def check(self, spec: TaskSpec) -> None:
        """It takes targets."""
        require_targets(spec, "huber")
