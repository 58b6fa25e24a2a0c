"""Runs whose learner remembers, cut off and resumed: the whole run's result, to the byte."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from metaward.client import work
from metaward.client.desk import Desk
from metaward.client.inner import ALGORITHMS
from metaward.client.memory import PATTERN
from metaward.client.node import Node
from metaward.privacy import Release
from metaward.privacy.wire import Request
from metaward.server.engines import ENGINES
from metaward.server.folder import Folder
from metaward.sim import HERE
from metaward.strategies.quorum import QuorumError
from tests.client.scaffold import RECORD, SETTINGS, Scaffold
from tests.server.small import small
from tests.server.test_kill import finish, wait_for_round

SAVED = "server.checkpoint={every: 3, keep: 2}"
COMMAND = (
    "from tests.client.scaffold import register; register(); "
    "from metaward.server.cli import main; main()"
)


def theta(folder: Folder) -> bytes:
    return (folder.path / "theta.safetensors").read_bytes()


def kept(folder: Folder) -> list[bytes]:
    """The vectors of all versions; what stands before them names the ledger's own replies."""
    paths = sorted(folder.hospitals.rglob(PATTERN), key=lambda path: path.parts[-2:])
    return [path.read_bytes().split(b"\n", 2)[2] for path in paths]


def execute(path: Path, *settings: str) -> Folder:
    folder = Folder(path)
    folder.create(small(*SETTINGS, SAVED, *settings))
    ENGINES["inprocess"](folder.config(), folder, lambda row: None)
    return folder


@pytest.mark.parametrize(
    ("privacy", "broken_in"), [("privacy={mechanism: none}", 2), (RECORD, 3), (RECORD, 5)]
)
def test_rounds_that_are_done_again_read_what_they_read_the_first_time(
    privacy: str, broken_in: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints are three rounds apart, so that up to two rounds are done twice; some hospitals
    had done the broken round already."""
    monkeypatch.setitem(ALGORITHMS, "scaffold", Scaffold)
    whole = execute(tmp_path / "whole", privacy, "strategies.quorum=1.0")
    train = work.train

    def breaks(desk: Desk, request: Request, node: Node) -> Release:
        if request.round == broken_in and node.index > 0:
            raise RuntimeError("power cut")
        return train(desk, request, node)

    with monkeypatch.context() as patch:
        patch.setattr(work, "train", breaks)
        with pytest.raises(QuorumError):
            execute(tmp_path / "broken", privacy, "strategies.quorum=1.0")
    broken = Folder(tmp_path / "broken")
    ENGINES["inprocess"](broken.config(), broken, lambda row: None)
    assert theta(broken) == theta(whole)
    assert kept(broken) == kept(whole)
    assert len(kept(whole)) == 4 * 6, "four hospitals, six rounds, none too old"


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments],
        cwd=HERE,
        env=os.environ | {"PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.long
def test_sigkill_and_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = (RECORD, SAVED, "server.rounds=12", "server.evaluation.every=12")
    monkeypatch.setitem(ALGORITHMS, "scaffold", Scaffold)
    whole = execute(tmp_path / "whole", *settings)
    (tmp_path / "run.json").write_text(json.dumps(small(*SETTINGS, *settings).mapping()))
    killed = Folder(tmp_path / "killed")
    process = start("run", str(tmp_path / "run.json"), "--out", str(killed.path))
    wait_for_round(killed, 5)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert killed.status()[0] == "running"
    assert max(row["round"] for row in killed.rows()) < 12
    finish(start("resume", str(killed.path)))
    assert theta(killed) == theta(whole)
    assert kept(killed) == kept(whole)
