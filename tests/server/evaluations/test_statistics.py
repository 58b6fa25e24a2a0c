"""Intervals, worst tenths, tests and their correction, worked out by hand or by scipy."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp, wilcoxon

from metaward.client.tasks.kinds import ACCURACY, MEAN_SQUARED_ERROR
from metaward.server.evaluations.statistics import (
    Interval,
    Tenth,
    fixed_hospitals,
    holm,
    paired_test,
    sampled_hospitals,
    worst_tenth,
)


def hospitals(*means: float) -> dict[str, np.ndarray]:
    return {f"h{k:02d}": np.array([mean, mean]) for k, mean in enumerate(means)}


def test_holm_by_hand() -> None:
    """0.01 * 4, then 0.02 * 3, then 0.03 * 2 and 0.04 * 1, neither below the ones before."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_lies_between_p_and_bonferroni(ps: list[float]) -> None:
    corrected = holm(ps)
    for p, q in zip(ps, corrected, strict=True):
        assert p <= q <= max(1.0, len(ps) * p)
    assert [q for _, q in sorted(zip(ps, corrected, strict=True))] == sorted(corrected)


def test_intervals_by_hand() -> None:
    """Over episodes: variance 1/3 of four values, two hospitals. Over hospitals: t with 2 degrees
    of freedom is 4.3027 at 97.5 %."""
    values = {"a": np.array([0.0, 1, 0, 1]), "b": np.array([0.5, 0.5])}
    half = 1.96 * sqrt(1 / 12) / 2
    found = fixed_hospitals(values)
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half), rel=1e-4)
    assert Interval(-0.1, 1.2).within(ACCURACY) == Interval(0.0, 1.0), "above 100 % is nothing"
    assert Interval(-0.1, 1.2).within(MEAN_SQUARED_ERROR) == Interval(0.0, 1.2)
    over = sampled_hospitals([0.25, 0.5, 0.75])
    assert over is not None
    assert over.high - 0.5 == pytest.approx(4.302653 * 0.25 / sqrt(3), rel=1e-6)
    assert sampled_hospitals([0.5]) is None


def test_the_worst_tenth_is_of_episodes_with_few_hospitals_and_of_hospitals_with_many() -> None:
    few = {"a": np.arange(10.0), "b": np.arange(10.0, 20.0)}
    assert worst_tenth(few, ACCURACY) == Tenth(0.5, "episodes", 2)
    assert worst_tenth(few, MEAN_SQUARED_ERROR) == Tenth(18.5, "episodes", 2)
    many = hospitals(*np.arange(11.0))
    assert worst_tenth(many, ACCURACY) == Tenth(0.5, "hospitals", 2)
    assert worst_tenth(many, MEAN_SQUARED_ERROR) == Tenth(9.5, "hospitals", 2)


@given(st.lists(st.floats(-1, 1, width=16), min_size=2, max_size=5))
def test_few_hospitals_are_compared_by_the_t_test(means: list[float]) -> None:
    found = paired_test(hospitals(*means), comparisons=1)
    assert (found.name, found.over) == ("t", "hospitals")
    if np.ptp(means) > 1e-3:
        assert found.p == pytest.approx(ttest_1samp(means, 0).pvalue, rel=1e-6)


def test_many_hospitals_are_compared_by_ranks() -> None:
    means = [0.1, -0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    found = paired_test(hospitals(*means), comparisons=1)
    assert (found.name, found.over) == ("Wilcoxon", "hospitals")
    assert found.p == pytest.approx(wilcoxon(means).pvalue)
    assert paired_test(hospitals(*means), comparisons=50).name == "t", "it could never be small"


def test_one_hospital_is_compared_over_its_episodes() -> None:
    gaps = np.array([0.1, 0.2, -0.1, 0.3])
    found = paired_test({"a": gaps}, comparisons=1)
    assert (found.name, found.over) == ("t", "episodes")
    assert found.p == pytest.approx(ttest_1samp(gaps, 0).pvalue)


@pytest.mark.parametrize("count", [1, 3, 12])
def test_no_difference_at_all_has_p_1(count: int) -> None:
    assert paired_test(hospitals(*[0.0] * count), comparisons=1).p == 1.0


def test_the_t_test_errs_as_often_as_it_says() -> None:
    """Six hospitals without a difference, 4000 times: p below 0.05 in 5 % +- 1.1 %."""
    rng = np.random.default_rng(0)
    ps = [paired_test(hospitals(*rng.normal(size=6)), comparisons=9).p for _ in range(4000)]
    assert 0.039 <= np.mean(np.array(ps) < 0.05) <= 0.061
