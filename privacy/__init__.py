"""What protects the records: units, mechanisms, and what may leave a hospital."""

from __future__ import annotations

from metaward.privacy.event import Charge, Events, Mark, Protection
from metaward.privacy.mechanisms import MECHANISMS, Mechanism, NoPrivacy, Sums, Whole
from metaward.privacy.mechanisms.base import Opening
from metaward.privacy.release import REFUSALS, Answer, Attendance, Refusal, Release, Scores
from metaward.privacy.session import (
    Batch,
    Contribution,
    Kind,
    Objective,
    OpenSession,
    Rehearsal,
    Session,
    Use,
)
from metaward.privacy.units import UNITS, Unit

__all__ = [
    "MECHANISMS",
    "REFUSALS",
    "UNITS",
    "Answer",
    "Attendance",
    "Batch",
    "Charge",
    "Contribution",
    "Events",
    "Kind",
    "Mark",
    "Mechanism",
    "NoPrivacy",
    "Objective",
    "OpenSession",
    "Opening",
    "Protection",
    "Refusal",
    "Rehearsal",
    "Release",
    "Scores",
    "Session",
    "Sums",
    "Unit",
    "Use",
    "Whole",
]
