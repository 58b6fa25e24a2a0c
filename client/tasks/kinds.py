"""What a kind of task is: the shape of its labels, its loss, and the scores that judge it.

``KINDS`` holds the known kinds. All code that depends on the kind of a task asks this object:
learners ask whether there are classes, the evaluation asks which score is better, tables and
pictures ask how a score is written, and a hospital's policy asks which scores exist. A new kind is
one ``TaskKind`` with its ``Score``s, here or in another file of this folder, and one entry in
``KINDS``; a source names it in its ``TaskSpec``.

The functions of a kind are pure and work on whole batches of n records. ``losses`` runs under
``torch.func.grad`` and ``vmap``, so that it must not branch on values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from metaward.client.tasks.base import TaskSpec

Labels = NDArray[Any]
LARGEST_LOSS = 1e6
"""Where a network's mean loss is larger than this, it is lost, or somebody made the number up."""


@dataclass(frozen=True)
class Score:
    """A number that says how good the predictions for the records of one task are.

    ``name`` is what policies and result files call it. ``measure`` maps outputs (n, ...) and labels
    (n, ...) to the number, between ``lowest`` and ``highest``; a value that a hospital sends
    outside this range is rejected. Tables show it multiplied by ``scale``, with ``digits`` digits
    after the point, under ``label``, which names the unit of the scaled value. ``kinds`` names the
    kinds of task that it suits; empty where its function decides.
    """

    name: str
    label: str
    measure: Callable[[Tensor, Tensor], float]
    higher_is_better: bool
    lowest: float = -inf
    highest: float = inf
    scale: float = 1
    digits: int = 3
    kinds: tuple[str, ...] = ()

    def text(self, value: float) -> str:
        """The value in the form that tables show."""
        return f"{self.scale * value:.{self.digits}f}"

    def signed(self, difference: float) -> str:
        """A difference of two values in the form that tables show, with its sign."""
        return f"{self.scale * difference:+.{self.digits}f}"

    def advantage(self, value: float, other: float) -> float:
        """How much better ``value`` is than ``other``."""
        return value - other if self.higher_is_better else other - value

    def worst(self, values: Mapping[str, float]) -> str:
        """The name of the worst value; the first one if several are equally bad."""
        return (min if self.higher_is_better else max)(values, key=lambda name: values[name])


@dataclass(frozen=True)
class TaskKind:
    """What all tasks of a kind have in common.

    ``classes``: a label is the number of a class, (n,) int64 in [0, N), and the network gives N
    logits, so that learners can take the means of classes, and hospitals can name them.

    ``losses`` maps outputs and labels to one loss for each record (n,). ``scores`` are all numbers
    that an evaluation sends, before and after adaptation; the first is plotted over the rounds.

    ``blank(spec, n)`` gives labels for n records that do not exist, with every class equally often
    where there are classes. ``random(spec, n, generator)`` gives made-up labels.
    ``certain(spec, labels)`` gives the outputs of a network that is certain of these labels; its
    shape is the shape of all outputs of this kind.

    A hospital's mean loss lies in ``loss_range``; the server leaves any other out of what it shows.
    """

    name: str
    classes: bool
    losses: Callable[[Tensor, Tensor], Tensor]
    scores: tuple[Score, ...]
    blank: Callable[[TaskSpec, int], Labels]
    random: Callable[[TaskSpec, int, np.random.Generator], Labels]
    certain: Callable[[TaskSpec, Tensor], Tensor]
    loss_range: tuple[float, float] = (0.0, LARGEST_LOSS)

    @property
    def score_names(self) -> tuple[str, ...]:
        """The names of the scores, in their order."""
        return tuple(score.name for score in self.scores)

    def measure(self, outputs: Tensor, labels: Tensor) -> list[float]:
        """All scores of one task's outputs, in the order of ``scores``, computed on the CPU."""
        known = outputs.cpu(), labels.cpu()
        return [score.measure(*known) for score in self.scores]


# ---------------------------------------------------------------------------- classification


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """-log softmax(logits)[label], one for each record (n,)."""
    return functional.cross_entropy(logits, labels, reduction="none")


def share_of_hits(logits: Tensor, labels: Tensor) -> float:
    """The share of records whose largest logit is that of their class."""
    return float((logits.argmax(dim=1) == labels).float().mean())


def every_class(spec: TaskSpec, n: int) -> Labels:
    """0, 1, ... N - 1, 0, 1, ... (n,) int64."""
    return np.arange(n) % spec.outputs


def _every_class_again(spec: TaskSpec, n: int, generator: np.random.Generator) -> Labels:
    """Made-up classes equal the blank ones: a class without a record would have no mean."""
    return every_class(spec, n)


def one_hot(spec: TaskSpec, labels: Tensor) -> Tensor:
    """Outputs (n, N), 1 at the class of each record."""
    return functional.one_hot(labels, spec.outputs).float()


ACCURACY = Score(
    "accuracy",
    "accuracy, %",
    share_of_hits,
    higher_is_better=True,
    lowest=0,
    highest=1,
    scale=100,
    digits=1,
    kinds=("classification",),
)

CLASSIFICATION = TaskKind(
    "classification",
    classes=True,
    losses=cross_entropy,
    scores=(ACCURACY,),
    blank=every_class,
    random=_every_class_again,
    certain=one_hot,
)

# -------------------------------------------------------------------------------- regression


def squared_errors(outputs: Tensor, targets: Tensor) -> Tensor:
    """The squared error of each record (n,), the mean over its targets."""
    return (outputs - targets).square().mean(dim=1)


def mean_squared_error(outputs: Tensor, targets: Tensor) -> float:
    """The squared error over all records and targets."""
    return float((outputs - targets).square().mean())


def zeros(spec: TaskSpec, n: int) -> Labels:
    """Targets 0, (n, targets) float32."""
    return np.zeros((n, spec.outputs), np.float32)


def normal(spec: TaskSpec, n: int, generator: np.random.Generator) -> Labels:
    """Normal targets, (n, targets) float32."""
    return generator.standard_normal((n, spec.outputs)).astype(np.float32)


def unchanged(spec: TaskSpec, targets: Tensor) -> Tensor:
    """The targets themselves, as outputs."""
    return targets


MEAN_SQUARED_ERROR = Score(
    "mse",
    "mean squared error",
    mean_squared_error,
    higher_is_better=False,
    lowest=0,
    kinds=("regression",),
)

REGRESSION = TaskKind(
    "regression",
    classes=False,
    losses=squared_errors,
    scores=(MEAN_SQUARED_ERROR,),
    blank=zeros,
    random=normal,
    certain=unchanged,
)

KINDS = {kind.name: kind for kind in (CLASSIFICATION, REGRESSION)}
