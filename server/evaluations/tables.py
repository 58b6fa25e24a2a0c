"""The tables of an evaluation, from every learner's scores on every episode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaward.client.tasks.kinds import Score
from metaward.server.evaluate import over_episodes
from metaward.server.evaluations.examine import Cell, Outcome, Values
from metaward.server.evaluations.statistics import (
    Interval,
    PairedTest,
    Tenth,
    fixed_hospitals,
    holm,
    paired_test,
    sampled_hospitals,
    worst_tenth,
)
from metaward.server.words import size_words

Numbers = NDArray[Any]


@dataclass(frozen=True)
class AtHospital:
    """One hospital's mean ``before`` and ``after`` adaptation, with the interval of ``after`` over
    its episodes."""

    before: float
    after: float
    episodes: Interval


@dataclass(frozen=True)
class Reached:
    """What one learner reached: means over the hospitals' means ``before`` and ``after``.

    ``episodes`` and ``hospitals`` are the intervals of ``after`` over either; the latter is None
    for one hospital. ``worst`` is the mean of ``worst_hospital``.
    """

    learner: str
    steps: int
    before: float
    after: float
    episodes: Interval
    hospitals: Interval | None
    worst: float
    worst_hospital: str
    worst_tenth: Tenth
    by_hospital: Mapping[str, AtHospital]


@dataclass(frozen=True)
class Difference:
    """How much better the run's own learner is than ``baseline`` on the same episodes.

    ``better`` is the mean over the hospitals' mean differences, with its intervals over episodes
    and over hospitals (None for one), and the test that it is nothing.
    """

    baseline: str
    better: float
    episodes: Interval
    hospitals: Interval | None
    test: PairedTest


@dataclass(frozen=True)
class SizeTable:
    """The learners and differences of one ``score`` at one number of ``shots`` and of ``steps``."""

    score: Score
    shots: int
    steps: int
    learners: tuple[Reached, ...]
    differences: tuple[Difference, ...]

    @property
    def size(self) -> str:
        """Shots and steps in words."""
        return size_words(self.shots, self.steps)


def tables_of(scores: Sequence[Score], cells: Sequence[Cell]) -> tuple[SizeTable, ...]:
    """The tables of all scores, the main one first; p-values are corrected over all of them."""
    comparisons = len(scores) * sum(len(cell.outcomes) - 1 for cell in cells)
    plain = [
        _table(score, place, cell, comparisons)
        for place, score in enumerate(scores)
        for cell in cells
    ]
    corrected = iter(holm([d.test.p for table in plain for d in table.differences]))
    return tuple(_corrected(table, corrected) for table in plain)


def _corrected(table: SizeTable, ps: Iterator[float]) -> SizeTable:
    differences = tuple(
        replace(one, test=replace(one.test, corrected=next(ps))) for one in table.differences
    )
    return replace(table, differences=differences)


def _table(score: Score, place: int, cell: Cell, comparisons: int) -> SizeTable:
    own, *others = cell.outcomes
    return SizeTable(
        score,
        cell.shots,
        cell.steps,
        tuple(reached(one, score, place) for one in cell.outcomes),
        tuple(difference(own, one, score, place, comparisons) for one in others),
    )


def reached(outcome: Outcome, score: Score, place: int) -> Reached:
    """One learner's row; ``place`` is the score's number among all of the kind of task."""
    before, after = _of(outcome.before, place), _of(outcome.after, place)
    starts, start, _ = over_episodes(before)
    means, mean, _ = over_episodes(after)
    worst, sampled = score.worst(means), sampled_hospitals(list(means.values()))
    return Reached(
        learner=outcome.learner,
        steps=outcome.steps,
        before=start,
        after=mean,
        episodes=fixed_hospitals(after).within(score),
        hospitals=sampled and sampled.within(score),
        worst=means[worst],
        worst_hospital=worst,
        worst_tenth=worst_tenth(after, score),
        by_hospital={
            name: AtHospital(starts[name], mean, fixed_hospitals({name: after[name]}).within(score))
            for name, mean in means.items()
        },
    )


def difference(
    own: Outcome, other: Outcome, score: Score, place: int, comparisons: int
) -> Difference:
    """The paired advantage of ``own``, one of so many ``comparisons``."""
    mine, theirs = _of(own.after, place), _of(other.after, place)
    gaps = {name: _advantage(score, mine[name], theirs[name]) for name in mine}
    means, mean, _ = over_episodes(gaps)
    return Difference(
        other.learner,
        mean,
        fixed_hospitals(gaps),
        sampled_hospitals(list(means.values())),
        paired_test(gaps, comparisons),
    )


def _advantage(score: Score, one: Numbers, other: Numbers) -> Numbers:
    gap: Numbers = one.astype(np.float64) - other
    return gap if score.higher_is_better else -gap


def _of(values: Values, place: int) -> dict[str, Numbers]:
    return {hospital: scores[place] for hospital, scores in values.items()}
