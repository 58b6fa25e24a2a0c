"""Which sizes of tasks the judging hospitals' records allow, and what smaller classes cost.

Records are opened as `metaward tasks show` does it, on the machine that simulates the hospitals;
those of training hospitals are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from metaward.client.errors import DataError
from metaward.client.sitting import Sitting
from metaward.client.tasks.base import Hospital
from metaward.client.work import stream
from metaward.server.evaluations.exam import Exam
from metaward.server.words import several
from metaward.sim import data_root

PEEKS = 20
"""Tasks that are drawn to see which classes a hospital still uses."""


@dataclass(frozen=True)
class Sized:
    """The numbers of ``shots`` that every hospital allows, ``left_out`` ones with the reason, and
    ``notes`` on hospitals whose tasks use fewer of their classes."""

    shots: tuple[int, ...]
    left_out: dict[int, str]
    notes: tuple[str, ...]


def sized(exam: Exam) -> Sized:
    """Which of the exam's shots all of its hospitals allow.

    ``DataError`` where a hospital's records cannot be opened at all.
    """
    root, left_out, notes = data_root(exam.run), dict[int, str](), list[str]()
    opened = _opened(exam, root)
    for shots in exam.shots:
        try:
            notes += [n for k, own in opened.items() for n in _tried(exam, shots, k, own, root)]
        except DataError as error:
            left_out[shots] = str(error)
    allowed = tuple(shots for shots in exam.shots if shots not in left_out)
    return Sized(allowed, left_out, tuple(notes))


def _opened(exam: Exam, root: Path | None) -> dict[int, Hospital]:
    """The hospitals that are judged, by their number in the roster."""
    source = exam.run.client.tasks
    return {
        index: source.hospital(index, root, exam.run.seed)
        for index, seat in enumerate(source.roster())
        if seat.name in exam.hospitals
    }


def _tried(exam: Exam, shots: int, index: int, own: Hospital, root: Path | None) -> Iterator[str]:
    """A note where the hospital's tasks use fewer of its classes; ``DataError`` for no task."""
    run, source = exam.run, exam.run.client.tasks
    sitting = Sitting(exam.draw, shots, exam.queries)
    scarce = _scarce(own, *sizes_of(exam, shots)) if source.spec().kind.classes else {}
    try:
        other = sitting.resized(own, source, index, root, run.seed)
        rng = stream(run.seed, "evaluate", index, exam.draw)
        used = {int(c) for _ in range(PEEKS) for c in other.episode(rng).classes}
    except DataError as error:
        raise DataError(_too_few(own.seat.name, scarce) if scarce else str(error)) from error
    unused = {c: n for c, n in scarce.items() if c not in used}
    if unused and sitting.changes(source):
        few = _too_few(own.seat.name, unused)
        yield f"{several(shots, 'shot')}: {few}, so that its tasks do without"


def sizes_of(exam: Exam, shots: int) -> tuple[int, int]:
    """Support and query records (of each class, where there are classes) of a judged task."""
    return shots, exam.queries or int(getattr(exam.run.client.tasks, "queries", 0))


def _scarce(hospital: Hospital, shots: int, queries: int) -> dict[int, int]:
    """How many records each class has that has fewer than a task takes."""
    counts = {c: len(rows) for c, rows in hospital.by_class.items()}
    return {c: n for c, n in counts.items() if n < shots + queries}


def _too_few(name: str, scarce: dict[int, int]) -> str:
    classes = ", ".join(f"{c} ({n})" for c, n in scarce.items())
    return f"hospital {name} has too few records of class {classes}"
