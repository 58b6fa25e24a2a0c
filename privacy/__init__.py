"""What protects the records: one file a mechanism, one line here."""

from __future__ import annotations

from metaward.privacy.event import Budget, Charge, Event, Events, Mark, gaussian
from metaward.privacy.mechanism import Mechanism, Opening, Unit
from metaward.privacy.none import NoPrivacy
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
from metaward.privacy.sums import Patient, Record
from metaward.privacy.whole import Hospital, Task

MECHANISMS: dict[str, type[Mechanism]] = {
    "none": NoPrivacy,
    "record": Record,
    "patient": Patient,
    "task": Task,
    "hospital": Hospital,
}

__all__ = [
    "MECHANISMS",
    "REFUSALS",
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
    "Refusal",
    "Rehearsal",
    "Release",
    "Scores",
    "Session",
    "Unit",
    "Use",
    "gaussian",
]
