"""A sweep for people: its table on a terminal and in Markdown has the same cells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from metaward.options import compact, show
from metaward.server.sweeping.cost import CHOOSING
from metaward.server.sweeping.outcome import SweepOutcome, SweepRow
from metaward.server.terminal import BAD, FAINT, GOOD, Piece, line, table

LEGEND = (
    "Scores after adaptation, at the hospitals for validation; the unseen ones were never asked. "
    "95 %: a t-interval of the mean over seeds. worst hospital: of any seed. seconds: training of "
    "one trial. The best of many looks better than it is: the unseen hospitals judge it in a run "
    "of its own."
)


def head(found: SweepOutcome) -> list[str]:
    """The names of the columns."""
    score = f"score ({found.score.label})"
    keys = found.plan.sweep.varied
    return ["", *keys, "seeds", score, "95 %, seeds", "worst hospital", "rounds", "seconds"]


def cells(row: SweepRow) -> list[str]:
    """A combination under ``head``."""
    values = [value_text(value) for value in row.combination.values.values()]
    first = [str(row.combination.number), *values, f"{len(row.done)} of {len(row.outcomes)}"]
    if not row.done:
        return [*first, "failed", "", "", "", ""]
    bounds, score, (hospital, worst) = row.interval, row.score, row.worst
    interval = f"[{score.text(bounds.low)}, {score.text(bounds.high)}]" if bounds else "one seed"
    return [
        *first,
        score.text(row.mean),
        interval,
        f"{score.text(worst)} ({hospital})",
        f"{row.rounds:g}",
        f"{row.seconds:.1f}",
    ]


def value_text(value: Any) -> str:
    """A value of a varied key, as yaml spells it."""
    return compact(value) if isinstance(value, dict | list) else show(value)


def remarks(found: SweepOutcome) -> Iterator[str]:
    """Trials that failed, with the reason of each."""
    for one in found.failed:
        yield f"{one.trial.name} has no result: {one.why}"


def choice(found: SweepOutcome, best: Path) -> str:
    """What was chosen, and how it is run."""
    if found.best is None:
        return "No combination is finished with every seed, so none is chosen."
    return f"Best: {found.best.combination.number}. Run it: metaward run {best}"


def pieces(found: SweepOutcome, best: Path) -> Iterator[Piece]:
    """The sweep on a terminal; ``best`` is the file with the best configuration."""
    columns = head(found)
    yield table(columns, map(cells, found.rows), right=columns[-5:])
    yield from (line(text, BAD) for text in remarks(found))
    yield from (line(text, FAINT) for text in (LEGEND, found.cost.text, CHOOSING))
    yield line(choice(found, best), GOOD if found.best else BAD)


def markdown(found: SweepOutcome, best: Path) -> str:
    """The sweep as a page."""
    rows = [head(found), *map(cells, found.rows)]
    first, *rest = ("| " + " | ".join(_escaped(row)) + " |" for row in rows)
    lines = [f"# Sweep of {found.plan.base.name}", "", first, "|" + "---|" * len(rows[0]), *rest]
    lines += ["", choice(found, best), ""]
    lines += [f"- {text}" for text in (*remarks(found), LEGEND, found.cost.text, CHOOSING)]
    lines += ["", "![](sweep.png)"] if any(row.done for row in found.rows) else []
    return "\n".join(lines) + "\n"


def _escaped(row: list[str]) -> list[str]:
    return [cell.replace("|", "\\|") for cell in row]
