"""What the initialisation buys a hospital that was not there, beside baselines on equal terms.

Every learner is judged on the same episodes of the same unseen hospitals with the same number of
adaptation steps. Two intervals are given: over episodes (the hospitals taken as fixed, the habit of
the few-shot literature), and for each baseline the paired difference over hospitals (the hospitals
taken as a sample, which is what a next hospital needs).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any, Literal

import numpy as np
from scipy.special import stdtrit

from metaward.privacy import Scores

Metric = Literal["accuracy", "mse"]
Z95 = 1.959963984540054


@dataclass(frozen=True)
class Row:
    """One learner's line of the final table.

    ``before`` and ``after`` are means over the hospitals' means; ``low`` and ``high`` the 95 %
    interval of ``after`` over episodes; ``worst`` the worst hospital's mean after adaptation and
    ``worst_hospital`` its name; ``hospitals`` every hospital's mean after adaptation; ``gap`` and
    its bounds the paired advantage of the run's own learner over this one, over hospitals.
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


@dataclass(frozen=True)
class Table:
    """The final table: ``rows[0]`` is the run's own learner."""

    metric: Metric
    episodes: int
    rows: tuple[Row, ...]

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def summarise(learner: str, steps: int, metric: Metric, scores: Sequence[Scores]) -> Row:
    """One row from the unseen hospitals' scores; ``ValueError`` where there are none."""
    if not scores:
        raise ValueError(f"{learner}: no unseen hospital gave scores")
    means = {s.hospital: float(s.after.mean(dtype=np.float64)) for s in scores}
    after = float(np.mean(list(means.values())))
    half = Z95 * sqrt(sum(_variance_of_mean(s) for s in scores)) / len(scores)
    pick = min if metric == "accuracy" else max
    worst = pick(means, key=lambda name: means[name])
    before = float(np.mean([s.before.mean(dtype=np.float64) for s in scores]))
    return Row(
        learner, steps, before, after, after - half, after + half, means[worst], worst, means
    )


def with_gap(row: Row, own: Row, metric: Metric) -> Row:
    """The row with the advantage of ``own`` over it: mean and 95 % t-interval over hospitals."""
    sign = 1.0 if metric == "accuracy" else -1.0
    gaps = np.array([sign * (own.hospitals[h] - v) for h, v in row.hospitals.items()])
    mean = float(gaps.mean())
    if len(gaps) < 2:
        return Row(**{**vars(row), "gap": mean})
    half = float(stdtrit(len(gaps) - 1, 0.975) * gaps.std(ddof=1) / sqrt(len(gaps)))
    return Row(**{**vars(row), "gap": mean, "gap_low": mean - half, "gap_high": mean + half})


def _variance_of_mean(scores: Scores) -> float:
    n = len(scores.after)
    return float(scores.after.var(ddof=1, dtype=np.float64)) / n if n > 1 else 0.0
