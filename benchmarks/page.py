"""The tables of docs/benchmarks.md, made from the figures in benchmarks/results.

Each stands between two marks, `<!-- table: NAME -->` and `<!-- end -->`; what is written around
them stays. A test compares page and figures.

    python benchmarks/page.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
Figures = Mapping[str, Any]
Rows = Iterable[Iterable[object]]


def table(heads: Iterable[str], rows: Rows) -> str:
    """A table in Markdown."""
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)


def peers(found: Figures) -> str:
    """Speed relative to the tutorial's loop."""
    heads = ("", "first order", "exact MAML")
    first, exact = found["first"]["speed"], found["exact"]["speed"]
    names = list(dict.fromkeys([*first, *exact]))
    return table(heads, ([name, first.get(name, ""), exact.get(name, "")] for name in names))


def memory(found: Figures) -> str:
    """MB that exact MAML takes."""
    return table(
        ("exact MAML", "extra memory, MB"),
        ([way, f"{size:.0f}"] for way, size in found["memory_mb"].items()),
    )


def together(found: Figures) -> str:
    """Speed of many tasks at once over one after the other."""
    heads = ("network", "coordinates", "tasks", *KINDS.values())
    rows = (
        [
            one["config"].removeprefix("configs/").replace("client.model=", ""),
            f"{one['dim']:,}",
            one["tasks"],
            *(f"{one[kind]['median']:.2f}" for kind in KINDS),
        ]
        for one in found["cases"]
    )
    return table(heads, rows)


KINDS = {
    "training": "training (FOMAML, 5 steps)",
    "noised": "the same, noised",
    "adaptation": "adaptation (10 steps)",
}


def ghost(found: Figures) -> str:
    """Speed of a private sum of an adapter."""
    names = {
        "vectors": "a vector, below a linear head",
        "sequences": "a sequence of seven, as in the default run",
    }
    heads = ("a record is", "without its gradient (`privacy/ghost.py`)", "`torch.func` vmap")
    speeds = [(words, found[key]["speed"]) for key, words in names.items()]
    return table(heads, ([words, s["ghost"], s["vmap"]] for words, s in speeds))


def fused(found: Figures) -> str:
    """Speed of first-order gradients relative to the tutorial's loop."""
    names = {
        "tutorial": "a copy of the module and `torch.optim.SGD`, as tutorials write it",
        "loop": "`server.inner: loop`",
        "fused": "`server.inner: fused`",
    }
    speed = found["first order"]["speed"]
    return table(("", "speed"), ([words, speed[key]] for key, words in names.items()))


def private(found: Figures) -> str:
    """Speed of a private sum of a convolutional network relative to Opacus's hooks."""
    names = {
        "hooks": "Opacus's hooks, exact clipping",
        "layers": "Opacus's rules without hooks (`privacy/record_gradients.py`), exact clipping",
        "opacus": "Opacus's hooks and its optimizer, whose clipping is not exact",
        "fused": "`server.inner: fused`, exact clipping",
    }
    few, many = (found[f"private, {n}"]["speed"] for n in (25, 75))
    rows = ([words, few[key], many[key]] for key, words in names.items())
    return table(("records", "25", "75"), rows)


def overhead(found: Figures) -> str:
    """An engine's round over the bare inner loops."""
    inside, flower = found["inprocess"], found["flower"]
    low, high = min(inside["ratios"]), max(inside["ratios"])
    spread = (
        f"{inside['ratio_median']:.2f} ({len(inside['ratios'])} rounds, {low:.2f} to {high:.2f})"
    )
    return table(
        (f"{found['round']}, {found['network']}", "ratio to the bare inner loops"),
        [
            ("in-process engine", spread),
            ("`flower` engine after start-up", f"{flower['ratio_of_medians']:.2f}"),
        ],
    )


def scale(found: Figures) -> str:
    """Seconds a hospital by how many there are."""
    return grown(found["runs"], "hospitals", "hospitals", "time a hospital, relative")


def records(found: Figures) -> str:
    """Seconds a record by how many a hospital has."""
    return grown(found["records"], "records", "records of a hospital", "time a record, relative")


def grown(runs: list[Figures], count: str, words: str, relative: str) -> str:
    """The last round of runs with more and more of something, beside the first run."""
    base = runs[0]["rounds"][-1] / runs[0][count]
    return table(
        (words, "seconds of a round", relative, "server, MB", "workers, MB"),
        (
            [
                f"{run[count]:,}",
                f"{run['rounds'][-1]:.2f}",
                f"{run['rounds'][-1] / run[count] / base:.2f}",
                f"{run['server_mb']:.0f}",
                f"{sum(run['workers_mb']):.0f}",
            ]
            for run in runs
        ),
    )


def profiled(found: Figures) -> str:
    """Shares of the default run's time."""
    rows = ([name, f"{100 * share:.1f} %"] for name, share in found["shares"].items())
    return table((f"{found['seconds']:.0f} seconds with one worker", "share of the time"), rows)


TABLES: dict[str, tuple[str, Callable[[Figures], str]]] = {
    "peers": ("peers.json", peers),
    "memory": ("peers.json", memory),
    "together": ("together.json", together),
    "ghost": ("ghost.json", ghost),
    "fused": ("fused.json", fused),
    "private": ("fused.json", private),
    "overhead_64": ("overhead-64.json", overhead),
    "overhead_16": ("overhead-16.json", overhead),
    "scale": ("scale.json", scale),
    "records": ("scale.json", records),
    "profiled": ("profiled.json", profiled),
}
"""Each table of the page: its figures, and what makes it."""


def made(page: str) -> str:
    """The page with today's tables. KeyError: it marks a table that nothing makes."""

    def put(match: re.Match[str]) -> str:
        file, make = TABLES[match[2]]
        return match[1] + make(json.loads((HERE / "results" / file).read_text())) + match[3]

    return MARKED.sub(put, page)


if __name__ == "__main__":
    PAGE.write_text(made(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
