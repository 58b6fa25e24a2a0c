"""A thousand random faults of server and hospitals, and whether anything was lost.

Each run has a server process and four hospital processes, forked from one warm parent
(``tests/faults/light.py``): the server's own loop and the hospitals' own code, but no pictures are
drawn. In every second run hospitals have policies, ledgers, signatures and the operating system's
noise; in the others they are simulated, and the trajectory must be that of a run without faults.
Random processes get SIGKILL, SIGTERM or SIGSTOP at random instants; what has ended is started
again, and the server resumes. Some replies come twice, some after their round. Each run must
finish, and then its history is checked (``tests/faults/history.py``), with every update that has
left a hospital.

What this does not cover: Flower's own processes and protocol, in whose place there is a Unix socket
for each hospital (``benchmarks/faults.py`` has them, with few faults); TLS and node authentication;
power cuts, after which a disk lacks what was not synced; several machines.

    PYTHONPATH=. python benchmarks/random_faults.py [--faults 1000] [--seed 1] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from tests.faults.blows import Report, reference_run, storm

FAULTS_A_RUN = 50


def main() -> None:
    """Do the faults and check every run; figures are written after each. 1 for a broken promise."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--place", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/random_faults.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    place = options.place or Path(tempfile.mkdtemp())
    begun, rng, total = time.monotonic(), np.random.default_rng(options.seed), Report()
    reference = reference_run(place / "reference")
    while (left := options.faults - total.faults.total()) > 0:
        simulated = total.runs % 2 == 1
        here = place / f"run-{total.runs + 1:03d}"
        faults = min(left, FAULTS_A_RUN)
        total.add(storm(here, faults, rng, simulated, reference if simulated else None))
        result = {"faults": total.faults.total(), "seed": options.seed, "report": total.plain()}
        result["seconds"] = round(time.monotonic() - begun, 1)
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(f"{total.faults.total()} faults, {len(total.found)} violations", flush=True)
    sys.exit(bool(total.found))


if __name__ == "__main__":
    main()
