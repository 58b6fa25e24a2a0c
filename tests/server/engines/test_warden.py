"""Nothing a guarded command starts may outlive whoever asked for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from metaward.server.engines import warden

# A child, a child in a session of its own, and a grandchild whose parent ends at once.
FAMILY = "sleep 600 & setsid sleep 600 & (setsid sh -c 'sleep 600 & sleep 600 &' &) ; "
MEMBERS = 4


class Family:
    """A guarded family of processes, found by a mark in their environment."""

    def __init__(self, home: Path, then: str) -> None:
        self.mark = f"WARDEN_TEST={uuid.uuid4()}"
        self.home = home
        home.mkdir()
        self.command = [sys.executable, "-I", str(warden.__file__), str(home)]
        self.command += ["sh", "-c", FAMILY + then]

    def start(self) -> subprocess.Popen[bytes]:
        env = dict(os.environ) | dict([self.mark.split("=")])
        return subprocess.Popen(self.command, env=env, stdin=subprocess.PIPE)

    def alive(self) -> list[str]:
        """Command lines of all members, the warden left out."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                marked = self.mark.encode() in (process / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if marked and command.startswith("sleep"):
                found.append(command)
        return found


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


@pytest.fixture
def family(tmp_path: Path) -> Family:
    return Family(tmp_path / "home", "wait")


def test_all_end_when_the_pipe_closes(family: Family) -> None:
    process = family.start()
    assert eventually(lambda: len(family.alive()) == MEMBERS)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=10) == 1
    assert family.alive() == []
    assert not family.home.exists()


def test_all_end_when_the_warden_is_asked_to(family: Family) -> None:
    with family.start() as process:
        assert eventually(lambda: len(family.alive()) == MEMBERS)
        process.terminate()
        assert process.wait(timeout=10) == 1
        assert family.alive() == []


def test_all_end_when_the_owner_is_killed(family: Family) -> None:
    owner_code = (
        "import os, subprocess, sys, time\n"
        "subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE)\n"
        "time.sleep(600)\n"
    )
    env = dict(os.environ) | dict([family.mark.split("=")])
    owner = subprocess.Popen([sys.executable, "-c", owner_code, *family.command], env=env)
    assert eventually(lambda: len(family.alive()) == MEMBERS)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert eventually(lambda: family.alive() == [])
    assert eventually(lambda: not family.home.exists())


def test_what_a_command_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    family = Family(tmp_path / "home", "sleep 0.5; exit 7")
    with family.start() as process:
        assert eventually(lambda: len(family.alive()) >= MEMBERS)
        assert process.wait(timeout=10) == 7
        assert family.alive() == []


def test_a_command_that_does_not_exist_ends_the_warden(tmp_path: Path) -> None:
    command = [sys.executable, "-I", str(warden.__file__), "", "/no/such/command"]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.PIPE, timeout=10)
    assert done.returncode == 1
    assert b"/no/such/command" in done.stderr
