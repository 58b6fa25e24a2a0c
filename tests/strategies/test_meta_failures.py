"""Hospitals that fail: the run goes on without the few, and stops without the many."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from metaward.privacy import Refusal, Release, Scores
from metaward.privacy.wire import Request
from metaward.strategies.quorum import QuorumError
from metaward.strategies.roster import Roster
from tests.strategies.fake_grid import FakeGrid, Script, sits
from tests.strategies.federation import (
    FAILURES,
    NAMES,
    SEATS,
    THETA,
    TRAIN,
    UNSEEN,
    Sabotage,
    Vector,
    final,
    grid_of,
    honest,
    run,
    shuffled,
    strategy,
)


@pytest.mark.parametrize("failure", FAILURES)
def test_above_the_quorum_the_run_goes_on_without_the_one_who_failed(failure: str) -> None:
    """... and ends where it would have without that hospital; the report says who and why."""
    act, reason = FAILURES[failure]
    others = tuple(sorted(set(TRAIN) - {"rome"}))
    results = run(grid_of({"rome": act}, arrive=shuffled(3)))
    assert [dict(report.rejected) for _, report in results] == [{"rome": reason}] * 6
    assert {report.accepted for _, report in results} == {others}
    assert results[-1][0].theta.tobytes() == final(grid_of(), train=others)


def test_below_the_quorum_the_run_stops_and_says_who_and_why() -> None:
    bad: Sabotage = {
        "rome": FAILURES["refuses"][0],
        "kyiv": FAILURES["impostor"][0],
        "oslo": FAILURES["crashes"][0],
    }
    with pytest.raises(QuorumError) as caught:
        run(grid_of(bad))
    text = str(caught.value)
    assert text.startswith("round 1: 2 of 5 hospitals gave a valid update, 3 are needed")
    assert "strategies.quorum = 0.5" in text
    assert "kyiv (wrong-hospital), oslo (error-2), rome (data-refused)" in text
    assert "Erika" not in text
    assert "bern" not in text


def test_updates_that_are_too_long_have_two_causes_and_two_ways_out() -> None:
    """Rates that are too high, or noise: nobody at the server can tell them apart."""

    def long(name: str) -> Sabotage:
        return lambda request: Release(name, request.round, THETA * 1e30, 0.5)

    with pytest.raises(QuorumError, match=r"lower it.*raise strategies\.max_norm, or privacy\."):
        run(grid_of({name: long(name) for name in TRAIN}))


def test_failing_later_keeps_the_rounds_before() -> None:
    def tired(request: Request) -> Any:
        return honest("rome")(request, "train") if request.round < 3 else None

    one = strategy(quorum=1.0)
    grid = grid_of({"rome": tired})
    one.roster.gather(grid)
    seen: list[int] = []
    with pytest.raises(QuorumError, match=r"round 3: 4 of 5 .* 5 are needed .*rome \(no-reply\)"):
        seen.extend(state.round for state, _ in one.rounds(grid, one.begin(THETA)))
    assert seen == [1, 2]


@pytest.mark.parametrize(
    ("quorum", "asked", "valid", "passes"),
    [
        (0.5, 5, 3, True),
        (0.5, 5, 2, False),
        (0.5, 4, 2, True),
        (1.0, 5, 4, False),
        (0.01, 5, 1, True),
        (0.01, 5, 0, False),
        (1e-12, 5, 0, False),
        (0.6, 5, 3, True),
        (0.55, 20, 11, True),
        (0.55, 20, 10, False),
        (0.07, 100, 7, True),
        (0.07, 100, 6, False),
    ],
)
def test_quorum_is_a_share_of_those_asked(
    quorum: float, asked: int, valid: int, passes: bool
) -> None:
    names = [f"h{n:03d}" for n in range(asked)]

    def script(name: str, index: int) -> Script:
        work = lambda r, _: Release(name, r.round, THETA, None) if index < valid else None  # noqa: E731
        return sits(name, index, work)

    grid = FakeGrid({n + 5: script(name, n) for n, name in enumerate(names)})
    one = strategy(
        roster=Roster(names, Request(0, ""), 5.0),
        train=names,
        unseen=[],
        quorum=quorum,
        num_rounds=1,
    )
    rounds = one.rounds(grid, one.begin(THETA))
    if passes:
        assert len(next(rounds)[1].accepted) == valid
    else:
        with pytest.raises(QuorumError, match=f"{valid} of {asked} hospitals"):
            next(rounds)


def test_hospital_that_left_counts_as_one_without_reply() -> None:
    grid = grid_of()
    one = strategy()
    one.roster.gather(grid)
    rounds = one.rounds(grid, one.begin(THETA))
    assert next(rounds)[1].rejected == {}
    script = grid.scripts.pop(100 + 7 * SEATS.index("kyiv"))
    assert next(rounds)[1].rejected == {"kyiv": "no-reply"}
    grid.scripts[5000] = script
    assert next(rounds)[1].rejected == {}, "back under another node id"


# ---------------------------------------------------------------------------- evaluation


def evaluate(grid: FakeGrid, hospitals: Sequence[str] = UNSEEN) -> tuple[list[Scores], Any]:
    one = strategy()
    one.roster.gather(grid)
    return one.evaluate(grid, hospitals, Request(6, "{}", THETA, 3))


def ones(episodes: int) -> Vector:
    return np.ones((1, episodes), np.float32)


def test_scores_come_sorted_by_name() -> None:
    scores, rejected = evaluate(grid_of(arrive=shuffled(1)))
    assert [s.hospital for s in scores] == ["graz", "york"]
    assert rejected == {}
    assert [s.after.tolist() for s in scores] == [[[7 / 8] * 3], [[6 / 8] * 3]]


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (lambda r: Scores("graz", 6, NAMES, ones(3), ones(2)), "wrong-shape"),
        (lambda r: Scores("graz", 5, NAMES, ones(3), ones(3)), "wrong-round"),
        (lambda r: Scores("york", 6, NAMES, ones(3), ones(3)), "wrong-hospital"),
        (lambda r: Scores("graz", 6, ("depth",), ones(3), ones(3)), "wrong-scores"),
        (lambda r: Release("graz", 6, THETA, None), "wrong-kind"),
        (lambda r: Refusal("failed"), "failed"),
        (lambda r: None, "no-reply"),
    ],
)
def test_scores_that_do_not_count_are_named(act: Any, reason: str) -> None:
    scores, rejected = evaluate(grid_of({"graz": act}))
    assert [s.hospital for s in scores] == ["york"]
    assert rejected.keys() == {"graz"}
    assert rejected["graz"].startswith(reason)
