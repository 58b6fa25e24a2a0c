"""The only door out of a hospital: what may leave is a type, and only a mechanism makes one.

A ``Release`` is a meta-update, ``Scores`` are an unseen hospital's evaluation results. ``wire``
encodes nothing else. A mechanism carries its own price: the gradient it lends to the inner loop is
the place where noise enters, and ``events`` tells an accountant what was done to which unit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Losses = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(phi (dim,), x (n, ...), y (n, ...)) -> one loss a record (n,)."""


@dataclass(frozen=True)
class Event:
    """One thing done to private records, as an accountant prices it.

    ``unit`` is what the guarantee protects (record, task, ...); ``noise_multiplier`` the standard
    deviation over the clip norm of one step (0: no noise, so no finite epsilon); ``steps`` how
    often it was applied to the same unit.
    """

    mechanism: str
    unit: str
    noise_multiplier: float
    steps: int


@dataclass(frozen=True)
class Release:
    """A hospital's meta-update of one round: ``update`` (dim,) float32, theta's direction.

    ``loss`` is the mean training loss, None wherever a mechanism does not let it out.
    """

    hospital: str
    round: int
    update: NDArray[np.float32]
    loss: float | None


@dataclass(frozen=True)
class Scores:
    """An unseen hospital's results: one score an episode, (episodes,) float32 each.

    Accuracy for classification (higher is better), mean squared error for regression (lower is
    better), before and after adaptation. No epsilon covers the data of evaluation-only hospitals.
    """

    hospital: str
    round: int
    before: NDArray[np.float32]
    after: NDArray[np.float32]


@dataclass(frozen=True)
class Attendance:
    """A hospital's public seat, in answer to the roster call; nothing private is in it."""

    hospital: str
    index: int


@dataclass(frozen=True)
class Refusal:
    """A fixed code instead of a result. Reasons in words stay in the hospital's own log."""

    code: str


REFUSALS = frozenset({"bad-request", "data-refused", "failed", "federation-size"})

Answer = Release | Scores | Attendance | Refusal


class Mechanism(Protocol):
    """One entry of ``MECHANISMS``: what protects a hospital's records, and at what price."""

    @property
    def claim(self) -> str:
        """The guarantee in one sentence, printed in every output."""
        ...

    def gradient(self, losses: Losses, phi: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Mean gradient (dim,) of ``losses`` at ``phi``, and the mean loss (a scalar tensor).

        The loss is for the hospital's own eyes: ``release`` decides whether it leaves.
        """
        ...

    def release(self, hospital: str, round: int, update: Tensor, loss: Tensor) -> Release:
        """Seal an update (dim,) for the way out."""
        ...

    def scores(self, hospital: str, round: int, before: list[float], after: list[float]) -> Scores:
        """Seal an unseen hospital's evaluation for the way out."""
        ...

    def events(self, steps: int) -> tuple[Event, ...]:
        """What ``steps`` inner steps on the same records cost."""
        ...
