"""A SuperNode that waits without end for an app that has died is found, and started again.

The SuperNodes here are processes that say Flower's words and start apps by a process of their own,
as Flower's do; tests/faults has the real ones.
"""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from flwr.supercore.retry import http_retry
from flwr.superlink.cli import flower_superlink as superlink_of_flower
from flwr.supernode import start_client_internal
from flwr.supernode.cli import flower_supernode as supernode_of_flower
from flwr.supernode.runtime import run_clientapp

from metaward.server.deploy.stuck import (
    ANSWER,
    CONTENTS,
    EXECUTOR,
    GIVEN_UP,
    LOOK_SECONDS,
    NOTHING,
    SAID,
    STARTS,
    STOPPED,
    TAIL_BYTES,
    ExecutorWatch,
    Pace,
    Watch,
    awaited,
    out_of_turn,
    tail,
    waits_in_vain,
)
from metaward.server.deploy.supervisor import STUCK, Supervised
from metaward.server.engines.processes import Launcher
from tests.server.deploy.live import wait_for

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how a process ended")

STARTER = "import subprocess, time; app = subprocess.Popen(['sh', {app!r}]); time.sleep(600)"
SUPERNODE = """
import subprocess, sys, time
print("SuperNode ID: 7", flush=True)
print("Received successfully", flush=True)
subprocess.Popen([sys.executable, "-c", {starter!r}])
print({said!r}, flush=True)
time.sleep(600)
"""
KILLED, GOOD, LIVE = "kill -9 $$", "exit 0", "sleep 600"
SENDING = "Sending: train message (ID: 5a)"


def supernode_of(folder: Path, end: str, said: str = "") -> list[str]:
    """A command like a SuperNode, whose app has this end and which then says this."""
    app = folder / "flwr-clientapp"
    app.write_text(f"{end}\n")
    starter = STARTER.format(app=str(app))
    return [sys.executable, "-c", SUPERNODE.format(starter=starter, said=said)]


@contextmanager
def running(folder: Path, end: str) -> Iterator[psutil.Process]:
    """Such a process, as soon as its app has come to its end, or is at work."""
    process = subprocess.Popen(supernode_of(folder, end), stdout=subprocess.DEVNULL)
    try:
        found = psutil.Process(process.pid)
        wait_for(lambda: _come_so_far(found, end), 30, "the app")
        yield found
    finally:
        for below in psutil.Process(process.pid).children(recursive=True):
            below.kill()
        process.kill()
        process.wait()


def _come_so_far(supernode: psutil.Process, end: str) -> bool:
    """Its starter has an app, which has ended unless it is to live."""
    apps = supernode.children(recursive=True)[1:2]
    return any(end == LIVE or app.status() == psutil.STATUS_ZOMBIE for app in apps)


# ------------------------------------------------------------------------ what is waited for


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ([], NOTHING),
        (["SuperNode ID: 7", "Starting Flower SuperExec"], NOTHING),
        (["SuperNode ID: 7", "Received successfully"], ANSWER),
        (["Received successfully", SENDING], CONTENTS),
        (["Received successfully", SENDING, "Sent successfully"], NOTHING),
        (["Received successfully", SENDING, STOPPED], ANSWER),
        (["Received successfully", STOPPED, SENDING], ANSWER),
        (["Received successfully", STOPPED, SENDING, "Sent successfully"], NOTHING),
        ([STOPPED, "Received successfully", SENDING], CONTENTS),
        (["Sent successfully", "Giving up reconnection after 30.7 seconds and 2 tries."], ANSWER),
        (["Giving up reconnection after 30.7 seconds and 2 tries.", "SuperNode ID: 7"], NOTHING),
        (["Received successfully", SENDING, "Failed to send message 5a: no"], NOTHING),
        (["Run ID 3 is not in `RUNNING` status. Ignoring reply message 5a."], NOTHING),
        (["Sent successfully", "Received successfully"], ANSWER),
        (["Received successfully", "SuperNode ID: 7"], NOTHING),
        (["Received successfully", "x" * 2 * TAIL_BYTES], NOTHING),
    ],
)
def test_the_end_of_the_log_says_what_is_waited_for(
    tmp_path: Path, lines: list[str], what: str
) -> None:
    log = tmp_path / "log"
    log.write_text("\n".join(lines))
    assert awaited(tail(log)) == what


def message(what: str, round: int, kind: str = "train", run: int = 7) -> str:
    """What a SuperNode of Flower says of a message, in its colours."""
    head, place = "\x1b[92mINFO \x1b[0m:      ", f", ROUND {round}" if round else ""
    return f"{head}\n{head}[RUN {run}{place}]\n{head}{what}: {kind} message (ID: 5a)\n"


IN, OUT = "Receiving", "Sending"
INTO_STEP = [message(IN, 1), message(OUT, 1)]
BEHIND = [*INTO_STEP, message(IN, 2), message(OUT, 1)]


@pytest.mark.parametrize(
    ("said", "out"),
    [
        ([], False),
        ([message(OUT, 1)], False),
        (INTO_STEP, False),
        ([*INTO_STEP, message(IN, 2)], False),
        ([*INTO_STEP, message(IN, 2), message(OUT, 2)], False),
        ([message(IN, 0, "query.roster"), message(OUT, 0, "query.roster")], False),
        (BEHIND, True),
        ([*BEHIND, message(IN, 3)], True),
        ([*INTO_STEP, message(IN, 0, "query.roster"), message(OUT, 1)], True),
        ([message(IN, 0, run=8), message(OUT, 0, run=7)], True),
        ([message(IN, 3, "evaluate"), message(OUT, 3, "train")], True),
        ([*BEHIND, message(IN, 3), message(OUT, 3)], False),
        ([*BEHIND, f"{STARTS}\n"], False),
        ([*BEHIND, f"{STARTS}\n", *INTO_STEP], False),
    ],
)
def test_an_answer_to_another_message_than_the_last_one_is_out_of_turn(
    said: list[str], out: bool
) -> None:
    assert out_of_turn("".join(said)) == out


@linux
def test_who_answers_out_of_turn_is_stuck(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running(tmp_path, LIVE) as supernode:
        for said, stuck in ((INTO_STEP, False), (BEHIND, True)):
            log.write_text("".join(said))
            watch = Watch(log, seconds=0.0)
            watch.finds_stuck(supernode)
            time.sleep(LOOK_SECONDS + 0.1)
            assert watch.finds_stuck(supernode) == stuck


@pytest.mark.parametrize(
    "words", [*SAID, STOPPED, STARTS, "[RUN %s, ROUND %s]", "Receiving: %s message", "[RUN %s]"]
)
def test_flower_says_these_words(words: str) -> None:
    """With other words nothing would ever be found."""
    others = {STOPPED: run_clientapp, GIVEN_UP: http_retry, STARTS: supernode_of_flower}
    source = others.get(words, start_client_internal)
    assert words in inspect.getsource(source)


# ------------------------------------------------------------------------- what is in vain


@linux
@pytest.mark.parametrize(
    ("end", "vain"),
    [
        (KILLED, {ANSWER: True, CONTENTS: True, NOTHING: False}),
        (GOOD, {ANSWER: True, CONTENTS: False, NOTHING: False}),
        (LIVE, {ANSWER: False, CONTENTS: False, NOTHING: False}),
    ],
    ids=["killed", "ended well", "at work"],
)
def test_it_is_waited_in_vain_where_no_app_is_left_that_could_bring_it(
    tmp_path: Path, end: str, vain: dict[str, bool]
) -> None:
    """An app that has ended well has brought the contents, which may take long to the SuperLink."""
    with running(tmp_path, end) as supernode:
        assert {what: waits_in_vain(what, supernode) for what in vain} == vain


@linux
def test_only_who_waits_long_is_stuck(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("Received successfully\n")
    with running(tmp_path, KILLED) as supernode:
        watch = Watch(log, seconds=0.2)
        assert not watch.finds_stuck(supernode), "not at once"
        time.sleep(0.3)
        assert not watch.finds_stuck(supernode), "it does not look again so soon"
        watch._pace = Pace()
        assert watch.finds_stuck(supernode)
        log.write_text("Received successfully\nSent successfully\n")
        watch._pace = Pace()
        assert not watch.finds_stuck(supernode)
        assert watch._since is None, "it begins anew"


# ------------------------------------------------------------------------- the supervisor


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Callable[[str, str], tuple[Supervised, list[str]]]]:
    made = []

    def make(end: str, said: str) -> tuple[Supervised, list[str]]:
        launcher, told = Launcher(tmp_path, dict(os.environ), tmp_path / "log"), list[str]()
        command = supernode_of(tmp_path, end, said)
        node = Supervised("north", launcher, lambda: command, 0.1, told.append, lambda: "")
        node.watch = Watch(launcher.log, seconds=0.5)
        node.start()
        made.append(node)
        return node, told

    yield make
    for node in made:
        node.end(0.0)


def starts(node: Supervised) -> int:
    node.look()
    return node.launcher.log.read_text().count("SuperNode ID")


@linux
@pytest.mark.parametrize(
    ("end", "said"), [(GOOD, ""), (KILLED, SENDING)], ids=["no answer", "no contents"]
)
def test_a_stuck_supernode_is_ended_and_comes_back(
    supervised: Callable[[str, str], tuple[Supervised, list[str]]], end: str, said: str
) -> None:
    node, told = supervised(end, said)
    wait_for(lambda: starts(node) == 2, 30, "its return")
    assert told[1] == f"north: {STUCK}"
    assert "north: its SuperNode was killed by SIGKILL (signal 9)" in told[2]
    assert "start 2" in told[3]


@linux
def test_the_next_one_is_not_ended_for_the_last_words_of_the_one_before(tmp_path: Path) -> None:
    """They are still the last in the log until the next one has begun to speak."""
    log = tmp_path / "log"
    log.write_text("Received successfully\n")
    watch = Watch(log, seconds=1.0)
    for _ in range(2):
        with running(tmp_path, GOOD) as supernode:
            watch._pace = Pace()
            assert not watch.finds_stuck(supernode)
            time.sleep(1.1)
            watch._pace = Pace()
            assert watch.finds_stuck(supernode)


@pytest.mark.parametrize(
    ("end", "said"), [(LIVE, ""), (GOOD, "Sent successfully")], ids=["at work", "idle"]
)
def test_a_supernode_that_does_its_work_is_left_alone(
    supervised: Callable[[str, str], tuple[Supervised, list[str]]], end: str, said: str
) -> None:
    node, told = supervised(end, said)
    until = time.monotonic() + 6.0
    while time.monotonic() < until:
        assert starts(node) <= 1
        time.sleep(0.1)
    assert len(told) == 1


# --------------------------------------------------------------------------- the SuperLink

SUPERLINK = """
import subprocess, sys, time
time.sleep(float(sys.argv[2]))
subprocess.Popen(["sh", sys.argv[1]])
time.sleep(600)
"""


@contextmanager
def superlink(folder: Path, executor: str, later: float = 0.0) -> Iterator[psutil.Process]:
    """A process like a SuperLink, whose executor runs these words of the shell."""
    program = folder / EXECUTOR
    program.write_text(f"{executor}\n")
    words = [sys.executable, "-c", SUPERLINK, str(program), str(later)]
    with subprocess.Popen(words) as process:
        try:
            yield psutil.Process(process.pid)
        finally:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()


def test_a_superlink_whose_executor_has_ended_is_found(tmp_path: Path) -> None:
    """It stays as a zombie, for the SuperLink does not wait for it."""
    watch = ExecutorWatch()
    with superlink(tmp_path, "sleep 5") as process:
        wait_for(lambda: watch.finds_none(process) or watch._of, 30, "the executor")
        assert watch._of == process.pid
        wait_for(lambda: watch.finds_none(process), 30, "its end")
        assert [one.status() for one in process.children()] == [psutil.STATUS_ZOMBIE]


def test_a_superlink_that_has_an_executor_or_has_none_yet_is_left_alone(tmp_path: Path) -> None:
    watch = ExecutorWatch()
    with superlink(tmp_path, "sleep 600", later=3.0) as process:
        for _ in range(4):
            assert not watch.finds_none(process)
            time.sleep(1.5)
        assert watch._of == process.pid


def test_a_supernode_whose_executor_has_ended_is_stuck(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("SuperNode ID: 7\n")
    watch = Watch(log, seconds=1.0)
    with superlink(tmp_path, "sleep 5") as process:
        wait_for(lambda: watch.finds_stuck(process), 30, "the end of its executor")


@pytest.mark.parametrize("program", [superlink_of_flower, start_client_internal])
def test_flower_starts_an_executor_of_this_name(program: object) -> None:
    module = inspect.getmodule(program)
    assert module
    assert f'"{EXECUTOR}"' in inspect.getsource(module)
