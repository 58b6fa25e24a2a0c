"""A SuperNode's supervisor, with commands that cost nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

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

    def __init__(self, folder: Path, command: str, pause: float) -> None:
        self.said: list[str] = []
        self.log = folder / "log"
        launcher = Launcher(folder, dict(os.environ), self.log)
        command = f"echo started; {command}"
        self.node = Supervised(
            "north", launcher, lambda: ["sh", "-c", command], pause, self.said.append
        )

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

    def make(command: str = "exec sleep 600", pause: float = LONG) -> Case:
        made.append(Case(tmp_path, command, pause))
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
    assert [word for word in ("ended with code", "start 2") if word in "\n".join(found.said)] == [
        "ended with code",
        "start 2",
    ]


def test_during_the_pause_nobody_is_started(case: Callable[..., Case]) -> None:
    found = case("exit 3")
    assert eventually(found.has_ended)
    for _ in range(5):
        found.node.look()
    assert found.node.starts == 1
    assert found.said[1:] == ["north: ended with code 3, starts again in 600 s"]


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
