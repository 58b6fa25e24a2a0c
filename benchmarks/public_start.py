"""What a body from made-up records buys other hospitals, before and after private training.

Two bodies are trained once, on phantoms and on made-up beats. Unseen hospitals then adapt networks
that start from them and from random bodies, on the same episodes, with three seeds. On MedMNIST the
gains and offsets of the normalisation are also trained under record-level privacy at epsilon 8, in
three rounds (configs/medmnist-start.yaml).

    python benchmarks/public_start.py [--data FOLDER] [--bodies FOLDER] [--jobs 2]
    python benchmarks/public_start.py --table     # only print what is saved, as Markdown
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from epsilon import Result, line, metaward, read, run_of, work_off

SAVED = Path(__file__).parent / "results" / "public_start.json"
SEEDS = (7, 8, 9)
CONFIG = "configs/medmnist-start.yaml"
BODIES = {"phantoms": "configs/phantom-body.yaml", "beats": "configs/beats.yaml"}
UNTRAINED = (
    "privacy={mechanism: none}",
    "client.tasks_per_round=1",
    "server.rounds=1",
    "server.evaluation.baselines=[untrained]",
)
"""One round of one task, whose result is not looked at."""
OMNIGLOT = (
    "client.tasks={source: omniglot, split: published, ways: 5, shots: 1, queries: 5}",
    "server.evaluation.final_episodes=600",
)
ECG = ("client.tasks={source: ecg, hospitals: 6, unseen: 6, ways: 3, shots: 5, queries: 10}",)


@dataclass(frozen=True)
class Case:
    """Tasks, the body that they are started from, and the row of the table that is looked at."""

    title: str
    body: str
    sets: tuple[str, ...]
    row: int = 1


CASES = {
    "medmnist": Case("MedMNIST, breast and pneumonia, 2-way 5-shot", "phantoms", UNTRAINED),
    "omniglot": Case("Omniglot, 5-way 1-shot", "phantoms", (*UNTRAINED, *OMNIGLOT)),
    "ecg": Case("ECG, 3-way 5-shot", "beats", (*UNTRAINED, *ECG)),
    "medmnist-trained": Case(
        "MedMNIST, trained privately at epsilon 8",
        "phantoms",
        ("server.evaluation.baselines=[]",),
        0,
    ),
}


def name_of(case: str, started: bool) -> str:
    """The name under which a result is kept."""
    return f"{case}, {CASES[case].body if started else 'random'}"


def train_bodies(bodies: Path) -> None:
    """The bodies that are not in the folder yet."""
    for name, config in BODIES.items():
        if not (bodies / name / "body.safetensors").is_file():
            metaward("run", config, "--out", str(bodies / name))


def measure(case: str, started: bool, seed: int, data: str | None, bodies: Path) -> Result:
    """One run."""
    file = (bodies / CASES[case].body / "body.safetensors").resolve()
    own = (f"seed={seed}", "server.workers=1", f"server.start={file if started else 'null'}")
    done = run_of(CONFIG, [*CASES[case].sets, *own]).result(data)
    return {"case": name_of(case, started), "epsilon": 8.0, "seed": seed} | done


def lines(results: Sequence[Result]) -> Iterator[str]:
    """One line for each case and start."""
    for key, case in CASES.items():
        for started in (False, True):
            own = [r for r in results if r["case"] == name_of(key, started)]
            if own:
                start = case.body if started else "random"
                rows = [r["rows"][case.row] for r in own]
                yield line(f"{case.title} | {start}", rows, "").removesuffix("  |") + " |"


def main() -> None:
    """Measure what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("--data", help="folder of the real data")
    parser.add_argument("--bodies", type=Path, default=Path("results/bodies"))
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one core each")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    asked = parser.parse_args()
    done = {(r["case"], r["seed"]) for r in read(SAVED)}
    todo = [
        (case, started, seed)
        for case in CASES
        for started in (True, False)
        for seed in SEEDS
        if (name_of(case, started), seed) not in done and not asked.table
    ]
    if todo:
        train_bodies(asked.bodies)
    work_off(
        lambda job: measure(job[0], job[1], job[2], asked.data, asked.bodies),
        todo,
        SAVED,
        asked.jobs,
    )
    head = "| tasks | start | accuracy after adaptation, % | seeds | worst hospital |"
    print(head, "|---|---|---|---|---|", *lines(read(SAVED)), sep="\n")


if __name__ == "__main__":
    main()
