"""What a body from made-up records buys other hospitals, with and without private training after.

Two bodies are trained once, on phantoms and on made-up beats. Each case is then run from its body
and from a random one, with three seeds: the gains and offsets of the normalisation are trained
under record-level privacy at epsilon 8, beside the same without privacy, the untrained start and a
fit from scratch, on the same episodes at unseen hospitals. On Omniglot only the start is measured
(its row "private" is trained on next to nothing and is left out).

    python benchmarks/public_start.py [--data FOLDER] [--bodies FOLDER] [--jobs 2]
    python benchmarks/public_start.py --table     # only print what is saved, as Markdown
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from epsilon import Result, line, metaward, read, run_of, work_off

SAVED = Path(__file__).parent / "results" / "public_start.json"
SEEDS = (7, 8, 9)
STARTED = "configs/medmnist-start.yaml"
BODIES = {"phantoms": "configs/phantom-body.yaml", "beats": "configs/beats.yaml"}
OMNIGLOT = (
    "client.tasks={source: omniglot, split: published, ways: 5, shots: 1, queries: 5, "
    "train_shots: 10, train_queries: 10}",
    "server.evaluation.final_episodes=600",
    "server.evaluation.baselines=[untrained, scratch]",
    "privacy={mechanism: none}",
    "client.tasks_per_round=1",
    "server.rounds=1",
)
ECG = (
    "client.tasks={source: ecg, hospitals: 6, unseen: 6, ways: 3, shots: 5, queries: 10}",
    "server.evaluation.final_episodes=100",
)
CASES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "medmnist": ("MedMNIST, breast and pneumonia, 2-way 5-shot", "phantoms", ()),
    "omniglot": ("Omniglot, published split, 5-way 1-shot", "phantoms", OMNIGLOT),
    "ecg": ("ECG, 3-way 5-shot", "beats", ECG),
}
"""Name -> title, body, and the keys that are set."""


def body_file(name: str, bodies: Path) -> Path:
    """The body of this name, trained where it is not there yet."""
    folder = bodies / name
    if not (folder / "body.safetensors").is_file():
        metaward("run", BODIES[name], "--out", str(folder))
    return folder / "body.safetensors"


def measure(case: str, started: bool, seed: int, data: str | None, bodies: Path) -> Result:
    """One run."""
    _, name, sets = CASES[case]
    start = str((bodies / name / "body.safetensors").resolve()) if started else "null"
    own = (f"seed={seed}", "server.workers=1", f"server.start={start}")
    done = run_of(STARTED, [*sets, *own]).result(data)
    return {"case": f"{case}, {name if started else 'random'}", "epsilon": 8.0, "seed": seed} | done


def lines(results: Sequence[Result]) -> Iterator[str]:
    """One line a learner; the row from scratch, which starts nowhere, once."""
    for case, (title, body, sets) in CASES.items():
        for start in ("random", body):
            own = [r for r in results if r["case"] == f"{case}, {start}"]
            for place in range(len(own[0]["rows"]) if own else 0):
                rows = [r["rows"][place] for r in own]
                scratch = "scratch" in rows[0]["learner"]
                if (scratch and start == body) or (place == 0 and sets is OMNIGLOT):
                    continue
                name = rows[0]["learner"].removeprefix("embedding, ")
                name = "trained privately" if place == 0 else name
                yield line(f"{title} | {'' if scratch else start} | {name}", rows, "")[:-2]


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
        for case, (_, name, _) in CASES.items()
        for started in (True, False)
        for seed in SEEDS
        if (f"{case}, {name if started else 'random'}", seed) not in done and not asked.table
    ]
    for name in {CASES[case][1] for case, started, _ in todo if started}:
        body_file(name, asked.bodies)
    work_off(lambda job: measure(*job, asked.data, asked.bodies), todo, SAVED, asked.jobs)
    print(
        "| task | start | learner | accuracy, % | seeds | worst hospital |",
        *lines(read(SAVED)),
        sep="\n",
    )


if __name__ == "__main__":
    main()
