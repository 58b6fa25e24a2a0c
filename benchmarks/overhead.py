"""What an engine costs over the bare inner loops, as a ratio measured in one run.

A realistic round (16 hospitals x 4 tasks x 5 steps) is run in turn (a) bare: two processes that
hold their hospitals and call the algorithm, with nothing but a round number going in, and (b) as a
whole round of the in-process engine: messages, ClientApp, checks, combine, outer step. Both use two
workers with one torch thread each. Rounds alternate, so that a machine whose speed drifts slows
both. With ``--flower`` the same rounds then run on Flower's own runtime; its rounds after the first
are compared with bare ones measured right before and after.

The network matters: Flower's runtime polls every 0.1 s, which a round of small networks feels and a
round of the field's usual Conv-4 (64 filters, the default here) does not.

    python benchmarks/overhead.py [--rounds 6] [--width 64] [--flower] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from metaward import sim
from metaward.client import work
from metaward.client.desk import read_desk
from metaward.client.node import open_node
from metaward.privacy.wire import Request
from metaward.server.engines import ENGINES
from metaward.server.engines.inprocess import InProcessGrid
from metaward.server.folder import Folder
from metaward.server.run import Run
from metaward.yaml_text import override

HOSPITALS, TASKS, STEPS, WORKERS = 16, 4, 5, 2
SETTINGS = (
    f"client.tasks.hospitals={HOSPITALS}",
    "client.tasks.unseen=2",
    f"client.tasks_per_round={TASKS}",
    f"client.inner.steps={STEPS}",
    "strategies.hospitals_per_round=null",
    "server.evaluation.final_episodes=1",
    "server.evaluation.every=1000",
    "server.evaluation.baselines=[]",
    "server.checkpoint.every=1000",
    f"server.workers={WORKERS}",
)


def configuration(rounds: int, width: int) -> sim.Sim:
    """The default run with a realistic round."""
    mapping = sim.load(sim.HERE / "configs/phantom.yaml").mapping()
    for text in (*SETTINGS, f"server.rounds={rounds}", f"client.model.width={width}"):
        override(mapping, text)
    return sim.parse(mapping)


def bare(text: str, indices: list[int], round: int) -> None:
    """The inner loops of some hospitals, and nothing else."""
    desk = read_desk(text)
    theta = desk.learner.initial(work.open_setting(desk), desk.seed).numpy()
    request = Request(round, text, theta)
    for index in indices:
        config = {"partition-id": index, "simulation": "no ledger under mechanism none"}
        work.train(desk, request, open_node(config, desk, request))


def bare_round(pools: list[ProcessPoolExecutor], text: str, round: int) -> float:
    """Seconds of one round of bare inner loops over all hospitals."""
    began = time.perf_counter()
    halves = [list(range(HOSPITALS))[i::WORKERS] for i in range(WORKERS)]
    futures = [
        pool.submit(bare, text, half, round) for pool, half in zip(pools, halves, strict=True)
    ]
    for future in futures:
        future.result()
    return time.perf_counter() - began


def inprocess(
    run: sim.Sim, pools: list[ProcessPoolExecutor], folder: Folder
) -> list[dict[str, float]]:
    """Bare and engine rounds in turn; the first of each is a warm-up and left out."""
    text, pairs = run.desk().json(), list[dict[str, float]]()
    total = len(run.client.tasks.roster())
    folder.create(run)
    with InProcessGrid(total, WORKERS, None, folder) as grid:
        job = Run(run, grid, folder, lambda row: None, simulated=True)
        job.roster.gather(grid)
        strategy = job.strategy(job.own)
        rounds = strategy.rounds(grid, strategy.begin(job.start(job.own)))
        while True:
            one = bare_round(pools, text, len(pairs) + 1)
            began = time.perf_counter()
            if next(rounds, None) is None:
                return pairs[1:]
            pairs.append({"bare": one, "engine": time.perf_counter() - began})


def flower(
    run: sim.Sim, pools: list[ProcessPoolExecutor], folder: Folder
) -> dict[str, list[float]]:
    """Seconds of Flower's rounds after the first, and of bare rounds before and after them."""
    text = run.desk().json()
    before = [bare_round(pools, text, r) for r in range(1, 5)][1:]
    folder.create(run)
    ENGINES["flower"](run, folder, lambda row: None)
    after = [bare_round(pools, text, r) for r in range(1, 4)]
    rounds = [row["seconds"] for row in folder.rows() if "loss" in row][1:]
    return {"bare": before + after, "engine": rounds}


def main() -> None:
    """Measure and print; ``--out`` also writes the figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=6)
    options.add_argument("--width", type=int, default=64)
    options.add_argument("--flower", action="store_true")
    options.add_argument("--out", type=Path)
    chosen = options.parse_args()
    run = configuration(chosen.rounds, chosen.width)
    context = multiprocessing.get_context("spawn")
    pools = [ProcessPoolExecutor(1, context) for _ in range(WORKERS)]
    figures: dict[str, object] = {
        "round": f"{HOSPITALS} hospitals x {TASKS} tasks x {STEPS} steps, {WORKERS} workers",
        "network": f"conv, {chosen.width} filters",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }
    with tempfile.TemporaryDirectory() as home:
        pairs = inprocess(run, pools, Folder(Path(home) / "inprocess"))
        ratios = sorted(pair["engine"] / pair["bare"] for pair in pairs)
        figures["inprocess"] = {"ratio_median": statistics.median(ratios), "ratios": ratios}
        figures["bare_seconds_median"] = statistics.median(pair["bare"] for pair in pairs)
        if chosen.flower:
            times = flower(run, pools, Folder(Path(home) / "flower"))
            ratio = statistics.median(times["engine"]) / statistics.median(times["bare"])
            figures["flower"] = {"ratio_of_medians": ratio, **times}
    for pool in pools:
        pool.shutdown()
    print(json.dumps(figures, indent=1))
    if chosen.out:
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        chosen.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
