"""Combiners against values worked out by hand and against each other."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from metaward.strategies import COMBINE
from metaward.strategies import combine as rules
from metaward.strategies.combine import (
    Combine,
    GeometricMedian,
    Krum,
    Mean,
    Median,
    TooFewError,
    TrimmedMean,
)

Vector = NDArray[np.float32]

ROWS = np.array([[1, 10, -3], [2, 20, 0], [6, 90, 9], [3, 0, 2]], np.float32)
VALUES = st.floats(-1000, 1000, width=32)
UPDATES = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=VALUES)
SIZES = st.tuples(st.integers(5, 12), st.integers(1, 6))
ENOUGH = arrays(np.float32, SIZES, elements=VALUES)
"""Updates of 5 hospitals or more, as all rules need with their defaults."""


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
        (0.4, 5, 2),
        (0.33, 3, 1),
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


@given(ENOUGH)
def test_median_is_the_middle_of_the_sorted(updates: Vector) -> None:
    n = len(updates)
    columns = [sorted(map(float, column)) for column in updates.T]
    expected = [(c[(n - 1) // 2] + c[n // 2]) / 2 for c in columns]
    np.testing.assert_allclose(Median()(updates), expected, rtol=1e-6, atol=1e-9)


@given(ENOUGH, st.randoms(use_true_random=False))
def test_order_of_hospitals_changes_nothing_after_sorting(updates: Vector, random: object) -> None:
    """The strategy sorts by name; robust rules do not even need that."""
    order = list(range(len(updates)))
    random.shuffle(order)  # type: ignore[attr-defined]
    for combine in (Median(), TrimmedMean(0.2)):
        np.testing.assert_array_equal(combine(updates[order]), combine(updates))
    np.testing.assert_allclose(Mean()(updates[order]), Mean()(updates), rtol=1e-6, atol=1e-6)


@given(ENOUGH)
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


def test_one_hospital_alone_decides_with_the_mean_and_with_no_other_rule() -> None:
    np.testing.assert_array_equal(Mean()(ROWS[:1]), ROWS[0])
    for rule in COMBINE.keys() - {"mean"}:
        with pytest.raises(TooFewError, match="1 updates are too few for"):
            COMBINE[rule]()(ROWS[:1])


@pytest.mark.parametrize(
    ("combine", "few", "enough", "words"),
    [
        (Mean(), [0], [1, 2, 3], "needs an update"),
        (Median(), [0, 1, 2], [3, 4], "needs 3 updates or more"),
        (GeometricMedian(), [0, 1, 2], [3, 4], "needs 3 updates or more"),
        (TrimmedMean(0.0), [0, 1, 2], [3, 4], "needs 3 updates or more"),
        (TrimmedMean(0.49), [3, 4, 6, 50, 52], [51, 100], "cut by trim = 0.49"),
        (Krum(), [0, 4], [5, 6], "needs 5 updates or more with faulty = 1, keep = 1"),
        (Krum(0, 1), [2], [3], "needs 3 updates or more with faulty = 0"),
        (Krum(2, 1), [6], [7], "needs 7 updates or more with faulty = 2"),
        (Krum(1, 4), [6], [7], "needs 7 updates or more with faulty = 1, keep = 4"),
    ],
)
def test_rule_says_with_how_many_updates_it_means_nothing(
    combine: Combine, few: list[int], enough: list[int], words: str
) -> None:
    for hospitals in few:
        assert words in (combine.unsuited(hospitals) or "")
        with pytest.raises(TooFewError):
            combine(np.ones((hospitals, 2), np.float32))
    for hospitals in enough:
        assert combine.unsuited(hospitals) is None
        np.testing.assert_array_equal(combine(np.ones((hospitals, 2), np.float32)), [1, 1])


# five points on a line at 0, 1, 2, 4 and 100: with f = 1 scores are of the 2 nearest others
LINE = np.array([[0], [1], [2], [4], [100]], np.float32)


@pytest.mark.parametrize(
    ("combine", "rows", "expected"),
    [
        # 0: 1 + 4 = 5; 1: 1 + 1 = 2; 2: 1 + 4 = 5 (0 and 4 are as far); 4: 4 + 9; 100: far
        (Krum(1, 1), LINE, 1),
        (Krum(1, 2), LINE, (1 + 0) / 2),  # 0 and 2 have equal scores: the first one counts
        (Krum(0, 3), LINE, (2 + 1 + 0) / 3),  # of 3 nearest: 0: 21, 1: 11, 2: 9, 4: 29
    ],
)
def test_krum_hand_solved(combine: Krum, rows: Vector, expected: float) -> None:
    assert combine(rows)[0] == np.float32(expected)


def test_krum_takes_a_whole_update_and_never_mixes_coordinates() -> None:
    rows = np.random.default_rng(1).normal(size=(9, 4)).astype(np.float32)
    found = Krum(faulty=2)(rows)
    assert any((found == row).all() for row in rows)


def test_geometric_median_of_a_triangle_is_its_fermat_point() -> None:
    """From there the corners lie 120 degrees apart (Torricelli). For (0,0), (6,0), (3,3) it is
    (3, sqrt 3)."""
    corners = np.array([[0, 0], [6, 0], [3, 3]], np.float32)
    np.testing.assert_allclose(GeometricMedian()(corners), [3, np.sqrt(3)], atol=1e-4)


@given(ENOUGH)
def test_no_point_near_the_geometric_median_is_better(updates: Vector) -> None:
    points, found = updates.astype(np.float64), GeometricMedian()(updates).astype(np.float64)

    def total(z: NDArray[np.float64]) -> float:
        return float(np.linalg.norm(points - z, axis=1).sum())

    others = [Mean()(updates), Median()(updates), *updates]
    best = min(total(other.astype(np.float64)) for other in others)
    assert total(found) <= best * (1 + 1e-3) + 1e-3


def test_geometric_median_follows_a_majority_at_one_point() -> None:
    rows = np.array([[1, 2]] * 3 + [[1e30, 0], [-50, 7]], np.float32)
    np.testing.assert_array_equal(GeometricMedian()(rows), [1, 2])


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_geometric_median_scales_with_the_updates(scale: float) -> None:
    rows = np.random.default_rng(2).normal(size=(7, 3))
    found = GeometricMedian()((scale * rows).astype(np.float32))
    np.testing.assert_allclose(found / scale, GeometricMedian()(rows.astype(np.float32)), rtol=1e-3)


def test_geometric_median_ends_after_its_iterations() -> None:
    rows = np.random.default_rng(3).normal(size=(7, 3)).astype(np.float32)
    one, two = GeometricMedian(iterations=1)(rows), GeometricMedian(iterations=2)(rows)
    loose = GeometricMedian(tolerance=1.0)(rows)
    assert not np.array_equal(one, two)
    np.testing.assert_array_equal(loose, one)


@pytest.mark.parametrize("hostile", [1e30, -1e30, 3.4e38])
def test_robust_rules_survive_one_hostile_hospital_and_the_mean_does_not(hostile: float) -> None:
    honest = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    attacked = np.vstack([honest, np.full((1, 5), hostile, np.float32)])
    for combine in (Median(), TrimmedMean(0.1), Krum(1), Krum(1, 7), GeometricMedian()):
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


def test_distances_of_many_updates_are_those_of_differences(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also of copies and of near copies, whose norms would cancel."""
    rng = np.random.default_rng(3)
    rows = (1e3 + rng.normal(size=(40, 50))).astype(np.float32)
    rows[7], rows[8] = rows[3], np.nextafter(rows[3], np.float32(2e3))
    exact = np.stack([np.square(rows.astype(np.float64) - r).sum(axis=1) for r in rows])
    monkeypatch.setattr(rules, "EXACT", 0)
    monkeypatch.setattr(rules, "AT_ONCE", 7 * 50)  # seven rows at a time
    found = np.concatenate(list(rules.squared_distances(rows)))
    np.testing.assert_allclose(found, exact, rtol=1e-9, atol=0)
    assert found[3, 7] == 0 < found[3, 8]


@pytest.mark.parametrize("rule", [Median(), TrimmedMean(0.2), GeometricMedian(), Krum(2, 3)])
def test_a_rule_gives_the_same_whatever_it_takes_at_once(
    rule: Combine, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.random.default_rng(4).normal(size=(13, 29)).astype(np.float32)
    whole = rule(rows)
    monkeypatch.setattr(rules, "AT_ONCE", 1)  # a coordinate, or an update, at a time
    monkeypatch.setattr(rules, "EXACT", 0)
    np.testing.assert_allclose(rule(rows), whole, rtol=1e-6, atol=1e-7)
