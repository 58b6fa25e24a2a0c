"""Accuracy at unseen hospitals over epsilon, next to what the plan forecast.

Each private configuration is run at every epsilon with every seed, as a user would run it: by the
command, which writes a result folder. The run at the largest epsilon trains the same learner
without privacy (epsilon unlimited) and judges its untrained start, a fit from scratch,
and the nearest centroid on the same episodes. Spent epsilons are read from the run's privacy
report, which recounts them from the raw ledgers.

The interval is the 95 % t-interval of the mean over seeds: a seed draws the training hospitals'
deals, the noise, the start, and the episodes (phantoms: the hospitals themselves, too).

    python benchmarks/epsilon.py [--data FOLDER] [--seeds 7 8 9] [--only phantom] [--jobs 2]
    python benchmarks/epsilon.py --table          # only print what is saved, as Markdown

Results that are saved are not run again; remove the file to start over.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

HOME = Path(__file__).resolve().parent.parent
SAVED = Path(__file__).parent / "results" / "epsilon.json"
EPSILONS = (8.0, 3.0, 1.0)
BESIDE = "[no_privacy, untrained, scratch, centroid]"
METAWARD = [sys.executable, "-c", "from metaward.server.cli import main; main()"]
WRITING = Lock()

Result = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A private configuration with keys set, and what a plan must be told because it does not say.

    ``beside`` are the baselines of the run at the largest of the ``epsilons``.
    """

    name: str
    title: str
    config: str
    plan_options: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    epsilons: tuple[float, ...] = EPSILONS
    beside: str = BESIDE


DESCENTS = {
    "reptile": "lr: 0.003, steps: 3, adapt_steps: 10",
    "fomaml": "lr: 0.003, steps: 2, adapt_steps: 10",
    "maml": "lr: 0.003, steps: 2, adapt_steps: 10",
}
"""Learners that descend on adapter and head together, in tasks of their own."""
LARGE_TASKS = (
    "client.tasks.train_shots=50",
    "client.tasks.train_queries=50",
    "privacy.split.support=1.0",
)

CASES = (
    Case("default", "phantoms, 12 hospitals of 2,000 images, record, adapter", "sim.yaml"),
    *(
        Case(
            name,
            f"the same phantoms, {name} on the adapter",
            "sim.yaml",
            sets=(*LARGE_TASKS, f"client.inner={{algorithm: {name}, {options}}}"),
            epsilons=(8.0,),
            beside="[untrained]",
        )
        for name, options in DESCENTS.items()
    ),
    Case("phantom", "phantoms, 12 hospitals of 600 images, record", "configs/metric.yaml"),
    Case(
        "ecg",
        "ECG, 6 hospitals of 3 or 4 patients, patient",
        "configs/ecg-private.yaml",
        ("--records", "6000", "--units", "3"),
    ),
    Case(
        "ecg-record",
        "ECG, 6 hospitals of 3 or 4 patients, record",
        "configs/ecg-record.yaml",
        ("--records", "6000"),
    ),
    Case(
        "omniglot",
        "Omniglot, 50 alphabets of 280 to 1100 drawings, record",
        "configs/omniglot-private.yaml",
        ("--records", "280"),
    ),
)


def metaward(*words: str, data: str | None = None) -> str:
    """What the command prints; its complaint where it fails."""
    env = os.environ | {"OMP_NUM_THREADS": "1"} | ({"METAWARD_DATA": data} if data else {})
    done = subprocess.run([*METAWARD, *words], cwd=HOME, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"metaward {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


@dataclass(frozen=True)
class Run:
    """A configuration with changed keys, as a user would plan and run it."""

    config: str
    options: tuple[str, ...]

    def plan(self, options: Sequence[str]) -> Result:
        """What the plan says with these further options of the command."""
        words = metaward("privacy", "plan", self.config, *self.options, *options, "--json")
        told: Result = json.loads(words)
        return told

    def result(self, data: str | None) -> Result:
        """The table's rows, and the most that any hospital's unit spent by the run's report."""
        with tempfile.TemporaryDirectory() as place:
            out = Path(place) / "run"
            metaward("run", self.config, *self.options, "--out", str(out), "--json", data=data)
            table = json.loads((out / "result.json").read_text(encoding="utf-8"))["tables"][0]
            privacy = json.loads((out / "privacy.json").read_text(encoding="utf-8"))
        return {
            "spent": max(hospital["this_run"] for hospital in privacy["hospitals"]),
            "episodes": table["episodes"],
            "rows": [{k: v for k, v in row.items() if k != "hospitals"} for row in table["rows"]],
        }


def run_of(config: str, sets: Sequence[str]) -> Run:
    """The configuration with ``key=value`` texts set."""
    return Run(config, tuple(part for text in sets for part in ("--set", text)))


def measure(case: Case, epsilon: float, seed: int, data: str | None) -> Result:
    """The result of one run, and what its plan forecast."""
    beside = case.beside if epsilon == max(case.epsilons) else "[]"
    sets = [*case.sets, f"seed={seed}", f"privacy.epsilon={epsilon}", "server.workers=1"]
    run = run_of(case.config, [*sets, f"server.evaluation.baselines={beside}"])
    plan = run.plan(case.plan_options)
    told = {key: plan[key] for key in ("ratio", "verdict")}
    return {"case": case.name, "epsilon": epsilon, "seed": seed} | told | run.result(data)


def read(path: Path) -> list[Result]:
    """What was saved before."""
    if not path.is_file():
        return []
    results: list[Result] = json.loads(path.read_text(encoding="utf-8"))
    return results


def keep(path: Path, result: Result) -> None:
    """Keep one more result, in order; several threads can call it at once."""
    with WRITING:
        kept = sorted([*read(path), result], key=_order)
        path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def work_off(do: Callable[[Any], Result], todo: Sequence[Any], path: Path, jobs: int) -> None:
    """Do all that is to do, ``jobs`` at a time, and keep each result as it comes."""
    with ThreadPoolExecutor(jobs) as pool:
        for result in pool.map(do, todo):
            keep(path, result)
            print(*_order(result), flush=True)


def _order(result: Result) -> tuple[str, float, int]:
    return result.get("case") or result["trial"], -result["epsilon"], result["seed"]


# ------------------------------------------------------------------------------- the table


def half_width(x: NDArray[np.float64]) -> float:
    """Half the 95 % t-interval of the mean (n,)."""
    return float(stdtrit(len(x) - 1, 0.975) * x.std(ddof=1) / sqrt(len(x)))


def mean(values: Sequence[float]) -> str:
    """Mean in percent with its t-interval over seeds."""
    x = 100 * np.array(values)
    if len(x) < 2:
        return f"{x.mean():.1f}"
    half = half_width(x)
    return f"{x.mean():.1f} [{x.mean() - half:.1f}, {x.mean() + half:.1f}]"


def line(name: str, rows: Sequence[Result], plan: str) -> str:
    """One line of the table from the rows of all seeds."""
    worst = min(row["worst"] for row in rows)
    after = [row["after"] for row in rows]
    each = ", ".join(f"{100 * value:.1f}" for value in after)
    return f"| {name} | {mean(after)} | {each} | {100 * worst:.1f} | {plan} |"


def lines(results: Sequence[Result]) -> Iterable[str]:
    """One case: its epsilons in rising order, then the baselines that ran with the largest."""
    for epsilon in sorted({r["epsilon"] for r in results}):
        here = [r for r in results if r["epsilon"] == epsilon]
        plan = f"{here[0]['verdict']} ({here[0]['ratio']:.2g})"
        spent = max(r["spent"] for r in here)
        yield line(f"epsilon {epsilon:g} (spent {spent:.4g})", [r["rows"][0] for r in here], plan)
    best = [r for r in results if r["epsilon"] == max(r["epsilon"] for r in results)]
    for place in range(1, len(best[0]["rows"])):
        rows = [r["rows"][place] for r in best]
        yield line(rows[0]["learner"], rows, "")


def table(results: Sequence[Result]) -> str:
    """All cases as Markdown."""
    parts = []
    for case in CASES:
        own = [r for r in results if r["case"] == case.name]
        if own:
            head = f"| {case.title} | accuracy, % | seeds | worst hospital | plan |"
            parts.append("\n".join([head, "|---|---|---|---|---|", *lines(own)]))
    return "\n\n".join(parts)


def main() -> None:
    """Measure what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("--data", help="folder of the real data")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8, 9])
    parser.add_argument("--only", nargs="+", choices=[c.name for c in CASES])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one core each")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    asked = parser.parse_args()
    done = {(r["case"], r["epsilon"], r["seed"]) for r in read(SAVED)}
    todo = [
        (case, epsilon, seed)
        for case in CASES
        for epsilon in case.epsilons
        for seed in asked.seeds
        if (not asked.only or case.name in asked.only) and (case.name, epsilon, seed) not in done
    ]
    if not asked.table:
        work_off(lambda job: measure(job[0], job[1], job[2], asked.data), todo, SAVED, asked.jobs)
    print(table(read(SAVED)))


if __name__ == "__main__":
    main()
