"""Killed without warning, resumed by command: the uninterrupted run's result, to the byte."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from metaward.server.folder import Folder
from tests.server.small import small

COMMAND = [sys.executable, "-c", "from metaward.server.cli import main; main()"]
SETTINGS = (
    "server.rounds=60",
    "server.workers=2",
    "server.evaluation.every=30",
    "server.checkpoint.every=4",
)


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


def session(process: subprocess.Popen[str]) -> set[int]:
    """Every live process of the session that ``process`` leads."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == process.pid and fields[0] != "Z":
            found.add(int(stat.parent.name))
    return found


def wait_for_round(folder: Folder, number: int) -> None:
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        if any(row["round"] >= number for row in folder.rows()):
            return
        time.sleep(0.01)
    pytest.fail(f"round {number} was not reached")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    path = tmp_path_factory.mktemp("kill")
    (path / "small.yaml").write_text(json.dumps(small(*SETTINGS).mapping()))
    finish(start("run", str(path / "small.yaml"), "--out", str(path / "whole")))
    return Folder(path / "whole")


@pytest.mark.parametrize("number", [3, 43])
def test_sigkill_and_resume(whole: Folder, tmp_path: Path, number: int) -> None:
    config, out = str(whole.path.parent / "small.yaml"), tmp_path / "run"
    process = start("run", config, "--out", str(out))
    wait_for_round(Folder(out), number)
    time.sleep(random.Random(number).random() * 0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 10
    while session(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not session(process), "workers outlived the run"
    assert Folder(out).status()[0] == "running"
    finish(start("resume", str(out)))
    for name in (
        "theta.safetensors",
        "baselines/fedavg/checkpoints/round-000060/state.safetensors",
    ):
        assert (out / name).read_bytes() == (whole.path / name).read_bytes()
    tables = [json.loads((p / "result.json").read_text())["tables"] for p in (out, whole.path)]
    assert tables[0] == tables[1]


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP])
def test_a_scheduler_that_ends_a_run_leaves_it_resumable(
    ending: signal.Signals, whole: Folder, tmp_path: Path
) -> None:
    """The signal goes to the command alone; its workers end with it."""
    config, out = str(whole.path.parent / "small.yaml"), tmp_path / "run"
    process = start("run", config, "--out", str(out))
    wait_for_round(Folder(out), 10)
    os.kill(process.pid, ending)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert Folder(out).status() == ("interrupted", "stopped by the user")
    deadline = time.monotonic() + 10
    while session(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not session(process), "workers outlived the run"


def test_ctrl_c_leaves_a_resumable_run(whole: Folder, tmp_path: Path) -> None:
    config, out = str(whole.path.parent / "small.yaml"), tmp_path / "run"
    process = start("run", config, "--out", str(out))
    wait_for_round(Folder(out), 10)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert f"metaward resume {out}" in errors.replace("\n", "")
    assert Folder(out).status()[0] == "interrupted"
    finish(start("resume", str(out)))
    assert (out / "theta.safetensors").read_bytes() == (
        whole.path / "theta.safetensors"
    ).read_bytes()
