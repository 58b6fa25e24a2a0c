"""What the initialisation gains at unseen hospitals, compared with baselines on equal terms.

Every learner is evaluated on the same episodes of the same unseen hospitals with the same number of
adaptation steps, once for each score of the kind of task. There are two intervals: one over
episodes (the hospitals taken as fixed, the convention of the few-shot literature), and for each
baseline one of the paired difference over hospitals (the hospitals taken as a sample, as a new
hospital needs).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from metaward.client.tasks.kinds import Score
from metaward.privacy import Scores

Z95 = 1.959963984540054
WATCHED = ("before", "after", "low", "high", "worst", "worst_hospital")


@dataclass(frozen=True)
class LearnerRow:
    """One learner's row of the final table of one score.

    ``before`` and ``after`` are means over the hospitals' means; ``low`` and ``high`` are the 95 %
    interval of ``after`` over episodes, clipped to the range of the score; ``worst`` is the
    worst hospital's mean after adaptation, and ``worst_hospital`` its name; ``hospitals`` has
    every hospital's mean after adaptation, and ``hospitals_before`` that before it (None in results
    of earlier versions); ``gap`` and its bounds are the paired advantage of the run's
    own learner over this one, over hospitals.
    """

    learner: str
    steps: int
    before: float
    after: float
    low: float
    high: float
    worst: float
    worst_hospital: str
    hospitals: Mapping[str, float]
    gap: float | None = None
    gap_low: float | None = None
    gap_high: float | None = None
    hospitals_before: Mapping[str, float] | None = None


@dataclass(frozen=True)
class ScoreTable:
    """The final table of one score: ``rows[0]`` is the run's own learner."""

    score: Score
    episodes: int
    rows: tuple[LearnerRow, ...]

    def plain(self) -> dict[str, Any]:
        """The table as plain data for JSON."""
        rows = [asdict(row) for row in self.rows]
        return {"metric": self.score.name, "episodes": self.episodes, "rows": rows}


@dataclass(frozen=True)
class Judged:
    """A learner that adapted in ``steps`` steps, and its scores from the hospitals that judge."""

    learner: str
    steps: int
    answers: Sequence[Scores]


def table(score: Score, episodes: int, judged: Sequence[Judged]) -> ScoreTable:
    """The table of one score; the first learner is the run's own."""
    rows = [summarise(one, score) for one in judged]
    return ScoreTable(score, episodes, (rows[0], *(with_gap(r, rows[0], score) for r in rows[1:])))


def summarise(judged: Judged, score: Score) -> LearnerRow:
    """One row from the judging hospitals' answers; ``ValueError`` where there are none."""
    if not judged.answers:
        raise ValueError(f"{judged.learner}: no hospital gave scores")
    place = judged.answers[0].names.index(score.name)  # the same in all: others were rejected
    means, after, half = over_episodes({a.hospital: a.after[place] for a in judged.answers})
    worst = score.worst(means)
    starts = {a.hospital: _mean(a.before[place]) for a in judged.answers}
    return LearnerRow(
        learner=judged.learner,
        steps=judged.steps,
        before=float(np.mean(list(starts.values()))),
        after=after,
        low=max(after - half, score.lowest),
        high=min(after + half, score.highest),
        worst=means[worst],
        worst_hospital=worst,
        hospitals=means,
        hospitals_before=starts,
    )


def over_episodes(
    values: Mapping[str, NDArray[Any]],
) -> tuple[dict[str, float], float, float]:
    """Every hospital's mean over its episodes (episodes,), the mean of these means, and half of its
    95 % interval over episodes, the hospitals taken as fixed."""
    means = {hospital: _mean(one) for hospital, one in values.items()}
    half = Z95 * sqrt(sum(_variance_of_mean(one) for one in values.values())) / len(means)
    return means, float(np.mean(list(means.values()))), half


def with_gap(row: LearnerRow, own: LearnerRow, score: Score) -> LearnerRow:
    """The row with ``own``'s advantage over it: mean and 95 % t-interval over hospitals."""
    gaps = np.array([score.advantage(own.hospitals[h], v) for h, v in row.hospitals.items()])
    mean = float(gaps.mean())
    columns = {**vars(row), "gap": mean}
    if len(gaps) > 1:
        half = float(stdtrit(len(gaps) - 1, 0.975) * gaps.std(ddof=1) / sqrt(len(gaps)))
        columns |= {"gap_low": mean - half, "gap_high": mean + half}
    return LearnerRow(**columns)


def watched(judged: Judged, scores: Sequence[Score]) -> dict[str, Any]:
    """The values for the curve over the rounds: the main score's, and ``others`` by name."""
    rows = {score.name: vars(summarise(judged, score)) for score in scores}
    main, *others = ({key: row[key] for key in WATCHED} for row in rows.values())
    return main | ({"others": dict(zip(list(rows)[1:], others, strict=True))} if others else {})


DIGITS = 7
"""Significant digits of a float32, the form in which hospitals send scores."""


def _mean(values: NDArray[Any]) -> float:
    """The mean to the digits that its values have: further ones only tell how they were rounded,
    and would make two learners with the same hits differ by 1e-10."""
    return float(f"{values.mean(dtype=np.float64):.{DIGITS}g}")


def _variance_of_mean(values: NDArray[Any]) -> float:
    n = len(values)
    return float(values.var(ddof=1, dtype=np.float64)) / n if n > 1 else 0.0
