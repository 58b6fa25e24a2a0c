"""What protects the records: one file a mechanism, one line here."""

from __future__ import annotations

from privacy.none import NoPrivacy
from privacy.release import (
    REFUSALS,
    Answer,
    Attendance,
    Event,
    Losses,
    Mechanism,
    Refusal,
    Release,
    Scores,
)

MECHANISMS: dict[str, type[Mechanism]] = {
    "none": NoPrivacy,
}

__all__ = [
    "MECHANISMS",
    "REFUSALS",
    "Answer",
    "Attendance",
    "Event",
    "Losses",
    "Mechanism",
    "NoPrivacy",
    "Refusal",
    "Release",
    "Scores",
]
