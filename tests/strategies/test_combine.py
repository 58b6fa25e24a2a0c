"""Combiners against values worked out by hand and against each other."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from metaward.strategies import COMBINE
from metaward.strategies.combine import Combine, Mean, Median, TrimmedMean

Vector = NDArray[np.float32]

ROWS = np.array([[1, 10, -3], [2, 20, 0], [6, 90, 9], [3, 0, 2]], np.float32)
UPDATES = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.floats(-1000, 1000, width=32),
)


@pytest.mark.parametrize(
    ("combine", "expected"),
    [
        (Mean(), [3, 30, 2]),
        (Median(), [2.5, 15, 1]),
        (TrimmedMean(0.25), [2.5, 15, 1]),
        (TrimmedMean(0.01), [2.5, 15, 1]),
        (TrimmedMean(0.0), [3, 30, 2]),
    ],
)
def test_hand_solved(combine: Combine, expected: list[float]) -> None:
    np.testing.assert_array_equal(combine(ROWS), np.array(expected, np.float32))


@pytest.mark.parametrize(
    ("trim", "hospitals", "cut"),
    [
        (0.1, 9, 1),
        (0.1, 10, 1),
        (0.1, 11, 2),
        (0.07, 100, 7),
        (0.49, 3, 1),
        (0.49, 2, 0),
        (0.1, 1, 0),
    ],
)
def test_trimmed_mean_cuts_its_share_rounded_up(trim: float, hospitals: int, cut: int) -> None:
    """Squares, so that every different cut gives a different mean."""
    values = np.arange(hospitals, dtype=np.float32) ** 2
    expected = values[cut : hospitals - cut].mean(dtype=np.float64)
    found = TrimmedMean(trim)(values[::-1, None])
    assert found[0] == np.float32(expected)


@given(UPDATES)
def test_mean_is_the_mean_in_double_precision(updates: Vector) -> None:
    """Compared with the sum of exact fractions, rounded once."""
    expected = [sum(map(float, column)) / len(updates) for column in updates.T]
    np.testing.assert_allclose(Mean()(updates), expected, rtol=1e-6, atol=1e-9)


@given(UPDATES)
def test_median_is_the_middle_of_the_sorted(updates: Vector) -> None:
    n = len(updates)
    columns = [sorted(map(float, column)) for column in updates.T]
    expected = [(c[(n - 1) // 2] + c[n // 2]) / 2 for c in columns]
    np.testing.assert_allclose(Median()(updates), expected, rtol=1e-6, atol=1e-9)


@given(UPDATES, st.randoms(use_true_random=False))
def test_order_of_hospitals_changes_nothing_after_sorting(updates: Vector, random: object) -> None:
    """The strategy sorts by name; robust rules do not even need that."""
    order = list(range(len(updates)))
    random.shuffle(order)  # type: ignore[attr-defined]
    for combine in (Median(), TrimmedMean(0.3)):
        np.testing.assert_array_equal(combine(updates[order]), combine(updates))
    np.testing.assert_allclose(Mean()(updates[order]), Mean()(updates), rtol=1e-6, atol=1e-6)


@given(UPDATES)
def test_every_rule_stays_between_the_extremes_and_is_a_float32_vector(updates: Vector) -> None:
    before = updates.copy()
    for rule in COMBINE.values():
        found = rule()(updates)
        assert found.dtype == np.float32
        assert found.shape == updates.shape[1:]
        slack = np.float32(1e-3)  # rounding only
        assert (found >= updates.min(axis=0) - slack).all()
        assert (found <= updates.max(axis=0) + slack).all()
    np.testing.assert_array_equal(updates, before)


@pytest.mark.parametrize("rule", sorted(COMBINE))
def test_one_hospital_alone_decides(rule: str) -> None:
    np.testing.assert_array_equal(COMBINE[rule]()(ROWS[:1]), ROWS[0])


@pytest.mark.parametrize("hostile", [1e30, -1e30, 3.4e38])
def test_robust_rules_survive_one_hostile_hospital_and_the_mean_does_not(hostile: float) -> None:
    honest = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    attacked = np.vstack([honest, np.full((1, 5), hostile, np.float32)])
    for combine in (Median(), TrimmedMean(0.1)):
        found = combine(attacked)
        assert (found >= honest.min(axis=0)).all()
        assert (found <= honest.max(axis=0)).all()
    assert (np.abs(Mean()(attacked)) > 1e28).all()


def test_no_count_can_outvote_the_others() -> None:
    """Every row weighs the same: doubling one hospital's update moves the mean by its n-th part."""
    rows = np.ones((4, 3), np.float32)
    moved = [Mean()(rows + np.eye(4, 1, dtype=np.float32) * scale)[0] for scale in (0, 1, 2, 3)]
    steps = [b - a for a, b in pairwise(moved)]
    np.testing.assert_allclose(steps, 0.25)


def test_mean_is_summed_in_double_precision() -> None:
    """In float32, 1 - 2**25 is -2**25: the small updates of ten thousand hospitals would vanish."""
    rows = np.ones((10_001, 1), np.float32)
    rows[0] = -(2**25)
    assert Mean()(rows)[0] == np.float32((10_000 - 2**25) / 10_001)
    assert TrimmedMean(0.0)(rows)[0] == np.float32((10_000 - 2**25) / 10_001)
