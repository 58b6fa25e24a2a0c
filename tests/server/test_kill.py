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

from metaward.server.engines import ENGINES
from metaward.server.folder import Folder
from tests.server.small import small

COMMAND = [sys.executable, "-c", "from metaward.server.cli import main; main()"]
SETTINGS = (
    "server.rounds=32",
    "server.evaluation.every=16",
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


def ends(process: subprocess.Popen[str], how: signal.Signals) -> str:
    """Send a signal: Ctrl-C as a terminal does, to every process of the group, any other to the
    command alone, whose workers must end with it. What the command said."""
    (os.killpg if how == signal.SIGINT else os.kill)(process.pid, how)
    _, errors = process.communicate(timeout=30)
    deadline = time.monotonic() + 10
    while session(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not session(process), "workers outlived the run"
    return errors


ENDINGS = {3: signal.SIGKILL, 6: signal.SIGTERM, 9: signal.SIGINT, 14: signal.SIGKILL}
"""After which round the run is ended, and how; the first time there is no checkpoint yet."""


def test_ended_in_every_way_and_resumed_to_the_whole_runs_result(tmp_path: Path) -> None:
    config, out, whole = tmp_path / "small.yaml", tmp_path / "run", Folder(tmp_path / "whole")
    config.write_text(json.dumps(small(*SETTINGS, "server.workers=2").mapping()))
    process = start("run", str(config), "--out", str(out))
    for number, how in ENDINGS.items():
        wait_for_round(Folder(out), number)
        time.sleep(random.Random(number).random() * 0.05)
        errors = ends(process, how)
        if how == signal.SIGKILL:
            assert Folder(out).status()[0] == "running"
        else:
            assert process.returncode == 130, errors
            assert Folder(out).status() == ("interrupted", "stopped by the user")
            assert f"metaward resume {out}" in errors.replace("\n", "")
        process = start("resume", str(out))
    finish(process)

    whole.create(small(*SETTINGS, "server.workers=1"))
    ENGINES["inprocess"](whole.config(), whole, lambda row: None)
    for name in (
        "theta.safetensors",
        "baselines/fedavg/checkpoints/round-000032/state.safetensors",
    ):
        assert (out / name).read_bytes() == (whole.path / name).read_bytes()
    tables = [json.loads((p / "result.json").read_text())["tables"] for p in (out, whole.path)]
    assert tables[0] == tables[1]
