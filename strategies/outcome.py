"""What a round of training did, for metrics and reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metaward.privacy import Release


@dataclass(frozen=True)
class RoundReport:
    """The outcome of a round.

    ``accepted`` are the hospitals whose reply counts; ``rejected`` maps any other one to why its
    reply does not. ``update_norm`` is the Euclidean norm of the combined update, ``norms`` that of
    each accepted hospital's update as it arrived.
    """

    round: int
    accepted: tuple[str, ...]
    rejected: Mapping[str, str]
    loss: float | None
    update_norm: float
    norms: Mapping[str, float]


def outcome(
    number: int,
    accepted: Sequence[Release],
    rejected: Mapping[str, str],
    combined: NDArray[np.float32],
) -> RoundReport:
    """The report of round ``number``, whose accepted updates were ``combined`` into one (dim,)."""
    losses = [a.loss for a in accepted if a.loss is not None]
    return RoundReport(
        round=number,
        accepted=tuple(a.hospital for a in accepted),
        rejected=dict(rejected),
        loss=float(np.mean(losses)) if losses else None,
        update_norm=_norm(combined),
        norms={a.hospital: _norm(a.update) for a in accepted},
    )


def _norm(vector: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(vector.astype(np.float64)))
