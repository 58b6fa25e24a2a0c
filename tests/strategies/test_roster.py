"""Who is who: late nodes, wrong and taken seats, refusals, and replies nobody asked for."""

from collections.abc import Iterable
from pathlib import Path

import pytest
from flwr.app import Error, Message, RecordDict

from metaward.privacy import Attendance, Refusal, Release
from metaward.privacy.wire import Request
from metaward.server.deploy.layout import Site
from metaward.server.folder import Folder
from metaward.strategies import roster as module
from metaward.strategies.roster import Roster, RosterError
from metaward.strategies.silence import REST
from tests.strategies.fake_grid import FakeGrid, Script, sits

SEATS = ["north", "east", "south"]
REQUEST = Request(0, "{}")
HOSPITALS = {31: sits("south", 2), 12: sits("north", 0), 77: sits("east", 1)}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.0)


def gather(grid: FakeGrid, timeout: float = 5.0) -> Roster:
    roster = Roster(SEATS, REQUEST, timeout)
    roster.gather(grid)
    return roster


def test_hospitals_are_found_by_what_they_answer() -> None:
    grid = FakeGrid(dict(HOSPITALS))
    roster = gather(grid)
    assert roster.nodes == {"north": 12, "east": 77, "south": 31}
    assert [kind for _, _, kind in grid.sent] == ["query.roster"] * 3
    assert all(request == REQUEST for _, request, _ in grid.sent)


def test_nodes_that_register_late_are_waited_for() -> None:
    """Flower shows a run's nodes as they register: the first look may see two of twenty."""
    grid = FakeGrid(dict(HOSPITALS), late={77: 4, 31: 9})
    assert gather(grid).nodes == {"north": 12, "east": 77, "south": 31}
    assert grid.looks == 10
    assert [node for node, _, _ in grid.sent] == [12, 77, 31], "each is asked once"


def test_who_does_not_come_is_named() -> None:
    grid = FakeGrid({12: HOSPITALS[12]})
    with pytest.raises(RosterError, match=r"2 of 3 hospitals did not come within 0 s: east, south"):
        gather(grid, timeout=0.0)


def test_silent_node_is_asked_again() -> None:
    silence = iter([None, None])

    def slow(request: Request, kind: str) -> Attendance | None:
        return next(silence, Attendance("south", 2))

    grid = FakeGrid({**HOSPITALS, 31: slow})
    assert gather(grid).nodes["south"] == 31
    assert [node for node, _, _ in grid.sent].count(31) == 3


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (sits("south", 1), "hospital number 1 cannot take part: unknown-seat"),
        (sits("west", 2), "hospital number 2 cannot take part: unknown-seat"),
        (sits("south", 3), "hospital number 3 cannot take part: unknown-seat"),
        (sits("south", -1), "hospital number -1 cannot take part: unknown-seat"),
        (sits("south", -(2**63)), "unknown-seat"),
        (sits("east", 1), "east cannot take part: seat-taken"),
        (
            lambda *_: Refusal("data-refused"),
            "node 90 cannot take part: data-refused; why is in",
        ),
        (lambda *_: Refusal("federation-size"), "has 3 hospitals.*num-supernodes=3"),
        (lambda *_: Error(2, "Traceback: /home/erika"), "node 90 cannot take part: error-2"),
        (lambda *_: RecordDict(), "node 90 cannot take part: malformed-keys"),
    ],
)
def test_node_that_is_no_hospital_of_this_run_stops_it(script: Script, words: str) -> None:
    grid = FakeGrid({12: HOSPITALS[12], 77: HOSPITALS[77], 90: script})
    with pytest.raises(RosterError, match=words) as caught:
        gather(grid)
    assert "erika" not in str(caught.value), "a sender's own words are not repeated"


def test_a_refusal_names_the_files_in_which_its_reason_stands() -> None:
    """Those that the engines and deployments give to hospitals for their logs."""
    grid = FakeGrid({12: HOSPITALS[12], 77: lambda *_: Refusal("data-refused")})
    with pytest.raises(RosterError) as caught:
        gather(grid)
    local = Site(Path("/d")).hospitals(["north"])[0].log.name
    assert f"{Folder(Path('r')).hospital_log.name} in the result folder" in str(caught.value)
    assert f"{local} in the hospital's own folder" in str(caught.value)


def test_answer_of_another_kind_is_refused() -> None:
    import numpy as np

    grid = FakeGrid({12: lambda *_: Release("north", 0, np.zeros(1, np.float32), None)})
    with pytest.raises(RosterError, match="wrong-kind"):
        gather(grid)


def test_repeated_and_late_replies_change_nothing() -> None:
    kept: list[Message] = []

    def twice_and_old(replies: list[Message]) -> list[Message]:
        found = [*kept, *replies, *replies]
        kept.extend(replies)
        return found

    grid = FakeGrid(dict(HOSPITALS), arrive=twice_and_old, late={77: 2})
    roster = gather(grid)
    assert roster.nodes == {"north": 12, "east": 77, "south": 31}
    assert roster.turned_away == {}


def test_order_of_replies_changes_nothing() -> None:
    grid = FakeGrid(dict(HOSPITALS), arrive=lambda replies: replies[::-1])
    assert gather(grid).nodes == {"north": 12, "east": 77, "south": 31}


def test_hospital_that_comes_back_under_another_id_keeps_its_seat() -> None:
    grid = FakeGrid(dict(HOSPITALS))
    roster = gather(grid)
    del grid.scripts[77]
    roster.refresh(grid)
    assert roster.nodes == {"north": 12, "south": 31}
    grid.scripts[500] = sits("east", 1)
    roster.refresh(grid)
    assert roster.nodes == {"north": 12, "east": 500, "south": 31}


class Clock:
    """Time that passes only while a grid waits in vain."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class SlowGrid(FakeGrid):
    """As Flower's: who does not answer costs the whole wait."""

    clock: Clock

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        asked = list(messages)
        replies = super().send_and_receive(asked, timeout=timeout)
        if len(replies) < len(asked):
            self.clock.now += timeout or 0.0
        return replies


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(SlowGrid, "clock", clock, raising=False)
    return clock


def test_node_that_comes_back_and_says_nothing_does_not_hold_up_every_round(clock: Clock) -> None:
    grid = SlowGrid(dict(HOSPITALS))
    roster = Roster(SEATS, REQUEST, 180.0, patience=30.0)
    roster.gather(grid)
    del grid.scripts[77]
    roster.refresh(grid)
    assert clock.now == 1000.0, "who is not there is not waited for"
    grid.scripts[77] = lambda *_: None
    roster.refresh(grid)
    assert clock.now == 1030.0, "the patience, not the 180 s of the start"
    for _ in range(9):
        clock.now += 10.0  # nine rounds of the others
        roster.refresh(grid)
    assert clock.now == 1120.0, "no further wait"
    assert roster.nodes == {"north": 12, "south": 31}


def test_silent_node_is_asked_again_after_a_rest_and_takes_its_seat(clock: Clock) -> None:
    grid = SlowGrid(dict(HOSPITALS))
    roster = Roster(SEATS, REQUEST, 180.0, patience=30.0)
    roster.gather(grid)
    del grid.scripts[77]
    roster.refresh(grid)
    grid.scripts[77] = lambda *_: None
    roster.refresh(grid)
    grid.scripts[77] = sits("east", 1)
    roster.refresh(grid)
    assert "east" not in roster.nodes
    clock.now += REST * 30.0
    roster.refresh(grid)
    assert roster.nodes["east"] == 77
    assert [node for node, _, _ in grid.sent].count(77) == 3


def test_silent_node_that_left_and_came_back_is_asked_at_once(clock: Clock) -> None:
    grid = SlowGrid({12: HOSPITALS[12], 31: HOSPITALS[31], 77: lambda *_: None})
    roster = Roster(SEATS, REQUEST, 180.0, patience=30.0)
    roster.refresh(grid)
    del grid.scripts[77]
    roster.refresh(grid)
    grid.scripts[77] = sits("east", 1)
    roster.refresh(grid)
    assert roster.nodes["east"] == 77


@pytest.mark.parametrize("code", [3, 4, 5])
def test_node_that_was_lost_on_the_way_is_no_refusal(code: int) -> None:
    """Flower answers in the name of a node that died; the same node may come back."""
    lost = iter([Error(code, ""), Error(code, "")])

    def dies(request: Request, kind: str) -> Attendance | Error:
        return next(lost, Attendance("south", 2))

    grid = FakeGrid({**HOSPITALS, 31: dies})
    assert gather(grid).nodes["south"] == 31


def test_newcomer_cannot_push_a_seated_hospital_out() -> None:
    grid = FakeGrid(dict(HOSPITALS))
    roster = gather(grid)
    grid.scripts[5] = sits("east", 1)
    roster.refresh(grid)
    assert roster.nodes == {"north": 12, "east": 77, "south": 31}
    assert roster.turned_away[5].reason == "seat-taken"
    asked = len(grid.sent)
    roster.refresh(grid)
    assert len(grid.sent) == asked, "who was turned away is not asked again"


def test_nobody_new_means_no_messages() -> None:
    grid = FakeGrid(dict(HOSPITALS))
    roster = gather(grid)
    roster.refresh(grid)
    assert len(grid.sent) == 3
