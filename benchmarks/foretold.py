"""Are the forecasts of ``metaward privacy plan`` right on runs that did not set its limits?

The plan's limits for second moments were settled with docs/accuracy.md in view, so its rows cannot
test them. These runs can: other sizes, grids, units, data and seeds, and gradients. First

    python benchmarks/foretold.py --plan          # what the plan says; trains nothing

(its file was committed, together with the rule, before anything below was run); then

    python benchmarks/foretold.py [--data FOLDER] [--only NAME ...] [--jobs 2]
    python benchmarks/foretold.py --table         # only print what is saved, as Markdown

What training without privacy adds to the untrained start is the gain. The share that is left is

    share = (private - untrained) / (no privacy - untrained),

on the same episodes, of the means over three seeds. Fixed beforehand: "can work" is right where
the share is at least a half, "cannot work" where it is at most a quarter, "doubtful" promises
neither. Where the gain's 95 % t-interval over seeds reaches zero, the row tests nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from epsilon import Case, Result, half_width, read, run_of, work_off
from numpy.typing import NDArray

RESULTS = Path(__file__).parent / "results"
PLANS, SAVED = RESULTS / "foretold_plan.json", RESULTS / "foretold.json"
SEEDS = (17, 18, 19)
SMALL = ("client.tasks.hospitals=4", "client.tasks.records=150")
LARGE = ("client.tasks.hospitals=24", "client.tasks.records=1200")
PATIENT = (
    "privacy={mechanism: sums, unit: patient, delta: 1.0e-5, clip_norm: 1.0, clip_features: 6.0}"
)
RECORD = (
    "privacy={mechanism: sums, unit: record, delta: 1.0e-5, clip_norm: 1.0, clip_features: 6.0}"
)
METRIC = (
    "client.model={network: scatter}",
    "client.inner={algorithm: metric, lr: 0.01, adapt_steps: 20}",
    "client.tasks_per_round=1000",
    "client.schedule=passes",
    "server.rounds=1",
    "strategies.outer.schedule=constant",
    RECORD,
)
SINE = (
    "client.tasks={source: sine, hospitals: 10, unseen: 5, functions: 20, queries: 10}",
    "client.inner={algorithm: fomaml, lr: 0.002, steps: 1, adapt_steps: 5}",
    "client.tasks_per_round=1000",
    "client.schedule=passes",
    "strategies.outer={optimizer: adam, lr: 0.01}",
    "server.rounds=40",
    "privacy={mechanism: sums, unit: record, delta: 1.0e-5, clip_norm: 1.0}",
)


@dataclass(frozen=True)
class Trial(Case):
    """A case in which keys are changed, and the epsilons that it is run at."""

    options: tuple[str, ...] = ()
    epsilons: tuple[float, ...] = (8, 1, 0.25)


PHANTOMS = "configs/metric.yaml"
TRIALS = (
    Trial("small", "phantoms, 4 hospitals of 150 images", PHANTOMS, (), SMALL, (8, 3, 1)),
    Trial(
        "large",
        "phantoms, 24 hospitals of 1200 images",
        PHANTOMS,
        (),
        LARGE,
        (1, 0.25),
    ),
    Trial("fine", "phantoms, grid 2", PHANTOMS, (), ("client.model.grid=2",)),
    Trial(
        "patients",
        "phantoms, patient, 280 patients a hospital",
        PHANTOMS,
        ("--units", "280"),
        (PATIENT,),
    ),
    Trial(
        "beats",
        "ECG, record: each beat by itself",
        "configs/ecg-private.yaml",
        ("--records", "6000"),
        (RECORD,),
        (8, 1, 0.1),
    ),
    Trial(
        "medmnist",
        "MedMNIST, 6 hospitals of 119 to 2923 images",
        "configs/medmnist.yaml",
        ("--records", "119"),
        METRIC,
    ),
    Trial(
        "sine",
        "sinusoids, FOMAML (gradients)",
        "configs/sine.yaml",
        ("--records", "1000"),
        SINE,
    ),
)


# ----------------------------------------------------------------------------- before and after


def plan(trial: Trial, epsilon: float) -> Result:
    """What the plan says of a trial; it is the same for every seed."""
    told = run_of(trial.config, sets(trial, epsilon, SEEDS[0])).plan(trial.plan_options)
    kept = {key: told[key] for key in ("verdict", "ratio", "limits", "coordinates")}
    return {"trial": trial.name, "epsilon": epsilon} | kept


def sets(trial: Trial, epsilon: float, seed: int) -> list[str]:
    """The changed keys; the run with the largest epsilon has the baselines, too."""
    beside = "[no_privacy, untrained]" if epsilon == max(trial.epsilons) else "[]"
    own = [f"seed={seed}", f"privacy.epsilon={epsilon}", "server.workers=1"]
    return [*trial.options, *own, f"server.evaluation.baselines={beside}"]


def measure(trial: Trial, epsilon: float, seed: int, data: str | None) -> Result:
    """The result of one run."""
    done = run_of(trial.config, sets(trial, epsilon, seed)).result(data)
    return {"trial": trial.name, "epsilon": epsilon, "seed": seed} | done


# ------------------------------------------------------------------------------------ the table


def right(verdict: str, share: float, gain: NDArray[np.float64]) -> str:
    """The rule, as fixed beforehand."""
    if abs(gain.mean()) <= half_width(gain):
        return "no test: nothing to gain"
    if verdict == "doubtful":
        return "no promise"
    kept = share >= 0.5 if verdict == "can work" else share <= 0.25
    return "right" if kept else "**wrong**"


def lines(trial: Trial, plans: Sequence[Result], results: Sequence[Result]) -> Iterator[str]:
    """One line for each epsilon, the largest first."""
    own = [r for r in results if r["trial"] == trial.name]
    best = [r for r in own if r["epsilon"] == max(trial.epsilons)]
    none, untrained = (np.array([r["rows"][k]["after"] for r in best]) for k in (1, 2))
    for told in (p for p in plans if p["trial"] == trial.name):
        here = np.array([r["rows"][0]["after"] for r in own if r["epsilon"] == told["epsilon"]])
        if len(here) < len(SEEDS) or len(best) < len(SEEDS):
            continue
        share = float((here - untrained).mean() / (none - untrained).mean())
        scores = " | ".join(f"{scale(x.mean())}" for x in (untrained, here, none))
        yield (
            f"| {trial.title} | {told['epsilon']:g} | {told['verdict']} ({told['ratio']:.2g}) | "
            f"{scores} | {100 * share:.0f} % | {right(told['verdict'], share, none - untrained)} |"
        )


def scale(score: float) -> str:
    """Accuracy in percent; an error above 1 as it is."""
    return f"{score:.2f}" if score > 1 else f"{100 * score:.1f}"


def table(plans: Sequence[Result], results: Sequence[Result]) -> str:
    """All trials as Markdown."""
    head = "| run | epsilon | plan | untrained | private | no privacy | share left | plan was |"
    body = [line for trial in TRIALS for line in lines(trial, plans, results)]
    return "\n".join([head, "|---|---|---|---|---|---|---|---|", *body])


T = TypeVar("T", bound="Asked")


class Asked(Protocol):
    """A trial by its name, and the epsilons that it is run at."""

    @property
    def name(self) -> str:
        """The name that results are saved under."""

    @property
    def epsilons(self) -> tuple[float, ...]:
        """In the order of the table."""


def arguments(text: str | None, trials: Sequence[Asked]) -> argparse.Namespace:
    """What was typed; ``text`` is the docstring of the benchmark."""
    parser = argparse.ArgumentParser(description=(text or "").split("\n", 1)[0])
    parser.add_argument("--data", help="folder of the real data")
    parser.add_argument("--only", nargs="+", choices=[t.name for t in trials])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one core each")
    parser.add_argument("--plan", action="store_true", help="save the forecasts, and stop")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    return parser.parse_args()


def missing(
    trials: Sequence[T], saved: Path, asked: argparse.Namespace
) -> list[tuple[T, float, int]]:
    """Trial, epsilon and seed of each run that was asked for and is not saved."""
    done = {(r["trial"], r["epsilon"], r["seed"]) for r in read(saved)}
    wanted = [t for t in trials if not asked.only or t.name in asked.only]
    every = product(((t, e) for t in wanted for e in t.epsilons), SEEDS)
    jobs = [(trial, epsilon, seed) for (trial, epsilon), seed in every]
    return [] if asked.table else [(t, e, s) for t, e, s in jobs if (t.name, e, s) not in done]


def main() -> None:
    """Plan, or measure what is missing, then print the table."""
    asked = arguments(__doc__, TRIALS)
    if asked.plan:
        plans = [plan(trial, epsilon) for trial in TRIALS for epsilon in trial.epsilons]
        PLANS.write_text(json.dumps(plans, indent=1) + "\n", encoding="utf-8")
        return
    todo = missing(TRIALS, SAVED, asked)
    work_off(lambda job: measure(job[0], job[1], job[2], asked.data), todo, SAVED, asked.jobs)
    print(table(read(PLANS), read(SAVED)))


if __name__ == "__main__":
    main()
