"""When do inner loops run faster for all tasks at once than one task after the other, on a CPU?

Training (FOMAML, 5 steps), the same with noised sums of records, and adaptation (10 steps) of one
hospital's tasks, on one core, in one process: ``loop`` and ``batched`` in turn, so that a drifting
machine slows both. The ratio is the loop's time over the batched one's; above 1 batching is faster.
``server.inner: auto`` follows the table (``metaward.client.inner.at_once``).

    python benchmarks/together.py [--rounds 7] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metaward import sim
from metaward.client.inner import Setting
from metaward.client.inner.at_once import Batched, OneByOne
from metaward.client.inner.maml import Fomaml
from metaward.client.judging import judge
from metaward.client.prepared import prepare
from metaward.client.tasks.base import Episode
from metaward.client.work import open_hospital, stream
from metaward.privacy import Opening, OpenSession, Rehearsal, Session, Sums, Use
from metaward.privacy.noise import SeededNoise

SINE, PHANTOM = "configs/sine.yaml", "configs/phantom.yaml"
MLP = "client.model={network: mlp, hidden: %s}"
CASES = (
    (SINE, 4, ()),
    (SINE, 64, ()),
    (PHANTOM, 4, (MLP % "[16]",)),
    (PHANTOM, 64, (MLP % "[16]",)),
    (PHANTOM, 64, (MLP % "[64, 64]",)),
    (PHANTOM, 64, (MLP % "[256]",)),
    (PHANTOM, 64, ("client.model={network: scatter}",)),
    (PHANTOM, 64, ("client.model={network: adapter}",)),
    (PHANTOM, 16, ("client.model={network: conv, width: 8, depth: 2}",)),
    (PHANTOM, 16, ("client.model={network: conv, width: 16}",)),
    (PHANTOM, 4, ("client.model={network: conv, width: 64}",)),
)
LEARNER = Fomaml(lr=0.01, steps=5)
SUMS = Sums()
PARTS = ("training", "noised", "adaptation")


def measured(config: str, tasks: int, overrides: tuple[str, ...], rounds: int) -> dict[str, Any]:
    """Ratios of one case; the first round warms up and is left out."""
    run = sim.load(sim.HERE / config, overrides)
    spec, source = run.client.tasks.spec(), run.client.tasks
    ways = [Setting(run.client.model, spec, at_once=way) for way in (OneByOne(), Batched())]
    hospital = prepare(open_hospital(source, 0, None, run.seed), ways[0])
    rng = stream(run.seed, "train", 0, 1)
    episodes = apart([hospital.episode(rng) for _ in range(tasks)])
    theta = LEARNER.initial(ways[0], run.seed)

    def train(setting: Setting, session: Session | None = None) -> None:
        records = session or OpenSession()
        LEARNER.update(setting, theta, episodes, records, np.random.default_rng(0))

    rehearsal = Rehearsal()
    train(ways[0], rehearsal)
    opening = noised(rehearsal.uses)

    def train_noised(setting: Setting) -> None:
        train(setting, SUMS.session(opening()))

    def adapt(setting: Setting) -> None:
        judge(setting, LEARNER, theta, episodes)

    return {
        "config": " ".join((config, *overrides)),
        "tasks": tasks,
        "dim": len(theta),
        "training": ratios(train, ways, rounds),
        "noised": ratios(train_noised, ways, rounds),
        "adaptation": ratios(adapt, ways, rounds),
    }


def apart(episodes: Sequence[Episode]) -> list[Episode]:
    """The same tasks with rows of their own: in a noised round no record is in two of them."""
    found, first = [], 0
    for one in episodes:
        middle = first + len(one.support_rows)
        last = middle + len(one.query_rows)
        support, query = np.arange(first, middle), np.arange(middle, last)
        found.append(replace(one, support_rows=support, query_rows=query))
        first = last
    return found


def noised(uses: Sequence[Use]) -> Callable[[], Opening]:
    """What a session that noises these sums is opened with, anew for each run."""
    owners = np.arange(1 + max(row for use in uses for row in use.rows))
    sigma: dict[str, float] = {use.kind: 1.0 for use in uses}
    return lambda: Opening(uses, sigma, owners, SeededNoise(0))


def ratios(work: Callable[[Setting], None], ways: list[Setting], rounds: int) -> dict[str, Any]:
    """The loop's CPU time over the batched one's, in each round, and the median of that."""

    def seconds(setting: Setting) -> float:
        began = time.process_time()
        work(setting)
        return time.process_time() - began

    loop, batched = ways
    found = [seconds(loop) / seconds(batched) for _ in range(rounds + 1)][1:]
    return {"median": statistics.median(found), "ratios": sorted(found)}


def main() -> None:
    """Measure and print; ``--out`` also writes the figures."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--out", type=Path)
    chosen = options.parse_args()
    torch.set_num_threads(1)
    cases = []
    for config, tasks, overrides in CASES:
        cases.append(measured(config, tasks, overrides, chosen.rounds))
        line = cases[-1]
        medians = (f"{line[part]['median']:.2f}" for part in PARTS)
        print(line["config"], line["tasks"], *medians, flush=True)
    figures = {
        "learner": "fomaml, 5 steps; adaptation in 10",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cases": cases,
    }
    if chosen.out:
        chosen.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
