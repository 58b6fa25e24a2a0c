"""Small sweeps for tests: files, and the command in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from metaward.server.engines import ENGINES
from metaward.server.sweeping.place import SweepPlace
from metaward.server.sweeping.trials import SweepPlan
from tests.server.small import small

COMMAND = [sys.executable, "-m", "metaward", "sweep"]
GRID = {"client.inner.lr": [0.02, 0.05]}


def sweep_file(folder: Path, *settings: str, **keys: Any) -> Path:
    """A sweep's file and its run in ``folder``; ``settings`` change the run, ``keys`` the sweep."""
    aside = ("client.tasks.validation=2", "server.rounds=2", *settings)
    (folder / "run.yaml").write_text(json.dumps(small(*aside).mapping()))
    path = folder / "sweep.yaml"
    path.write_text(json.dumps({"run": "run.yaml", "grid": GRID, "seeds": [1], **keys}))
    return path


def start(*words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def without_times(found: Any) -> Any:
    """Plain data of sweep.json, but for how long trials took."""
    if isinstance(found, dict):
        return {key: without_times(value) for key, value in found.items() if key != "seconds"}
    return [without_times(one) for one in found] if isinstance(found, list) else found


def read(out: Path) -> Any:
    """sweep.json of a folder, without times."""
    return without_times(json.loads((out / "sweep.json").read_text(encoding="utf-8")))


def quiet(text: str) -> None:
    """Says nothing."""


def carry_here(plan: SweepPlan, place: SweepPlace, leave: int = 0) -> None:
    """Run the trials in this process, one after the other, without the last ``leave`` ones."""
    with place.claimed(plan):
        for trial in plan.trials[: len(plan.trials) - leave]:
            place.trial(trial).create(trial.run)
            ENGINES["inprocess"](trial.run, place.trial(trial), lambda row: None)
