"""Limits of an update's norm: by a number, by what noise allows, by the others."""

from typing import Any

import numpy as np
import pytest

from metaward.privacy import Release
from metaward.strategies.limits import NOTHING, FixedLimit, ReachLimit, TypicalLimit, norm_of
from tests.strategies.federation import THETA, TRAIN, Sabotage, grid_of, honest, run, update

TYPICAL = TypicalLimit(multiple=10.0, rounds=3, most=1000.0)


def past(*medians: float) -> Any:
    return np.array(medians, np.float64)


def test_a_number_is_the_limit_whatever_the_updates_are() -> None:
    assert FixedLimit(3.0).of(7, THETA, [1.0, 2.0], past(9.0)) == 3.0
    assert len(FixedLimit(3.0).remembers(7, [1.0], past(9.0))) == 0


def test_reach_has_a_first_round_and_grows_with_theta_only() -> None:
    limit = ReachLimit(2.0, first=5.0, decay=0.5)
    theta = np.array([3, 4], np.float32)
    assert limit.of(1, theta, [100.0] * 9, past(50.0)) == 5.0 + 0.5 * 5
    assert limit.of(2, theta, [], NOTHING) == 2.0 + 0.5 * 5
    assert len(limit.remembers(2, [100.0] * 9, NOTHING)) == 0


@pytest.mark.parametrize(
    ("norms", "medians", "expected"),
    [
        ([], past(), 1000.0),
        ([1.0, 2.0], past(), 1000.0),  # two of which one may be wrong
        ([1.0, 2.0, 999.0], past(), 20.0),
        ([0.1, 0.1, 999.0], past(3.0, 4.0, 5.0), 40.0),  # the larger median
        ([3.0, 3.0, 3.0], past(0.1), 30.0),  # all grew
        ([1.0, 999.0], past(0.2, 0.2), 2.0),  # too few now, so what was before
        ([900.0] * 5, past(), 1000.0),  # above it nothing passes
        ([0.0, 0.0, 5.0], past(), 1000.0),  # nothing is typical yet
    ],
)
def test_typical_is_a_multiple_of_the_larger_median(
    norms: list[float], medians: Any, expected: float
) -> None:
    assert TYPICAL.of(4, THETA, norms, medians) == expected


def test_typical_remembers_the_last_medians() -> None:
    known = NOTHING
    for number, norms in enumerate([[1.0], [2.0, 4.0], [], [5.0, 6.0, 99.0], [7.0]], 1):
        known = TYPICAL.remembers(number, norms, known)
    assert known.tolist() == [3.0, 6.0, 7.0]


def test_typical_forgets_a_first_round_that_estimates() -> None:
    limit = TypicalLimit(estimate=True)
    first = limit.remembers(1, [500.0] * 3, NOTHING)
    assert len(first) == 0
    assert limit.remembers(2, [0.1] * 3, first).tolist() == [0.1]


def test_norm_does_not_overflow() -> None:
    assert norm_of(np.full(4, 1e30, np.float32)) == pytest.approx(2e30)


def long(hospital: str, factor: float) -> Sabotage:
    def act(request: Any) -> Release:
        longer = np.float32(factor) * update(hospital, request)
        return Release(hospital, request.round, longer, 0.5)

    return {hospital: act}


def test_one_long_update_is_rejected_where_the_fixed_limit_lets_it_in() -> None:
    """Norm 300 and more among ones of 1 to 30."""
    attack = long("rome", 300.0)
    fixed = run(grid_of(attack), num_rounds=1)[0][1]
    assert fixed.rejected == {}
    (_, report), *_ = run(grid_of(attack), num_rounds=1, limit=TypicalLimit())
    assert report.rejected == {"rome": "norm-above-cap"}


def test_what_was_common_before_counts_where_few_answer() -> None:
    """From round 3 on only two answer; the first one of them sends a long update."""

    def act(name: str) -> Any:
        def answer(request: Any) -> Any:
            if request.round < 3:
                return honest(name)(request, "train")
            return long("rome", 1e3)["rome"](request) if name == "rome" else None

        return answer

    grid = grid_of({name: act(name) for name in sorted(TRAIN)[1:]})
    results = run(grid, num_rounds=3, limit=TypicalLimit(most=1e9), quorum=0.2, retries=0)
    assert results[2][1].rejected["rome"] == "norm-above-cap"
    assert results[2][1].accepted == ("bern",)


def test_resumed_run_has_the_limits_of_the_uninterrupted_one() -> None:
    options: dict[str, Any] = {"limit": TypicalLimit(multiple=2.0), "quorum": 0.2}
    whole = run(grid_of(), **options)
    assert any(report.rejected for _, report in whole[3:]), "the limit matters here"
    resumed = run(grid_of(), whole[2][0], **options)
    for (one, report), (other, again) in zip(whole[3:], resumed, strict=True):
        assert report == again
        assert one.norms.tolist() == other.norms.tolist()
        assert one.theta.tobytes() == other.theta.tobytes()


@pytest.mark.parametrize("loss", [1e30, 1e6 + 1, -0.001])
def test_implausible_loss_is_left_out_and_its_update_counts(loss: float) -> None:
    def act(request: Any) -> Release:
        return Release("rome", request.round, update("rome", request), loss)

    results, plain = run(grid_of({"rome": act})), run(grid_of())
    assert {report.loss for _, report in results} == {0.5}
    assert {report.loss_left_out for _, report in results} == {("rome",)}
    assert results[-1][0].theta.tobytes() == plain[-1][0].theta.tobytes()
    assert plain[0][1].loss_left_out == ()


def test_no_plausible_loss_is_no_loss() -> None:
    def act(name: str) -> Any:
        return lambda r: Release(name, r.round, update(name, r), 1e30)

    report = run(grid_of({name: act(name) for name in TRAIN}))[0][1]
    assert report.loss is None
    assert report.loss_left_out == tuple(sorted(TRAIN))
