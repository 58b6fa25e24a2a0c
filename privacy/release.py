"""The types of what may leave a hospital. ``wire`` encodes nothing else.

A ``Release`` is a meta-update and ``Scores`` are the results of a hospital that judges, an unseen
one or one set aside for validation; only a mechanism makes either of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metaward.privacy.event import Mark
from metaward.privacy.ledger.errors import CODES as LEDGER_CODES


@dataclass(frozen=True)
class Release:
    """A hospital's meta-update of one round: ``update`` (dim,) float32, a direction for theta.

    ``loss`` is the mean training loss, or None where the mechanism does not release it. ``mark`` is
    the point of the hospital's ledger at which it was stored, or None without a ledger.
    """

    hospital: str
    round: int
    update: NDArray[np.float32]
    loss: float | None = None
    mark: Mark | None = None


@dataclass(frozen=True)
class Scores:
    """Results of a hospital that judges: its scores before and after adaptation on each episode.

    ``names`` says which scores they are, in the order of the kind of task; ``before`` and ``after``
    are (scores, episodes) float32. No epsilon covers the data of evaluation-only hospitals.
    """

    hospital: str
    round: int
    names: tuple[str, ...]
    before: NDArray[np.float32]
    after: NDArray[np.float32]


@dataclass(frozen=True)
class Attendance:
    """A hospital's public seat, in answer to the roster call; nothing private is in it."""

    hospital: str
    index: int


@dataclass(frozen=True)
class Refusal:
    """A fixed code instead of a result. The reason stays in the hospital's own log."""

    code: str


POLICY_CODES = frozenset(
    {
        "policy-clip",
        "policy-delta",
        "policy-hospital",
        "policy-mechanism",
        "policy-metric",
        "policy-missing",
        "policy-noise",
        "policy-plugin",
        "policy-purpose",
        "policy-rounds",
        "policy-sampling",
        "policy-steps",
        "policy-tasks",
        "policy-unit",
        "policy-unreadable",
    }
)
"""Codes of refusals because of a hospital's policy."""

REFUSALS = (
    frozenset({"audit-unwritable", "bad-request", "data-refused", "device-missing", "failed"})
    | {"federation-size", "gate-log", "guard-missing", "ledger-rewound", "memory-damaged"}
    | {"memory-missing", "signing-key"}
    | POLICY_CODES
    | LEDGER_CODES
)

Answer = Release | Scores | Attendance | Refusal
