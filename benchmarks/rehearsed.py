"""Are rehearsals on public tasks right about the private ones?

``metaward privacy plan --public FILE --rehearse N`` carries a run out on public tasks and says from
the share of the gain that privacy leaves there whether the run can work. Here the public tasks are
made up (phantoms, beats, sinusoids) with as many hospitals and records as the private ones, which
are other hospitals, other modalities or other data altogether. First

    python benchmarks/rehearsed.py --plan --jobs 2   # the forecasts, from public tasks alone

(the file was committed before anything below was run); then

    python benchmarks/rehearsed.py [--data FOLDER] [--only NAME ...] [--jobs 2]
    python benchmarks/rehearsed.py --table           # only print what is saved, as Markdown

The rule is that of benchmarks/foretold.py: "can work" is right where privacy leaves at least half
of the gain of training, "cannot work" where it leaves at most a quarter, "doubtful" promises
neither; where the gain's 95 % t-interval over three seeds reaches zero, the row tests nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from epsilon import Result, metaward, read, run_of, work_off
from foretold import SEEDS, arguments, missing, right, scale

from metaward import sim

RESULTS = Path(__file__).parent / "results"
PLANS, SAVED = RESULTS / "rehearsed_plan.json", RESULTS / "rehearsed.json"
REHEARSED, PUBLIC_SEED = 1, 990
IMAGES, NUMBERS = Path("configs/beats.yaml"), Path("configs/sine.yaml")
"""Complete configurations; of a public one only the tasks and the seed are used."""
BEATS = "client.tasks={source: beats, hospitals: 6, unseen: 6, records: 6000, patients: 4}"
SINE = "client.tasks={source: sine, hospitals: 10, unseen: 5, functions: 20, queries: 10}"
STROKES = (
    "client.tasks={source: phantom, hospitals: 50, unseen: 4, records: 480, ways: 5, shots: 1, "
    "queries: 5, findings: 16, novel: 0, held: 16, skew: 0, train_shots: 10, train_queries: 10}"
)
PAIRS = (
    "client.tasks={source: phantom, hospitals: 6, unseen: 4, records: 870, ways: 2, findings: 2, "
    "novel: 0, held: 2, modalities: [ultrasound, xray]}"
)
SOFT = (
    "client.tasks={source: phantom, hospitals: 12, unseen: 6, records: %d, train_shots: 10, "
    "train_queries: 10, modalities: [ct, mri]}"
)
HARD = SOFT.replace("ct, mri", "xray, ultrasound")
MEDMNIST = (
    "client.model={network: scatter}",
    "client.inner={algorithm: metric, lr: 0.01, adapt_steps: 20, shrink: 1.0}",
    "client.tasks_per_round=1000",
    "client.schedule=passes",
    "server.rounds=1",
    "strategies.outer.schedule=constant",
    "privacy={mechanism: sums, unit: record, delta: 1.0e-5, clip_norm: 4.0, clip_features: 6.0}",
)
FOMAML = (
    SINE,
    "client.inner={algorithm: fomaml, lr: 0.002, steps: 1, adapt_steps: 5}",
    "client.tasks_per_round=1000",
    "client.schedule=passes",
    "strategies.outer={optimizer: adam, lr: 0.01}",
    "server.rounds=40",
)


def sums(clip: float, features: float = 6.0) -> str:
    """The mechanism of records with these clip norms."""
    return (
        "privacy={mechanism: sums, unit: record, delta: 1.0e-5, "
        f"clip_norm: {clip}, clip_features: {features}}}"
    )


@dataclass(frozen=True)
class Trial:
    """A private configuration with keys set, and the public tasks on which it is rehearsed."""

    name: str
    title: str
    config: str
    public: str
    options: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    epsilons: tuple[float, ...] = (8, 1)


ECG = ("configs/ecg-record.yaml", BEATS)
NO_CAP = "strategies.max_norm=1000000.0"
"""Added to the first trial after its forecast: at epsilon 0.1 noise made updates longer than the
cap, the round was refused, and nothing was measured."""
BEAT_RECORDS = ("--records", "6000")
TRIALS = (
    Trial("ecg", "ECG, record", *ECG, (NO_CAP,), BEAT_RECORDS, (8, 1, 0.1)),
    Trial("ecg-short", "ECG, record, C 1 and 6", *ECG, (sums(1, 6),), BEAT_RECORDS, (8,)),
    Trial(
        "ecg-long",
        "ECG, record, C 2,000 and 400",
        *ECG,
        (sums(2e3, 400), NO_CAP),
        BEAT_RECORDS,
    ),
    Trial(
        "omniglot",
        "Omniglot, record",
        "configs/omniglot-private.yaml",
        STROKES,
        (),
        ("--records", "480"),
        (8, 1, 0.25),
    ),
    Trial("medmnist", "MedMNIST", "configs/medmnist.yaml", PAIRS, MEDMNIST, ("--records", "870")),
    Trial("sine-short", "sinusoids, FOMAML, C 1", "configs/sine.yaml", SINE, (*FOMAML, sums(1))),
    Trial("sine", "sinusoids, FOMAML, C 20", "configs/sine.yaml", SINE, (*FOMAML, sums(20))),
    Trial(
        "adapter", "phantoms, adapter, 2,000", "sim.yaml", SOFT % 2000, (HARD % 2000,), (), (8, 0.5)
    ),
    Trial("adapter-few", "phantoms, adapter, 600", "sim.yaml", SOFT % 600, (HARD % 600,)),
)


def sets(trial: Trial, epsilon: float) -> list[str]:
    """The changed keys."""
    return [*trial.options, f"privacy.epsilon={epsilon}", "server.workers=1"]


def plan(job: tuple[Trial, float]) -> Result:
    """What the rehearsal says of a trial; no private record is opened."""
    trial, epsilon = job
    with TemporaryDirectory() as place:
        file = Path(place) / "public.yaml"
        base = NUMBERS if trial.public is SINE else IMAGES
        public = sim.load(base, [trial.public, f"seed={PUBLIC_SEED}"])
        file.write_text(json.dumps(public.mapping()))
        words = ("--public", str(file), "--rehearse", str(REHEARSED), "--json")
        run = run_of(trial.config, sets(trial, epsilon))
        told = json.loads(
            metaward("privacy", "plan", run.config, *run.options, *trial.known, *words)
        )
    kept = {key: told[key] for key in ("verdict", "ratio", "rehearsal")}
    return {"trial": trial.name, "epsilon": epsilon, "seed": PUBLIC_SEED} | kept


def measure(trial: Trial, epsilon: float, seed: int, data: str | None) -> Result:
    """The result of one run on the private tasks, its baselines with the largest epsilon alone."""
    beside = "[no_privacy, untrained]" if epsilon == max(trial.epsilons) else "[]"
    own = [f"seed={seed}", "server.evaluation.scratch_steps=0"]
    chosen = [*sets(trial, epsilon), *own, f"server.evaluation.baselines={beside}"]
    done = run_of(trial.config, chosen).result(data)
    return {"trial": trial.name, "epsilon": epsilon, "seed": seed} | done


def lines(plans: Sequence[Result], results: Sequence[Result]) -> Iterator[str]:
    """One line for each forecast whose runs are done."""
    titles = {trial.name: trial for trial in TRIALS}
    for told in plans:
        trial, epsilon = titles[told["trial"]], told["epsilon"]
        own = [r for r in results if r["trial"] == trial.name]
        best = [r for r in own if r["epsilon"] == max(trial.epsilons)]
        here = np.array([r["rows"][0]["after"] for r in own if r["epsilon"] == epsilon])
        if len(here) < len(SEEDS) or len(best) < len(SEEDS):
            continue
        none, untrained = (np.array([r["rows"][k]["after"] for r in best]) for k in (1, 2))
        share = float((here - untrained).mean() / (none - untrained).mean())
        scores = " | ".join(f"{scale(x.mean())}" for x in (untrained, here, none))
        foretold = told["rehearsal"]["share"]
        there = "no gain" if foretold is None else f"{100 * foretold:.0f} %"
        yield (
            f"| {trial.title} | {epsilon:g} | {there}: {told['verdict']} | {scores} | "
            f"{100 * share:.0f} % | {right(told['verdict'], share, none - untrained)} |"
        )


def table(plans: Sequence[Result], results: Sequence[Result]) -> str:
    """All forecasts as Markdown."""
    head = "| run | epsilon | rehearsal | untrained | private | no privacy | share left | it was |"
    return "\n".join([head, "|---|---|---|---|---|---|---|---|", *lines(plans, results)])


def main() -> None:
    """Rehearse, or measure what is missing, then print the table."""
    asked = arguments(__doc__, TRIALS)
    if asked.plan:
        told = {(p["trial"], p["epsilon"]) for p in read(PLANS)}
        jobs = [(t, e) for t in TRIALS for e in t.epsilons if (t.name, e) not in told]
        work_off(plan, jobs, PLANS, asked.jobs)
        return
    todo = missing(TRIALS, SAVED, asked)
    work_off(lambda job: measure(job[0], job[1], job[2], asked.data), todo, SAVED, asked.jobs)
    print(table(read(PLANS), read(SAVED)))


if __name__ == "__main__":
    main()
