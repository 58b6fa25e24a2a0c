"""Does memory grow with the number of hospitals by more than their data?

For each federation size: gather all hospitals in the in-process engine (two workers), run two
rounds with all of them, and read the resident memory of this process and of each worker. The growth
from the first size to the last, divided by the hospitals added, is compared with the bytes of one
hospital's records.

    python benchmarks/scale.py [--sizes 25 100 200] [--out benchmarks/results/scale.json]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from metaward import sim
from metaward.server.engines.inprocess import InProcessGrid
from metaward.server.folder import Folder
from metaward.server.run import Run
from metaward.yaml_text import override

UNSEEN = 2


def configuration(hospitals: int) -> sim.Sim:
    """The default run with another number of hospitals, one task each."""
    mapping = sim.load(sim.HERE / "configs/phantom.yaml").mapping()
    for text in (
        f"client.tasks.hospitals={hospitals}",
        f"client.tasks.unseen={UNSEEN}",
        "client.tasks_per_round=1",
        "server.rounds=2",
    ):
        override(mapping, text)
    return sim.parse(mapping)


def resident(pid: int) -> int:
    """Resident memory of a process in bytes (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def measure(hospitals: int) -> dict[str, Any]:
    """One federation: seconds per round, and the memory of this process and its workers."""
    run = configuration(hospitals)
    with tempfile.TemporaryDirectory() as home:
        folder = Folder(Path(home) / "run")
        folder.create(run)
        total = hospitals + UNSEEN
        with InProcessGrid(total, 2, None, folder) as grid:
            job = Run(run, grid, folder, lambda row: None, simulated=True)
            job.roster.gather(grid)
            strategy = job.strategy(job.own)
            began = time.perf_counter()
            for _ in strategy.rounds(grid, strategy.begin(job.start(job.own))):
                pass
            seconds = (time.perf_counter() - began) / run.server.rounds
            workers = [resident(p.pid or 0) for p in multiprocessing.active_children()]
    return {
        "hospitals": hospitals,
        "seconds_a_round": round(seconds, 2),
        "server_mb": resident(os.getpid()) / 1e6,
        "workers_mb": [bytes_ / 1e6 for bytes_ in workers],
    }


def data_bytes() -> int:
    """Bytes of one hospital's records, identities and labels included."""
    hospital = configuration(2).client.tasks.hospital(0, None, 0)
    return sum(int(a.nbytes) for a in (hospital.x, hospital.y, hospital.ids, hospital.patients))


def main() -> None:
    """Measure each size in a fresh process and print the growth per hospital."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sizes", type=int, nargs="+", default=[25, 100, 200])
    options.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options.add_argument("--out", type=Path)
    chosen = options.parse_args()
    if chosen.one:
        print(json.dumps(measure(chosen.one)))
        return
    runs = []
    for size in chosen.sizes:
        command = [sys.executable, __file__, "--one", str(size)]
        runs.append(json.loads(subprocess.check_output(command, text=True).splitlines()[-1]))
    first, last = runs[0], runs[-1]
    added = last["hospitals"] - first["hospitals"]
    growth = {
        "server_kb": (last["server_mb"] - first["server_mb"]) * 1e3 / added,
        "workers_kb": (sum(last["workers_mb"]) - sum(first["workers_mb"])) * 1e3 / added,
    }
    result = {
        "runs": runs,
        "growth_a_hospital": growth,
        "data_kb_a_hospital": data_bytes() / 1e3,
    }
    print(json.dumps(result, indent=1))
    if chosen.out:
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        chosen.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
