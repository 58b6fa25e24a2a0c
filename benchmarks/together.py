"""How much faster the inner loops run for all tasks in one pass than one task after the other.

One hospital's round of FOMAML, on one core, in one process: the product's readable loop and the
engine of ``tests/client/inner/together.py`` in turn, so that a drifting machine slows both.
The ratio is the loop's time over the engine's; above 1 the engine is faster.

    PYTHONPATH=. python benchmarks/together.py [--rounds 7] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metaward import sim
from metaward.client.inner import Algorithm
from metaward.client.inner.maml import Fomaml
from metaward.client.work import open_hospital, open_setting, stream
from metaward.privacy import OpenSession
from tests.client.inner.together import FomamlTogether

CASES = (
    ("configs/sine.yaml", 4, ()),
    ("configs/sine.yaml", 25, ()),
    ("configs/phantom.yaml", 6, ()),
    ("configs/phantom.yaml", 6, ("client.model.width=64",)),
)
LOOP, TOGETHER = Fomaml(lr=0.01, steps=5), FomamlTogether(lr=0.01, steps=5)


def measured(config: str, tasks: int, overrides: tuple[str, ...], rounds: int) -> dict[str, Any]:
    """Ratios of one case; the first round warms up and is left out."""
    run = sim.load(sim.HERE / config, overrides)
    desk = run.desk()
    setting = open_setting(desk)
    hospital, rng = open_hospital(desk.source, 0, None, run.seed), stream(run.seed, "train", 0, 1)
    episodes = [hospital.episode(rng) for _ in range(tasks)]
    theta = LOOP.initial(setting, run.seed)

    def seconds(learner: Algorithm) -> float:
        began = time.perf_counter()
        learner.update(setting, theta, episodes, OpenSession(), np.random.default_rng(0))
        return time.perf_counter() - began

    ratios = [seconds(LOOP) / seconds(TOGETHER) for _ in range(rounds + 1)][1:]
    return {
        "config": " ".join((config, *overrides)),
        "tasks": tasks,
        "dim": len(theta),
        "ratio_median": statistics.median(ratios),
        "ratios": sorted(ratios),
    }


def main() -> None:
    """Measure and print; ``--out`` also writes the figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--out", type=Path)
    chosen = options.parse_args()
    torch.set_num_threads(1)
    found = {
        "learner": "fomaml, 5 steps",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cases": [measured(*case, chosen.rounds) for case in CASES],
    }
    text = json.dumps(found, indent=1)
    print(text)
    if chosen.out:
        chosen.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
