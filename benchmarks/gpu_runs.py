"""Whole runs by the command, which the GPU benchmark times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from gpu_rounds import Figures

HOME = Path(__file__).resolve().parent.parent

MOST = 150  # seconds of a run
SMALL = ("configs/phantom.yaml", "server.evaluation.baselines=[]")
RUNS: dict[str, tuple[str, ...]] = {
    "default": ("sim.yaml", "server.evaluation.baselines=[]"),
    "phantom": (*SMALL, "server.rounds=20"),
}
ENGINES: dict[str, tuple[str, ...]] = {
    "inprocess": ("server.workers=1",),
    "flower": ("server.engine=flower", "server.workers=4"),
}


def runs(device: str) -> list[Figures]:
    """Whole runs by the command on the device and on the CPU: seconds, and what they reached."""
    found = []
    for name, (config, *sets) in RUNS.items():
        for where in dict.fromkeys((device, "cpu")):
            if name != "phantom" and where == "cpu" != device:
                continue  # minutes long, and the first run of these says what the ratio is
            own = [*sets, f"server.device={where}", f"server.workers={1 if where != 'cpu' else 2}"]
            found.append({"run": name, "device": where} | one_run(config, own))
            print(found[-1], flush=True)
    return found


def engines(device: str) -> list[Figures]:
    """The same run in one process, and in Flower's engine: four hospitals at a time, each with a
    process of its own and a quarter of the GPU. Seconds of 1 and of 11 rounds, evaluation included.
    """
    found, (config, *sets) = [], (*SMALL, "server.evaluation.final_episodes=20")
    for rounds in (1, 11):
        for engine, more in ENGINES.items():
            own = [*sets, *more, f"server.device={device}", f"server.rounds={rounds}"]
            if engine == "flower" and device != "cpu":
                own.append("server.flower.gpus=0.25")
            found.append({"engine": engine, "rounds": rounds} | one_run(config, own))
            print(found[-1], flush=True)
    return found


def one_run(config: str, sets: Sequence[str]) -> Figures:
    """A run as a user starts it."""
    options = [word for text in sets for word in ("--set", text)]
    with tempfile.TemporaryDirectory() as place:
        began = time.perf_counter()
        command = [sys.executable, "-m", "metaward", "run", config, *options, "--json"]
        try:
            done = subprocess.run(
                [*command, "--out", f"{place}/run"],
                cwd=HOME,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                capture_output=True,
                text=True,
                check=False,
                timeout=MOST,
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"it took more than {MOST} s"}
    wall = round(time.perf_counter() - began, 1)
    if done.returncode:
        return {"failed": done.stderr[-500:], "wall": wall}
    row = json.loads(done.stdout)["tables"][0]["rows"][0]
    return {"wall": wall, "before": row["before"], "after": row["after"], "worst": row["worst"]}
