"""From before adaptation to after it: each learner's way, over all hospitals and at each one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from metaward.client.tasks.kinds import Score
from metaward.server.evaluate import LearnerRow


@dataclass(frozen=True)
class Way:
    """A learner's score before and after adaptation, as text and as places in percent.

    ``left`` and ``right`` are the places of the interval of the second one; None without one.
    """

    learner: str
    before: str
    after: str
    start: float | None
    end: float
    left: float | None = None
    right: float | None = None


@dataclass(frozen=True)
class Ways:
    """Ways on one scale, which runs from ``lowest`` to ``highest``."""

    name: str
    lowest: str
    highest: str
    ways: Sequence[Way]


@dataclass(frozen=True)
class Scale:
    """A score's values between two ends, as places in percent."""

    score: Score
    low: float
    high: float

    @staticmethod
    def over(score: Score, values: Iterable[float]) -> Scale:
        """The scale that holds all these values, with a little room."""
        known = list(values)
        room = 0.04 * (max(known) - min(known)) or 0.1 * abs(known[0]) or 1.0
        low = max(min(known) - room, score.lowest)
        high = min(max(known) + room, score.highest)
        return Scale(score, low, high) if high > low else Scale(score, low - room, high + room)

    def place(self, value: float) -> float:
        """Where a value is."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)

    def named(self, name: str, ways: Sequence[Way]) -> Ways:
        """Ways on this scale under a name."""
        return Ways(name, self.score.text(self.low), self.score.text(self.high), ways)


def together(rows: Sequence[LearnerRow], score: Score) -> Ways:
    """Each learner's way over all hospitals that judge, with the interval of the final table."""
    scale = Scale.over(score, (v for r in rows for v in (r.before, r.after, r.low, r.high)))
    ways = [
        Way(
            learner=row.learner,
            before=score.text(row.before),
            after=score.text(row.after),
            start=scale.place(row.before),
            end=scale.place(row.after),
            left=scale.place(row.low),
            right=scale.place(row.high),
        )
        for row in rows
    ]
    return scale.named("all hospitals that judge", ways)


def at_each(rows: Sequence[LearnerRow], score: Score) -> list[Ways]:
    """Each learner's way at each hospital that judges, all hospitals on one scale."""
    known = [v for row in rows for v in row.hospitals.values()]
    known += [v for row in rows for v in (row.hospitals_before or {}).values()]
    scale = Scale.over(score, known)
    return [
        scale.named(hospital, [_at(row, hospital, scale) for row in rows])
        for hospital in rows[0].hospitals
    ]


def _at(row: LearnerRow, hospital: str, scale: Scale) -> Way:
    before, after = (row.hospitals_before or {}).get(hospital), row.hospitals[hospital]
    return Way(
        learner=row.learner,
        before="" if before is None else scale.score.text(before),
        after=scale.score.text(after),
        start=None if before is None else scale.place(before),
        end=scale.place(after),
    )
