"""How long an update may be: by a number, by what noise and clipping allow, or by the others.

Which one a run has follows from its configuration (``server.norm_limit``). The norm is Euclidean,
in the unit of theta.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
Norms = NDArray[np.float64]

FIXED = 1000.0
"""The limit where nothing is known of updates."""
NOTHING: Norms = np.zeros(0)
"""What is remembered at the start."""


class NormLimit(Protocol):
    """The largest norm of a valid update. What it ``remembers`` is kept with the run's state."""

    def of(self, round: int, theta: Vector, norms: Sequence[float], past: Norms) -> float:
        """The limit of a round at theta, whose updates have these ``norms``."""
        ...

    def remembers(self, round: int, norms: Sequence[float], past: Norms) -> Norms:
        """What later rounds need, after a round whose valid updates have these ``norms``."""
        ...


@dataclass(frozen=True)
class FixedLimit(NormLimit):
    """The same number in every round."""

    norm: float = FIXED

    def of(self, round: int, theta: Vector, norms: Sequence[float], past: Norms) -> float:
        """The number."""
        return self.norm

    def remembers(self, round: int, norms: Sequence[float], past: Norms) -> Norms:
        """Nothing."""
        return NOTHING


@dataclass(frozen=True)
class ReachLimit(FixedLimit):
    """What noise and clipping let an honest update reach: ``norm``, and ``first`` in round 1.

    Weight decay adds ``decay`` times the norm of theta, which the server knows. Norms of updates
    are not looked at.
    """

    first: float = FIXED
    decay: float = 0.0

    def of(self, round: int, theta: Vector, norms: Sequence[float], past: Norms) -> float:
        """The reach of this round."""
        reach = self.first if round == 1 else self.norm
        return reach + self.decay * float(np.linalg.norm(theta.astype(np.float64)))


@dataclass(frozen=True)
class TypicalLimit(NormLimit):
    """``multiple`` times what is typical: for updates without a clip norm, hence of any length.

    Typical is the larger of two medians: that of this round's norms, where there are 3 or more, and
    that of the medians of the last ``rounds`` rounds. The larger one, because hostile updates near
    zero could otherwise push honest ones out. So a hospital is rejected only where its update is
    long beside those of its round and beside what was common before. Without either, and above it
    in any case, ``most`` holds. Where hospitals ``estimate`` something in round 1 and descend
    afterwards, that round tells nothing of later ones.
    """

    multiple: float = 10.0
    rounds: int = 5
    most: float = FIXED
    estimate: bool = False

    def of(self, round: int, theta: Vector, norms: Sequence[float], past: Norms) -> float:
        """The limit of this round."""
        known = [*_median(norms if len(norms) >= 3 else ()), *_median(past)]
        return min(self.multiple * max(known), self.most) if any(known) else self.most

    def remembers(self, round: int, norms: Sequence[float], past: Norms) -> Norms:
        """The medians of the last rounds, this one's at the end (k,)."""
        if self.estimate and round == 1:
            return NOTHING
        return np.array([*past, *_median(norms)][-self.rounds :], np.float64)


def _median(values: Sequence[float] | Norms) -> list[float]:
    return [float(np.median(values))] if len(values) else []


def norm_of(vector: Vector) -> float:
    """The Euclidean norm, in float64: the square of a large float32 is infinite in float32."""
    return float(np.linalg.norm(vector.astype(np.float64)))
