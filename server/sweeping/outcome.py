"""What the trials of a sweep reached: a row for each combination, the best one first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metaward.client.tasks.kinds import Score
from metaward.server.comparing.side import Side, side
from metaward.server.evaluations.statistics import Interval, t_interval
from metaward.server.sweeping.carry import finished, last_line
from metaward.server.sweeping.cost import SweepCost, cost_of
from metaward.server.sweeping.place import SweepPlace
from metaward.server.sweeping.trials import Combination, SweepPlan, SweepTrial


@dataclass(frozen=True)
class TrialOutcome:
    """One trial: its result folder as a side of a comparison, or the reason why it has none."""

    trial: SweepTrial
    side: Side | None
    why: str | None

    def plain(self) -> dict[str, Any]:
        """The trial as plain data."""
        head = {"trial": self.trial.name, "seed": self.trial.seed, "failed": self.why}
        if self.side is None:
            return head
        row, one = self.side.first, self.side
        scores = {"score": row["after"], "worst": row["worst"], "hospitals": row["hospitals"]}
        return head | scores | {"rounds": one.rounds, "kept": one.kept, "seconds": one.seconds}


@dataclass(frozen=True)
class SweepRow:
    """One combination over its seeds; only finished trials count, and ``done`` are their sides."""

    combination: Combination
    outcomes: tuple[TrialOutcome, ...]
    score: Score

    @property
    def done(self) -> list[Side]:
        """The finished trials."""
        return [one.side for one in self.outcomes if one.side is not None]

    @property
    def complete(self) -> bool:
        """Whether every seed is finished: only such combinations are ranked."""
        return len(self.done) == len(self.outcomes)

    @property
    def mean(self) -> float:
        """The mean score after adaptation; at least one trial must be finished."""
        return float(np.mean([one.first["after"] for one in self.done]))

    @property
    def interval(self) -> Interval | None:
        """The 95 % t-interval of ``mean`` over seeds, clipped to the values that the score can
        have; None for fewer than two seeds."""
        found = t_interval([one.first["after"] for one in self.done])
        lowest, highest = self.score.lowest, self.score.highest
        return found and Interval(max(found.low, lowest), min(found.high, highest))

    @property
    def worst(self) -> tuple[str, float]:
        """The worst hospital of any finished trial, and its score."""
        found = {f"{s.first['worst_hospital']}, {s.name}": s.first["worst"] for s in self.done}
        name = self.score.worst(found)
        return name.partition(", ")[0], float(found[name])

    @property
    def rounds(self) -> float:
        """Rounds of training, the mean over seeds."""
        return float(np.mean([one.rounds for one in self.done]))

    @property
    def seconds(self) -> float:
        """Seconds that the training of a trial took, the mean over seeds."""
        return float(np.mean([one.seconds for one in self.done]))

    def plain(self) -> dict[str, Any]:
        """The row as plain data."""
        head = {"combination": self.combination.number, "values": dict(self.combination.values)}
        trials = {"trials": [one.plain() for one in self.outcomes]}
        if not self.done:
            return head | trials
        bounds = self.interval
        numbers = {
            "mean": self.mean,
            "low": bounds and bounds.low,
            "high": bounds and bounds.high,
            "worst": self.worst[1],
            "worst_hospital": self.worst[0],
            "rounds": self.rounds,
            "seconds": self.seconds,
        }
        return head | numbers | trials


@dataclass(frozen=True)
class SweepOutcome:
    """A whole sweep: ``rows`` in their order, and what they cost in privacy."""

    plan: SweepPlan
    score: Score
    rows: tuple[SweepRow, ...]
    cost: SweepCost

    @property
    def best(self) -> SweepRow | None:
        """The best combination of those whose every seed is finished; None if there is none."""
        return self.rows[0] if self.rows[0].complete else None

    @property
    def failed(self) -> list[TrialOutcome]:
        """The trials that have no result."""
        return [one for row in self.rows for one in row.outcomes if one.why is not None]

    def plain(self) -> dict[str, Any]:
        """What sweep.json holds."""
        best = self.best
        return {
            "run": self.plan.base.name,
            "judges": "validation",
            "score": {"name": self.score.name, "higher_is_better": self.score.higher_is_better},
            "keys": list(self.plan.sweep.varied),
            "seeds": list(dict.fromkeys(trial.seed for trial in self.plan.trials)),
            "best": best and best.combination.number,
            "privacy": self.cost.plain(),
            "rows": [row.plain() for row in self.rows],
        }


def outcome_of(plan: SweepPlan, place: SweepPlace) -> SweepOutcome:
    """Read what the trials' folders hold."""
    score = plan.base.spec().kind.scores[0]
    rows = [SweepRow(c, tuple(_outcomes(plan.trials, c, place)), score) for c in plan.combinations]
    ordered = tuple(sorted(rows, key=_rank))
    folders = [(trial, place.trial(trial)) for trial in plan.trials]
    return SweepOutcome(plan, score, ordered, cost_of(folders))


def _rank(row: SweepRow) -> tuple[bool, float, int]:
    """Complete rows first, then by score; of equal ones the first combination."""
    ahead = row.score.advantage(row.mean, 0.0) if row.done else 0.0
    return not row.complete, -ahead, row.combination.number


def _outcomes(
    trials: Sequence[SweepTrial], combination: Combination, place: SweepPlace
) -> list[TrialOutcome]:
    return [_outcome(t, place) for t in trials if t.combination == combination.number]


def _outcome(trial: SweepTrial, place: SweepPlace) -> TrialOutcome:
    if finished(place, trial):
        return TrialOutcome(trial, side(place.trial(trial).path, trial.name), None)
    return TrialOutcome(trial, None, last_line(place, trial))
