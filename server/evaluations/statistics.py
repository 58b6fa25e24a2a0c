"""Intervals, worst tenths, paired tests and their correction for many comparisons.

Two questions, two intervals (docs/decisions/0004-two-intervals.md). Over episodes, the hospitals
are taken as fixed: how exact is this mean for these hospitals? Over hospitals, they are a sample:
what can another hospital expect?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any

import numpy as np
import scipy  # its part `stats` takes long to import; it comes at its first use
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from metaward.client.tasks.kinds import Score
from metaward.server.evaluate import over_episodes

Numbers = NDArray[Any]
MANY = 10
"""From so many hospitals on, the worst tenth is one of hospitals; below, one of episodes."""


@dataclass(frozen=True)
class Interval:
    """A 95 % interval; None where there is only one value to estimate it from."""

    low: float
    high: float


@dataclass(frozen=True)
class Tenth:
    """The mean over the worst tenth (rounded up) of the hospitals' means, or of all episodes."""

    value: float
    of: str
    count: int


@dataclass(frozen=True)
class PairedTest:
    """A paired two-sided test of "no difference": its name, and p; ``over`` hospitals or episodes.

    ``corrected`` is p after Holm's correction for all comparisons of the evaluation.
    """

    name: str
    over: str
    p: float
    corrected: float | None = None


def fixed_hospitals(values: Mapping[str, Numbers]) -> Interval:
    """The interval of the mean of the hospitals' means over episodes, the hospitals as fixed."""
    _, mean, half = over_episodes(values)
    return Interval(mean - half, mean + half)


def sampled_hospitals(means: Sequence[float]) -> Interval | None:
    """The t-interval of the mean over hospitals; None for one hospital."""
    return t_interval(means)


def t_interval(values: Sequence[float]) -> Interval | None:
    """Student's t-interval of the mean of independent values; None for fewer than two."""
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return None
    half = float(stdtrit(n - 1, 0.975) * np.std(values, ddof=1) / sqrt(n))
    return Interval(mean - half, mean + half)


def worst_tenth(values: Mapping[str, Numbers], score: Score) -> Tenth:
    """Of hospitals where there are at least ``MANY`` of them, else of their episodes."""
    by_hospital = len(values) >= MANY
    means = over_episodes(values)[0].values()
    all_of_them = np.array(list(means)) if by_hospital else np.concatenate(list(values.values()))
    count = ceil(len(all_of_them) / 10)
    ordered = np.sort(all_of_them.astype(np.float64))
    worst = ordered[:count] if score.higher_is_better else ordered[-count:]
    return Tenth(float(worst.mean()), "hospitals" if by_hospital else "episodes", count)


def paired_test(gaps: Mapping[str, Numbers], comparisons: int) -> PairedTest:
    """A test of paired differences, hospital -> (episodes,), one of ``comparisons``.

    Over hospitals: Wilcoxon's signed ranks (1945), which assume no shape, where there are so many
    hospitals that the smallest p it can give, 2 / 2^n, stays below 0.05 after the correction; with
    fewer, Student's t, whose assumption of normal means of many episodes is mild. With one
    hospital: Student's t over its episodes, which says nothing about another hospital.
    """
    means = np.array([float(np.mean(one, dtype=np.float64)) for one in gaps.values()])
    if len(means) == 1:
        return PairedTest("t", "episodes", _student(next(iter(gaps.values())).astype(np.float64)))
    if 2.0 ** (1 - len(means)) * comparisons <= 0.05:
        return PairedTest("Wilcoxon", "hospitals", _ranks(means))
    return PairedTest("t", "hospitals", _student(means))


def _student(gaps: Numbers) -> float:
    """p of the one-sample t-test (n,); 1 for no difference, and for one value, which tells nothing.

    ``scipy.stats.ttest_1samp`` warns where differences are almost equal; this does not.
    """
    n, mean, spread = len(gaps), float(gaps.mean()), float(gaps.std(ddof=1)) if len(gaps) > 1 else 0
    if n < 2 or mean == 0:
        return 1.0
    return float(2 * stdtr(n - 1, -abs(mean) / (spread / sqrt(n)))) if spread else 0.0


def _ranks(gaps: Numbers) -> float:
    """p of the signed-rank test, exact where no two differences are equal."""
    return float(scipy.stats.wilcoxon(gaps).pvalue) if gaps.any() else 1.0


def holm(ps: Sequence[float]) -> list[float]:
    """The p-values corrected for their number (Holm 1979: A Simple Sequentially Rejective Multiple
    Test Procedure), in the order given."""
    order = np.argsort(ps, kind="stable")
    scaled = np.asarray(ps, np.float64)[order] * np.arange(len(ps), 0, -1)
    corrected = np.empty(len(ps))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(p) for p in corrected]
