"""What a model that may be published is worth at new hospitals, by epsilon.

The unseen hospitals of a finished run on phantoms adapt to their three most frequent findings, as
`metaward adapt --private --shots all` does, and are judged on held-out patients:

    metaward run --out results/private
    python benchmarks/private_adaptation.py results/private [--hospitals N] [--draws 3]
    python benchmarks/private_adaptation.py --table   # only print what is saved, as Markdown
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from metaward.client.tasks.base import Hospital
from metaward.privacy import Sums
from metaward.server.adapting.adapt import Wish, splits_of
from metaward.server.adapting.judge import judge
from metaward.server.adapting.model import setting_for
from metaward.server.adapting.private_ways import PrivateWays
from metaward.server.adapting.records import Labelled, read_labelled
from metaward.server.adapting.scores import scores_of
from metaward.server.adapting.terms import mechanism_of
from metaward.server.adapting.ways import bench_of
from metaward.server.evaluations.finished import Finished, open_learned

SAVED = Path(__file__).parent / "results" / "private_adaptation.json"
CLASSES = 3


def wards(finished: Finished, most: int) -> Iterator[Labelled]:
    """The unseen hospitals, each with at most so many records of its most frequent classes."""
    run = finished.run
    for index, seat in enumerate(run.client.tasks.roster()):
        if seat.role == "unseen":
            hospital = run.client.tasks.hospital(index, None, run.seed)
            with TemporaryDirectory() as folder:
                write(Path(folder), hospital, most)
                yield read_labelled(run, Path(folder))


def write(folder: Path, hospital: Hospital, most: int) -> None:
    """The chosen records as records.npz, with the patients that they are of."""
    frequent = sorted(hospital.by_class.values(), key=len, reverse=True)[:CLASSES]
    rows = np.concatenate([own[:most] for own in frequent])
    x, y = hospital.view(hospital.x[rows]), hospital.y[rows]
    names = {"patient": hospital.patients[rows], "id": hospital.ids[rows]}
    np.savez(folder / "records.npz", x=x, y=y, **names)


def rows_at(finished: Finished, held: Labelled, mechanism: Sums, draws: int) -> Iterator[Any]:
    """Each way's accuracy at one hospital."""
    wish = Wish(None, finished.run.client.inner.adapt_steps, draws)
    bench = bench_of(setting_for(finished.run, len(held.classes)), held)
    ways = list(PrivateWays(finished, bench, held, mechanism, seed=0).of(wish.steps))
    accuracy = scores_of(finished.run.client.tasks.spec().kind, wish.specificity)[:1]
    for row in judge(held, splits_of(held, wish), ways, accuracy).rows:
        yield {"way": row.name, "accuracy": 100 * row.scores[accuracy[0].name].mean}


def measured(
    path: Path, epsilons: list[float], most: int, draws: int, hospitals: int | None
) -> list[dict[str, Any]]:
    """A row for each hospital, epsilon and way."""
    finished, found = open_learned(path), list[dict[str, Any]]()
    for number, held in islice(enumerate(wards(finished, most)), hospitals):
        for epsilon in epsilons:
            mechanism = replace(mechanism_of(finished, {}), epsilon=epsilon)
            for row in rows_at(finished, held, mechanism, draws):
                found.append({"hospital": number, "records": len(held.y), "epsilon": epsilon} | row)
                print(found[-1], flush=True)
    return found


def table(found: list[dict[str, Any]]) -> Iterator[str]:
    """Markdown: the mean over the hospitals, and the worst one."""
    yield "| epsilon | way | accuracy, % | worst hospital |\n|---|---|---:|---:|"
    for epsilon in dict.fromkeys(row["epsilon"] for row in found):
        own = [row for row in found if row["epsilon"] == epsilon]
        for way in dict.fromkeys(row["way"] for row in own):
            values = [row["accuracy"] for row in own if row["way"] == way]
            yield f"| {epsilon:g} | {way} | {np.mean(values):.1f} | {min(values):.1f} |"


def main() -> None:
    """Measure and save, or print what is saved."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", nargs="?", type=Path)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[8.0, 1.0])
    parser.add_argument("--records", type=int, default=375, help="of each class")
    parser.add_argument("--draws", type=int, default=3, help="splits of each hospital")
    parser.add_argument("--hospitals", type=int, help="only the first ones")
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    if not asked.table:
        sizes = (asked.records, asked.draws, asked.hospitals)
        found = measured(asked.result, asked.epsilons, *sizes)
        SAVED.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print("\n".join(table(json.loads(SAVED.read_text(encoding="utf-8")))))


if __name__ == "__main__":
    main()
