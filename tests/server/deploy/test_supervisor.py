"""A SuperNode's supervisor, with commands that cost nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flwr.supercore.exit import ExitCode

from metaward.server.deploy.supervisor import Supervised
from metaward.server.engines.processes import Launcher, children

LONG = 600.0


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


class Case:
    """A supervised shell command, and what its supervisor said."""

    def __init__(
        self, folder: Path, command: str, pause: float, why: str = "", lapse: float = 0.0
    ) -> None:
        self.said: list[str] = []
        self.signed_off = 0
        self.why = why
        self.log = folder / "log"
        launcher = Launcher(folder, dict(os.environ), self.log)
        command = f"echo started; {command}"
        self.node = Supervised(
            *("north", launcher, lambda: ["sh", "-c", command], pause),
            *(self.said.append, self.sign_off, lapse),
        )

    def sign_off(self) -> str:
        self.signed_off += 1
        return self.why

    def child(self) -> int:
        assert self.node.process is not None
        assert eventually(lambda: len(children(self.node.process)) == 1)
        return children(self.node.process)[0].pid

    def has_ended(self) -> bool:
        return self.node.process is not None and self.node.process.poll() is not None

    def starts(self) -> int:
        return self.log.read_text().count("started")


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Callable[..., Case]]:
    made: list[Case] = []

    def make(command: str = "exec sleep 600", pause: float = LONG, **more: Any) -> Case:
        made.append(Case(tmp_path, command, pause, **more))
        made[-1].node.start()
        return made[-1]

    yield make
    for each in made:
        each.node.end(0.0)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_who_is_alive_is_left_alone(case: Callable[..., Case]) -> None:
    found = case(pause=0.0)
    first = found.child()
    for _ in range(5):
        found.node.look()
    assert found.child() == first
    assert found.node.starts == 1


def test_who_was_killed_returns_after_the_pause(case: Callable[..., Case]) -> None:
    found = case(pause=0.3)
    first = found.child()
    os.kill(first, signal.SIGKILL)
    assert eventually(found.has_ended)
    found.node.look()
    assert found.has_ended(), "not at once"
    time.sleep(0.35)
    found.node.look()
    assert eventually(lambda: found.starts() == 2)
    assert found.child() != first
    ended, again = found.said[1:]
    assert "north: its SuperNode was killed by SIGKILL (signal 9)" in ended
    assert "the SuperLink takes it for disconnected; starts again in 0.3 s, at " in ended
    assert "start 2" in again


def test_during_the_pause_nobody_is_started(case: Callable[..., Case]) -> None:
    found = case("exit 3")
    assert eventually(found.has_ended)
    for _ in range(5):
        found.node.look()
    assert found.node.starts == 1
    assert "north: its SuperNode ended with code 3; " in found.said[1]
    assert "starts again in 600 s" in found.said[1]
    assert found.signed_off == 1


def test_who_cannot_be_signed_off_waits_until_its_heartbeat_has_lapsed(
    case: Callable[..., Case],
) -> None:
    found = case(pause=0.0, why="the SuperLink answered 500", lapse=0.5)
    os.kill(found.child(), signal.SIGKILL)
    assert eventually(found.has_ended)
    found.node.look()
    found.node.look()
    assert found.has_ended(), "not before it has lapsed"
    assert "its heartbeat must lapse at the SuperLink" in found.said[1]
    assert "the SuperLink answered 500; starts again in 0.5 s, at 20" in found.said[1]
    time.sleep(0.55)
    found.node.look()
    assert eventually(lambda: found.starts() == 2)


def test_who_was_refused_is_not_signed_off(case: Callable[..., Case]) -> None:
    """Another process may be connected with its key."""
    found = case(f"exit {ExitCode.SUPERNODE_CONNECTION_ERROR & 0xFF}")
    assert eventually(found.has_ended)
    found.node.look()
    assert found.signed_off == 0
    assert "could not connect" in found.said[1]
    assert f"its own words are in {found.log}" in found.said[1]


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGSEGV"])
def test_a_signal_is_named(case: Callable[..., Case], name: str) -> None:
    found = case(f"kill -{name.removeprefix('SIG')} $$")
    assert eventually(found.has_ended)
    found.node.look()
    assert f"was killed by {name} (signal {signal.Signals[name].value})" in found.said[1]


def test_it_is_asked_to_end_before_it_is_made_to(case: Callable[..., Case]) -> None:
    found = case("trap 'echo goodbye; exit 0' TERM; while :; do sleep 0.05; done")
    assert eventually(lambda: found.starts() == 1)
    child = found.child()
    found.node.ask_to_end()
    found.node.end(time.monotonic() + 10)
    assert "goodbye" in found.log.read_text()
    assert not alive(child)


def test_who_does_not_listen_is_ended_at_the_deadline(case: Callable[..., Case]) -> None:
    found = case("trap '' TERM; while :; do sleep 0.05; done")
    assert eventually(lambda: found.starts() == 1)
    child = found.child()
    found.node.ask_to_end()
    found.node.end(time.monotonic() + 0.2)
    assert not alive(child)


def test_who_was_ended_is_not_started_again(case: Callable[..., Case]) -> None:
    found = case(pause=0.0)
    found.child()
    found.node.end(0.0)
    for _ in range(3):
        found.node.look()
    assert found.node.process is None
    assert found.node.starts == 1
