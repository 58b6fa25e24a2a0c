"""The final table's numbers, worked out by hand."""

from dataclasses import asdict
from math import sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from metaward.client.tasks.kinds import ACCURACY, MEAN_SQUARED_ERROR, Score
from metaward.privacy import Scores
from metaward.server.evaluate import (
    Judged,
    LearnerRow,
    ScoreTable,
    summarise,
    table,
    watched,
    with_gap,
)


def scores(
    hospital: str, after: Any, before: Any = 0.25, names: tuple[str, ...] = (ACCURACY.name,)
) -> Scores:
    """The same values under each of the names."""
    values = np.array([after] * len(names), np.float32)
    return Scores(hospital, 1, names, np.full_like(values, before), values)


def row(score: Score = ACCURACY, **hospitals: list[float]) -> LearnerRow:
    answers = [scores(name, after, names=(score.name,)) for name, after in hospitals.items()]
    return summarise(Judged("x", 5, answers), score)


def test_means_and_interval_by_hand() -> None:
    """Hospital a: 0, 1, 0, 1: mean 1/2, variance (n - 1) 1/3, of its mean 1/12.
    Hospital b: 3/4, 1: mean 7/8, variance 1/32, of its mean 1/64.
    Over both: mean 11/16, standard error sqrt(1/12 + 1/64) / 2."""
    one = row(a=[0, 1, 0, 1], b=[0.75, 1])
    assert one.after == 11 / 16
    assert one.before == 0.25
    half = 1.96 * sqrt(1 / 12 + 1 / 64) / 2
    assert one.high - one.after == pytest.approx(half, rel=1e-4)
    assert one.after - one.low == pytest.approx(half, rel=1e-4)
    assert one.hospitals == {"a": 0.5, "b": 0.875}
    assert (one.learner, one.steps) == ("x", 5)
    assert (one.gap, one.gap_low, one.gap_high) == (None, None, None)


def test_every_hospital_weighs_the_same() -> None:
    assert row(a=[1.0] * 99, b=[0.0]).after == 0.5


def test_before_is_the_mean_of_the_hospitals_means() -> None:
    parts = [scores("a", [1] * 9, before=0.0), scores("b", [1], before=1.0)]
    assert summarise(Judged("x", 1, parts), ACCURACY).before == 0.5


def test_worst_accuracy_is_the_lowest_and_worst_error_the_highest() -> None:
    values = {"a": [0.5], "b": [0.9], "c": [0.1]}
    low, high = row(ACCURACY, **values), row(MEAN_SQUARED_ERROR, **values)
    assert (low.worst_hospital, low.worst) == ("c", pytest.approx(0.1))
    assert (high.worst_hospital, high.worst) == ("b", pytest.approx(0.9))


def test_one_hospital_and_one_episode_have_no_spread() -> None:
    one = row(a=[0.75])
    assert (one.low, one.after, one.high) == (0.75, 0.75, 0.75)
    assert (one.worst, one.worst_hospital) == (0.75, "a")
    gap = with_gap(row(a=[0.25]), one, ACCURACY)
    assert (gap.gap, gap.gap_low, gap.gap_high) == (0.5, None, None)


def test_no_scores_are_an_error() -> None:
    with pytest.raises(ValueError, match="reptile: no hospital gave scores"):
        summarise(Judged("reptile", 5, []), ACCURACY)


def test_gap_is_what_the_first_row_is_better_by() -> None:
    own, other = row(a=[0.75], b=[1.0]), row(a=[0.5], b=[0.5])
    assert with_gap(other, own, ACCURACY).gap == 0.375
    assert with_gap(own, other, ACCURACY).gap == -0.375


def test_gap_of_errors_is_positive_when_the_first_row_errs_less() -> None:
    own, other = (
        row(MEAN_SQUARED_ERROR, a=[1.0], b=[2.0]),
        row(MEAN_SQUARED_ERROR, a=[4.0], b=[2.5]),
    )
    assert with_gap(other, own, MEAN_SQUARED_ERROR).gap == 1.75
    assert with_gap(own, other, MEAN_SQUARED_ERROR).gap == -1.75


def test_gap_interval_by_hand() -> None:
    """Gaps 1/4, 1/2, 3/4: mean 1/2, deviation 1/4; t(2 degrees) = 4.3027 at 97.5 %."""
    own, other = row(a=[0.5], b=[0.75], c=[1.0]), row(a=[0.25], b=[0.25], c=[0.25])
    found = with_gap(other, own, ACCURACY)
    half = 4.302653 * 0.25 / sqrt(3)
    assert found.gap == 0.5
    assert found.gap_low == pytest.approx(0.5 - half, rel=1e-6)
    assert found.gap_high == pytest.approx(0.5 + half, rel=1e-6)


@given(
    st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 2), min_size=2, max_size=9),
    st.sampled_from([ACCURACY, MEAN_SQUARED_ERROR]),
)
def test_gap_is_scipys_paired_interval(pairs: list[tuple[float, float]], score: Score) -> None:
    names = [f"h{n}" for n in range(len(pairs))]
    own = row(score, **{n: [a] for n, (a, _) in zip(names, pairs, strict=True)})
    other = row(score, **{n: [b] for n, (_, b) in zip(names[::-1], pairs[::-1], strict=True)})
    found = with_gap(other, own, score)
    a, b = np.array(pairs).T if score.higher_is_better else np.array(pairs).T[::-1]
    assert found.gap == pytest.approx((a - b).mean(), abs=1e-6)  # means have 7 digits
    if np.ptp(a - b) > 1e-3:
        low, high = ttest_rel(a, b).confidence_interval(0.95)
        assert (found.gap_low, found.gap_high) == tuple(
            pytest.approx(v, rel=1e-4, abs=1e-5) for v in (low, high)
        )


def test_gap_keeps_the_rest_of_the_row() -> None:
    one = row(a=[0.5, 0.25], b=[1.0, 0.0])
    changed = asdict(with_gap(one, row(a=[1.0], b=[1.0]), ACCURACY))
    for key, value in asdict(one).items():
        if not key.startswith("gap"):
            assert changed[key] == value


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Coin flips with p = 0.7, 4 hospitals of 50 episodes, 2000 runs: 95 % +- 1.5 %."""
    rng = np.random.default_rng(0)
    draws = (rng.random((2000, 4, 50)) < 0.7).astype(np.float32)
    hits = 0
    for draw in draws:
        one = summarise(Judged("x", 1, [scores(str(i), d) for i, d in enumerate(draw)]), ACCURACY)
        hits += one.low <= 0.7 <= one.high
    assert 0.935 <= hits / 2000 <= 0.965


def test_table_is_json(tmp_path: object) -> None:
    import json

    gap = with_gap(row(a=[1.0]), row(a=[2.0]), MEAN_SQUARED_ERROR)
    made = ScoreTable(MEAN_SQUARED_ERROR, 10, (row(MEAN_SQUARED_ERROR, a=[1.0]), gap))
    plain = json.loads(json.dumps(made.plain()))
    assert plain["metric"] == "mse"
    assert plain["rows"][0]["hospitals"] == {"a": 1.0}
    assert plain["rows"][1]["gap"] == -1.0


def test_each_score_has_a_table_of_its_own() -> None:
    """Both names carry the same values: higher is better in one table and worse in the other."""
    names = (MEAN_SQUARED_ERROR.name, ACCURACY.name)
    own, other = ([scores("a", [v], names=names), scores("b", [v], names=names)] for v in (1, 0.5))
    judged = [Judged("own", 5, own), Judged("other", 5, other)]
    errors, hits = (table(score, 1, judged) for score in (MEAN_SQUARED_ERROR, ACCURACY))
    assert (errors.rows[1].gap, hits.rows[1].gap) == (-0.5, 0.5)
    assert errors.rows[0].gap is None
    assert [r.learner for r in hits.rows] == ["own", "other"]


def test_scores_are_found_by_their_names() -> None:
    names = (MEAN_SQUARED_ERROR.name, ACCURACY.name)
    values = np.array([[4.0, 2.0], [0.5, 1.0]], np.float32)
    judged = Judged("x", 5, [Scores("a", 1, names, values / 2, values)])
    assert summarise(judged, MEAN_SQUARED_ERROR).after == 3.0
    assert summarise(judged, ACCURACY).after == 0.75
    kept = watched(judged, (MEAN_SQUARED_ERROR, ACCURACY))
    assert (kept["before"], kept["after"]) == (1.5, 3.0)
    assert kept["others"][ACCURACY.name]["after"] == 0.75
    assert "others" not in watched(judged, (ACCURACY,))


def test_an_interval_ends_where_the_score_does() -> None:
    one = row(a=[1.0, 1.0, 0.75], b=[1.0, 1.0, 1.0])
    assert one.after + (one.after - one.low) > 1
    assert one.high == 1.0
    assert row(MEAN_SQUARED_ERROR, a=[0.0, 3.0]).low == 0.0


def test_how_float32_rounds_makes_no_gap() -> None:
    """The same hits in another order and share: 0.1 + 0.3 is 0.2 + 0.2, but not as float32."""
    one, other = row(a=[0.1, 0.3]), row(a=[0.2, 0.2])
    assert with_gap(other, one, ACCURACY).gap == 0.0
    assert np.float32([0.1, 0.3]).mean(dtype=float) != np.float32([0.2, 0.2]).mean(dtype=float)
