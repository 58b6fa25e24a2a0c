"""Do time and memory grow with the number of hospitals, or of their records, by more than these?

For each federation size: gather all hospitals in the in-process engine (two workers), run two
rounds with all of them, and read the resident memory of this process and of each worker. The growth
from the first size to the last, divided by the hospitals added, is compared with the bytes of one
hospital's records. Then the default run's learner at two hospitals of more and more records, all of
which are used in every round, privately. The last round counts, for the first one also makes and
prepares the records.

    python benchmarks/scale.py [--sizes 10 100 1000] [--records 2000 20000 100000]
                               [--out benchmarks/results/scale.json]
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
from itertools import pairwise
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


def of_records(records: int) -> sim.Sim:
    """The default run with two hospitals of so many records."""
    mapping = sim.load(sim.HERE / "sim.yaml").mapping()
    for text in (
        "client.tasks.hospitals=2",
        f"client.tasks.unseen={UNSEEN}",
        f"client.tasks.records={records}",
        f"client.tasks_per_round={records}",
        "privacy.large_delta=true",
        "server.rounds=3",
    ):
        override(mapping, text)
    return sim.parse(mapping)


def measure(run: sim.Sim) -> dict[str, Any]:
    """One federation: seconds of each round, and the memory of this process and its workers."""
    with tempfile.TemporaryDirectory() as home:
        folder = Folder(Path(home) / "run")
        folder.create(run)
        with InProcessGrid(len(run.client.tasks.roster()), 2, None, folder) as grid:
            job = Run(run, grid, folder, lambda row: None, simulated=True)
            job.roster.gather(grid)
            strategy = job.strategy(job.own)
            ends = [time.perf_counter()]
            for _ in strategy.rounds(grid, strategy.begin(job.start(job.own))):
                ends.append(time.perf_counter())
            workers = [resident(p.pid or 0) for p in multiprocessing.active_children()]
    return {
        "rounds": [round(after - before, 3) for before, after in pairwise(ends)],
        "seconds_a_round": round((ends[-1] - ends[0]) / run.server.rounds, 2),
        "server_mb": resident(os.getpid()) / 1e6,
        "workers_mb": [bytes_ / 1e6 for bytes_ in workers],
    }


def data_bytes() -> int:
    """Bytes of one hospital's records, identities and labels included."""
    hospital = configuration(2).client.tasks.hospital(0, None, 0)
    return sum(int(a.nbytes) for a in (hospital.x, hospital.y, hospital.ids, hospital.patients))


KINDS = {"hospitals": configuration, "records": of_records}


def alone(what: str, number: int) -> dict[str, Any]:
    """Measure a federation of so many in a fresh process."""
    command = [sys.executable, __file__, "--one", f"{what}={number}"]
    text = subprocess.check_output(command, text=True).splitlines()[-1]
    found: dict[str, Any] = json.loads(text)
    return found


def main() -> None:
    """Measure each size in a fresh process and print the growth per hospital."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sizes", type=int, nargs="+", default=[10, 100, 1000])
    options.add_argument("--records", type=int, nargs="+", default=[2000, 20_000, 100_000])
    options.add_argument("--one", help=argparse.SUPPRESS)
    options.add_argument("--out", type=Path)
    chosen = options.parse_args()
    if chosen.one:
        what, number = chosen.one.split("=")
        print(json.dumps({what: int(number)} | measure(KINDS[what](int(number)))))
        return
    runs = [alone("hospitals", size) for size in chosen.sizes]
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
        "records": [alone("records", size) for size in chosen.records],
    }
    print(json.dumps(result, indent=1))
    if chosen.out:
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        chosen.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
