"""What protects the records: units, mechanisms, and what may leave a hospital."""

from __future__ import annotations

from metaward.privacy.event import Budget, Charge, Event, Events, Mark, Protection, gaussian
from metaward.privacy.mechanisms import MECHANISMS, Mechanism, NoPrivacy, Sums, Whole
from metaward.privacy.mechanisms.base import Opening, Protected
from metaward.privacy.release import REFUSALS, Answer, Attendance, Refusal, Release, Scores
from metaward.privacy.session import (
    Batch,
    Contribution,
    Kind,
    Losses,
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
    "Budget",
    "Charge",
    "Contribution",
    "Event",
    "Events",
    "Kind",
    "Losses",
    "Mark",
    "Mechanism",
    "NoPrivacy",
    "OpenSession",
    "Opening",
    "Protected",
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
    "gaussian",
]
