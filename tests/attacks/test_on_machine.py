"""A program on a hospital's machine that takes the SuperNode's tasks and answers in its place.

The SuperNode hands a task to whoever asks at its port on loopback. Here a program of this test asks
faster than the SuperNode's own, in a deployment with all its processes, and answers first with an
update of its own making, then with bytes that are no message.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from metaward import sim
from metaward.privacy.ledger import Ledger
from tests.attacks.thief import ATTACKED, ATTACKS
from tests.server.deploy.live import LISTENING, Live, sockets, wait_for

pytestmark = [pytest.mark.flower, pytest.mark.long, pytest.mark.timeout(1500)]

CONFIG = sim.HERE / "configs" / "deploy.yaml"
OTHER = "phantom-02"
SETTINGS = (
    "client.tasks.records=120",
    *("server.rounds=12", "server.evaluation.every=12", "server.evaluation.final_episodes=3"),
    *("server.evaluation.baselines=[]", "server.flower.startup_timeout=600"),
)


def port_of(pid: int) -> int:
    """The port on which a process listens."""
    inodes = sockets(pid)
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[3] == LISTENING and words[9] in inodes:
            return int(words[1].split(":")[1], 16)
    raise AssertionError(f"process {pid} does not listen")


def thief_at(port: int, told: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.attacks.thief", str(port), str(told)], cwd=sim.HERE
    )


def rounds(live: Live) -> list[dict[str, Any]]:
    ended = live.process.poll()
    assert ended in (None, 0), live.err.read_text() + live.logs()
    return [row for row in live.folder.rows() if "accepted" in row] if live.folder.exists() else []


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Live, dict[str, int]]]:
    """A deployment after its run, and in which round each attack of the program was an answer."""
    told = tmp_path_factory.mktemp("told") / "attacks.jsonl"
    settings = [text for setting in SETTINGS for text in ("--set", setting)]
    live = Live(tmp_path_factory.mktemp("thief"), 3, CONFIG, *settings)
    live.start()
    try:
        wait_for(lambda: rounds(live), 600, "round 1")
        thief = thief_at(port_of(live.pids()[ATTACKED]), told)
        try:
            assert live.process.wait(timeout=600) == 0, live.err.read_text() + live.logs()
        finally:
            thief.kill()
            thief.wait()
        assert told.exists(), "no attack was carried out"
        yield live, dict(json.loads(line) for line in told.read_text().splitlines())
    finally:
        live.end()
        assert live.nothing_left()


def test_it_takes_the_tasks_and_nothing_that_it_sends_counts(
    attacked: tuple[Live, dict[str, int]],
) -> None:
    """The hospital loses those rounds and is named with the reason; the run goes on, and nothing is
    charged where the hospital did not compute."""
    live, carried_out = attacked
    answered = set(carried_out.values())
    assert live.folder.status() == ("finished", "")
    assert set(carried_out) == set(ATTACKS), "both attacks were carried out"
    reasons = {row["round"]: row["rejected"].get(ATTACKED) for row in rounds(live)}
    assert {reasons[number]: number for number in answered} == carried_out
    for row in rounds(live):
        assert OTHER in row["accepted"]
        assert (ATTACKED in row["accepted"]) == (row["round"] not in answered)
    (files,) = live.site.hospitals([ATTACKED])
    charged = [charge.request.round for charge in Ledger.open(files.ledger).history().charges]
    assert answered.isdisjoint(charged)
    signed = (live.folder.path / "signed.jsonl").read_text().splitlines()
    found = {(one["hospital"], one["round"]) for one in map(json.loads, signed)}
    assert not found & {(ATTACKED, number) for number in answered}
