"""A comparison for people: its tables on a terminal and in Markdown have the same cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from metaward.options import show
from metaward.server.comparing.compare import ABSENT, Comparison, TwoRuns, score_of
from metaward.server.comparing.side import Side
from metaward.server.evaluations.report import p_cells
from metaward.server.terminal import Piece, line, table

RUNS = (
    *("run", "learner", "before", "after", "95 %, episodes", "worst hospital"),
    *("epsilon", "spent", "rounds", "seconds"),
)
PAIRS = ("run", "ahead of", "by", "95 %, hospitals", "p", "p, Holm", "test")
LEGEND = (
    "95 %, episodes: of each run's score, its hospitals taken as fixed. 95 %, hospitals: a "
    "t-interval of the paired difference, the hospitals taken as a sample. p, Holm: corrected for "
    "all pairs. One training each: another seed gives other numbers.",
    "epsilon: the most that a run may spend on any one unit; spent: the most that it did spend. "
    "seconds: training of the run's own learner alone.",
)

Grid = tuple[Sequence[str], list[list[str]]]


def grids(found: Comparison) -> Iterator[Grid]:
    """Head and rows of each table that has rows: differing keys, runs, pairs."""
    keys = [[key, *map(_value, values)] for key, values in found.keys.items()]
    yield from [(("differs", *(one.name for one in found.sides)), keys)] if keys else []
    runs = [run_cells(one) for one in found.finished]
    yield from [(RUNS, runs)] if runs else []
    pairs = [_pair_cells(found, pair) for pair in found.pairs if pair.why is None]
    yield from [(PAIRS, pairs)] if pairs else []


def remarks(found: Comparison) -> list[str]:
    """What the tables cannot say: runs that are not finished, pairs that cannot be compared."""
    states = (one for one in found.sides if one.table is None)
    unfinished = [f"{one.name} is {one.status}, not finished: it has no scores" for one in states]
    apart = [f"{p.one} and {p.other} were {p.why}" for p in found.pairs if p.why]
    return unfinished + apart


def pieces(found: Comparison) -> Iterator[Piece]:
    """The comparison on a terminal."""
    for head, rows in grids(found):
        yield table(head, rows)
    yield from map(line, [*remarks(found), *LEGEND])


def markdown(found: Comparison) -> str:
    """The comparison as a page."""
    lines = ["# Runs side by side", ""]
    for head, rows in grids(found):
        first, *rest = ("| " + " | ".join(row) + " |" for row in (list(head), *rows))
        lines += [first, "|" + "---|" * len(head), *rest, ""]
    lines += [f"- {text}" for text in (*remarks(found), *LEGEND)]
    lines += ["", "![](compare.png)"] if found.finished else []
    return "\n".join(lines) + "\n"


def run_cells(one: Side) -> list[str]:
    """A finished run under ``RUNS``."""
    row, score = one.first, score_of(one)
    return [
        one.name,
        row["learner"],
        score.text(row["before"]),
        f"{score.text(row['after'])} ({score.label})",
        f"[{score.text(row['low'])}, {score.text(row['high'])}]",
        f"{score.text(row['worst'])} ({row['worst_hospital']})",
        _number(one.config.get("privacy.epsilon"), "NO PRIVACY"),
        _number(one.spent, "unknown"),
        f"{one.kept} of {one.rounds}",
        f"{one.seconds:.0f}",
    ]


def _value(value: Any) -> str:
    return "-" if value == ABSENT else show(value)


def _number(value: Any, otherwise: str) -> str:
    if value is None:
        return otherwise
    return f"{value:.3g}" if isinstance(value, int | float) else str(value)


def _pair_cells(found: Comparison, pair: TwoRuns) -> list[str]:
    score = score_of(next(one for one in found.finished if one.name == pair.one))
    assert pair.better is not None
    interval, test = pair.hospitals, pair.test
    bounds = [score.signed(v) for v in (interval.low, interval.high)] if interval else []
    return [
        *(pair.one, pair.other, score.signed(pair.better)),
        f"[{', '.join(bounds)}]" if bounds else "one hospital",
        *(p_cells(test) if test else ("", "", "")),
    ]
