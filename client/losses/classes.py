"""Losses of tasks with classes: outputs are N logits a record, labels the numbers of classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from metaward.client.losses.base import Loss
from metaward.client.tasks.base import TaskSpec

Share = Annotated[float, Field(ge=0, lt=1)]
SMALLEST = 1e-12
"""A probability below it counts as this: its power has no slope at zero."""


def require_classes(spec: TaskSpec, name: str) -> None:
    """``ValueError`` where tasks have no classes."""
    if not spec.kind.classes:
        raise ValueError(
            f"{name} needs classes, and these tasks are of kind {spec.kind.name}; set client.loss "
            "to null for the loss of the kind, or choose one that suits it (squared, huber)"
        )


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """-log softmax(logits)[label], the loss that classification has by default.

    With ``smoothing`` e the label is 1 - e on its class and e / N on each of the N classes (Szegedy
    et al. 2016: Rethinking the Inception Architecture).
    """

    smoothing: Share = 0.0
    """The share of a label that is spread evenly over all classes; 0: none."""

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """One loss a record (n,)."""
        return functional.cross_entropy(
            outputs, labels, reduction="none", label_smoothing=self.smoothing
        )

    def check(self, spec: TaskSpec) -> None:
        """It takes the numbers of classes."""
        require_classes(spec, "cross_entropy")


@dataclass(frozen=True)
class Focal(Loss):
    """(1 - p)^gamma * -log p, where p is the probability of the record's class.

    Records that are classified well already count less (Lin, Goyal, Girshick, He, Dollar 2017:
    Focal Loss for Dense Object Detection). Its factor alpha is ``client.class_weights``.
    """

    gamma: Annotated[float, Field(ge=0, le=20)] = 2.0
    """How fast the weight of a record falls with its probability; 0 is the cross-entropy."""

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """One loss a record (n,)."""
        surprise = functional.cross_entropy(outputs, labels, reduction="none")
        doubt = (-torch.expm1(-surprise)).clamp(min=SMALLEST)
        return doubt**self.gamma * surprise

    def check(self, spec: TaskSpec) -> None:
        """It takes the numbers of classes."""
        require_classes(spec, "focal")


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """Each output is a question of its own, yes or no; the mean of their cross-entropies.

    Where a record has one class, each class is told apart from all others (Wightman, Touvron, Jegou
    2021: ResNet Strikes Back). Where labels are (n, N) of 0 and 1, a record can have several.
    """

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """One loss a record (n,)."""
        if labels.ndim < outputs.ndim:
            classes = torch.arange(outputs.shape[1], device=labels.device)
            labels = labels.unsqueeze(1) == classes
        losses = functional.binary_cross_entropy_with_logits(
            outputs, labels.to(outputs), reduction="none"
        )
        return losses.mean(dim=1)

    def check(self, spec: TaskSpec) -> None:
        """It takes the numbers of classes, or an answer of 0 or 1 for each output."""
        if not spec.kind.classes and not _of_answers(spec):
            require_classes(spec, "binary_cross_entropy")


def _of_answers(spec: TaskSpec) -> bool:
    """Whether a kind's labels hold 0 or 1 for each output, by labels that it makes up."""
    made = torch.from_numpy(spec.kind.random(spec, 32, np.random.default_rng(0)))
    return made.shape == (32, spec.outputs) and bool(((made == 0) | (made == 1)).all())
