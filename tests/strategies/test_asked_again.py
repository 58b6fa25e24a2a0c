"""Hospitals that say nothing: who is asked again, with what, and who is left alone."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from flwr.app import Error, Message

from metaward.privacy import Refusal
from metaward.privacy.wire import Request, digest
from metaward.strategies import roster as roster_module
from metaward.strategies.combine import Krum, Median
from metaward.strategies.meta import MetaStrategy
from metaward.strategies.quorum import QuorumError
from metaward.strategies.roster import Roster
from metaward.strategies.silence import DOUBLINGS, REST, Silence
from tests.strategies.fake_grid import FakeGrid
from tests.strategies.federation import (
    SEATS,
    THETA,
    TRAIN,
    UNSEEN,
    grid_of,
    honest,
    strategy,
)


def node(hospital: str) -> int:
    return 100 + 7 * SEATS.index(hospital)


def asked(grid: FakeGrid, hospital: str, kind: str = "train") -> list[Request]:
    return [r for n, r, k in grid.sent if n == node(hospital) and k == kind]


def sleepy(name: str, times: int) -> Any:
    """Says nothing to the first ``times`` requests."""
    left = iter(range(times))

    def act(request: Request) -> Any:
        return None if next(left, None) is not None else honest(name)(request, "train")

    return act


def begun(grid: FakeGrid, **changes: Any) -> tuple[MetaStrategy, Any]:
    one = strategy(**changes)
    one.roster.gather(grid)
    return one, one.rounds(grid, one.begin(THETA))


def test_below_the_quorum_those_who_said_nothing_are_asked_again_unchanged() -> None:
    names = ["oslo", "rome", "kyiv"]
    grid = grid_of({name: sleepy(name, 1) for name in names})
    _, rounds = begun(grid)
    state, report = next(rounds)
    assert report.accepted == tuple(sorted(TRAIN))
    for name in names:
        first, second = asked(grid, name)
        assert digest(first) == digest(second), "the ledger sends the stored bytes"
    assert len(asked(grid, "bern")) == len(asked(grid, "lima")) == 1
    _, plain = begun(grid_of())
    assert state.theta.tobytes() == next(plain)[0].theta.tobytes()


def test_at_the_quorum_nobody_is_asked_again() -> None:
    grid = grid_of({name: sleepy(name, 1) for name in ("oslo", "rome")})
    _, rounds = begun(grid)
    assert next(rounds)[1].rejected == {"oslo": "no-reply", "rome": "no-reply"}
    assert len(asked(grid, "oslo")) == 1


def test_a_refusal_is_an_answer_and_is_not_asked_again() -> None:
    bad: dict[str, Any] = {n: lambda r: Refusal("budget-spent") for n in ("oslo", "rome", "kyiv")}
    grid = grid_of(bad)
    _, rounds = begun(grid, retries=3)
    with pytest.raises(QuorumError, match="oslo \\(budget-spent\\)"):
        next(rounds)
    assert len(asked(grid, "oslo")) == 1


def test_an_error_for_a_node_that_went_away_is_no_answer() -> None:
    lost = {n: iter([Error(5, "")]) for n in ("oslo", "rome", "kyiv")}

    def act(name: str) -> Any:
        return lambda r: next(lost[name], None) or honest(name)(r, "train")

    _, rounds = begun(grid_of({name: act(name) for name in lost}))
    assert next(rounds)[1].accepted == tuple(sorted(TRAIN))


@pytest.mark.parametrize(("retries", "times"), [(0, 1), (1, 2), (3, 4)])
def test_retries_are_bounded_and_the_dead_are_named(retries: int, times: int) -> None:
    grid = grid_of({name: lambda r: None for name in ("oslo", "rome", "kyiv")})
    _, rounds = begun(grid, retries=retries)
    with pytest.raises(QuorumError, match=r"round 1: 2 of 5 .* kyiv \(no-reply\), oslo"):
        next(rounds)
    assert len(asked(grid, "rome")) == times


def test_a_rule_with_too_few_updates_fails_loudly() -> None:
    grid = grid_of({name: lambda r: None for name in ("oslo", "rome", "kyiv")})
    for rule, words in ((Median(), "needs 3 updates"), (Krum(), "needs 5 updates")):
        _, rounds = begun(grid, combine=rule, quorum=0.4, retries=0)
        with pytest.raises(QuorumError, match=f"2 of 5 .*strategies.combine {words}"):
            next(rounds)


def test_a_rule_with_too_few_updates_asks_again_first() -> None:
    grid = grid_of({"oslo": sleepy("oslo", 1)})
    _, rounds = begun(grid, combine=Krum(), quorum=0.4)
    assert next(rounds)[1].accepted == tuple(sorted(TRAIN))


# --------------------------------------------------------------------- who is left alone


class Clock:
    """Time that passes only while a grid waits in vain."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class PatientGrid(FakeGrid):
    """As Flower's: who does not answer costs the whole wait."""

    clock: Clock

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        sent = list(messages)
        replies = super().send_and_receive(sent, timeout=timeout)
        if len(replies) < len(sent):
            self.clock.now += timeout or 0.0
        return replies


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(roster_module, "time", clock)
    monkeypatch.setattr(PatientGrid, "clock", clock, raising=False)
    return clock


def patient(sabotage: Any) -> PatientGrid:
    return PatientGrid(grid_of(sabotage).scripts)


def test_a_hospital_that_stays_silent_costs_its_wait_once_and_not_each_round(clock: Clock) -> None:
    grid = patient({"rome": lambda r: None})
    _, rounds = begun(grid, timeout=60.0, num_rounds=20)
    reports = [report for _, report in rounds]
    assert clock.now == 1060.0
    assert {tuple(r.rejected.items()) for r in reports} == {(("rome", "no-reply"),)}
    assert len(asked(grid, "rome")) == 1


def test_it_is_asked_again_at_growing_intervals(clock: Clock) -> None:
    grid = patient({"rome": lambda r: None})
    _, rounds = begun(grid, timeout=60.0, num_rounds=400)
    moments = []
    for _ in rounds:
        clock.now += 30.0
        if len(asked(grid, "rome")) > len(moments):
            moments.append(clock.now)
    gaps = [later - before for before, later in pairwise(moments)]
    assert len(gaps) >= 3
    for number, gap in enumerate(gaps):
        assert REST * 60 * 2**number <= gap <= REST * 60 * 2**number + 120


def test_it_is_asked_at_once_when_it_comes_back_as_another_node(clock: Clock) -> None:
    grid = patient({"rome": lambda r: None})
    _, rounds = begun(grid, timeout=60.0)
    next(rounds)
    del grid.scripts[node("rome")]
    next(rounds)
    grid.scripts[9] = grid_of().scripts[node("rome")]
    assert next(rounds)[1].rejected == {}


def test_it_is_asked_each_round_again_after_it_has_answered(clock: Clock) -> None:
    grid = patient({"rome": sleepy("rome", 1)})
    _, rounds = begun(grid, timeout=60.0)
    assert next(rounds)[1].rejected == {"rome": "no-reply"}
    clock.now += REST * 60
    assert [report.rejected for _, report in rounds] == [{}] * 5


def test_silent_ones_are_asked_where_the_others_are_too_few(clock: Clock) -> None:
    quiet = {name: sleepy(name, 1) for name in ("rome", "oslo")}
    grid = patient(quiet)
    _, rounds = begun(grid, timeout=60.0, quorum=0.6, retries=0)
    next(rounds)
    for name in ("bern", "kyiv"):
        del grid.scripts[node(name)]
    _, report = next(rounds)
    assert report.accepted == ("lima", "oslo", "rome")


def test_chosen_hospitals_do_not_change_because_one_is_silent(clock: Clock) -> None:
    plain = strategy(hospitals_per_round=3)
    grid = patient({"rome": lambda r: None})
    one, rounds = begun(grid, hospitals_per_round=3, quorum=0.3)
    for _, report in rounds:
        assert {*report.accepted, *report.rejected} == {*plain.chosen(report.round)}
    assert one.chosen(1) == plain.chosen(1)


def test_final_scores_are_asked_for_again(clock: Clock) -> None:
    silence = iter([None, None])
    grid = patient({})
    script = grid.scripts[node("graz")]

    def slow(request: Request, kind: str) -> Any:
        return next(silence, script(request, kind)) if kind == "evaluate" else script(request, kind)

    grid.scripts[node("graz")] = slow
    one = strategy(retries=1, timeout=60.0)
    one.roster.gather(grid)
    request = Request(6, "{}", THETA, 3)
    assert one.evaluate(grid, UNSEEN, request)[1] == {"graz": "no-reply"}
    assert one.evaluate(grid, UNSEEN, request)[1] == {"graz": "no-reply"}, "left alone"
    assert len(asked(grid, "graz", "evaluate")) == 1
    assert one.evaluate(grid, UNSEEN, request, all_needed=True)[1] == {}
    assert len(asked(grid, "graz", "evaluate")) == 3


def test_rests_are_bounded_and_end_with_the_node() -> None:
    one = Silence()
    for _ in range(100):
        one.note([7], 1.0, 0.0)
    assert one.until[7] == REST * 2**DOUBLINGS
    assert one.rests(7, 1.0)
    assert not one.rests(8, 1.0)
    one.keep({8})
    assert not one.rests(7, 1.0)
    assert not one.missed


def test_roster_hears_only_of_nodes_that_are_there() -> None:
    one = Roster(SEATS, Request(0, ""), 5.0)
    one.heard(["rome"], set(), 10.0)
    assert not one.idle.missed
