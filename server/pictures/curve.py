"""The picture of a run: the score of theta over the rounds, and each unseen hospital's score.

The curve comes from the few tasks of an evaluation during training, the level lines from the many
of the final table, the run's own learner included: only lines of one kind can be compared. A run
with one evaluation has no curve; there each learner's way from before to after adaptation is drawn.
Where hospitals are set aside for validation, their scores are drawn, too, and the round that they
have chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from metaward.server.evaluate import ScoreTable
from metaward.server.folder import Folder
from metaward.server.pictures.figure import COLOURS, INK, picture
from metaward.sim import Sim

FEW = 10
"""With fewer evaluated rounds than this, they are marked by points."""


def draw_curve(run: Sim, folder: Folder, table: ScoreTable) -> None:
    """Write curve.png: the score over rounds on the left, hospital by hospital on the right."""
    with picture(folder.path / "curve.png", height=5.0) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(3, 4))
        points = [row for row in folder.rows() if "after" in row]
        chosen = [row for row in folder.rows() if "validation" in row]
        if max(len(points), len(chosen)) > 1:
            _rounds(left, run, folder, points, table)
        else:
            _ways(left, table)
        _hospitals(right, table)
        known = left.get_legend_handles_labels()
        figure.legend(*known, loc="outside lower center", ncols=4, fontsize=8, frameon=False)


def _rounds(
    axes: Axes, run: Sim, folder: Folder, points: Sequence[Mapping[str, Any]], table: ScoreTable
) -> None:
    scale, own = table.score.scale, table.rows[0].learner
    if points:
        _watched(axes, points, table)
    _validation(axes, folder, scale)
    for row, colour in zip(table.rows, COLOURS * 9, strict=False):
        style, label = ("--", f"{own}, final") if row is table.rows[0] else ("-", row.learner)
        axes.axhline(scale * row.after, color=colour, linestyle=style, linewidth=1, label=label)
    few, many = run.server.evaluation.episodes, table.episodes
    axes.set_xlabel(f"round (curve: {few} tasks of each hospital; level lines: {many}, final)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(f"query {table.score.label}")
    judges = run.server.evaluation.judges.capitalize()
    axes.set_title(f"{judges} hospitals, while theta is learned")


def _watched(axes: Axes, points: Sequence[Mapping[str, Any]], table: ScoreTable) -> None:
    """The unseen hospitals' scores; there are none where they do not judge."""
    scale, own = table.score.scale, table.rows[0].learner
    x: list[Any] = [row["round"] for row in points]
    before, after, low, high = (
        [scale * row[key] for row in points] for key in ("before", "after", "low", "high")
    )
    dot = "o" if len(points) < FEW else None
    axes.plot(x, after, marker=dot, color=COLOURS[0], label=f"{own}, adapted")
    axes.fill_between(x, low, high, color=COLOURS[0], alpha=0.15, linewidth=0)
    axes.plot(x, before, ":", marker=dot, color=COLOURS[0], label="not adapted")


def _ways(axes: Axes, table: ScoreTable) -> None:
    """From the score before adaptation to that after it, for each learner of the final table."""
    scale = table.score.scale
    for y, (row, colour) in enumerate(zip(table.rows, COLOURS * 9, strict=False)):
        before, after, low, high = (scale * v for v in (row.before, row.after, row.low, row.high))
        axes.plot([before, after], [y, y], color=colour, linewidth=2, label=row.learner)
        axes.plot(before, y, "o", color=colour, markerfacecolor="white")
        axes.plot(after, y, "o", color=colour)
        axes.plot([low, high], [y, y], color=colour, linewidth=7, alpha=0.25)
    axes.set_yticks(range(len(table.rows)), [row.learner for row in table.rows])
    axes.invert_yaxis()
    axes.set_xlabel(f"query {table.score.label}")
    axes.set_title(f"Before (hollow) and after adaptation, {table.episodes} tasks each")


def _validation(axes: Axes, folder: Folder, scale: float) -> None:
    """The validation hospitals' scores of theta, and the round that they have chosen, if any."""
    rows = [row for row in folder.rows() if row.get("validation")]
    if not rows:
        return
    after = [scale * row["validation"]["after"] for row in rows]
    axes.plot([row["round"] for row in rows], after, "--x", color=INK, label="at validation")
    if "best" in rows[-1]:
        best = rows[-1]["best"]
        axes.axvline(best, color=INK, linewidth=1, alpha=0.4, label=f"kept: round {best}")


def _hospitals(axes: Axes, table: ScoreTable) -> None:
    names, scale = list(table.rows[0].hospitals), table.score.scale
    for place, (row, colour) in enumerate(zip(table.rows, COLOURS * 9, strict=False)):
        y = [i + 0.8 * (place + 0.5) / len(table.rows) for i in range(len(names))]
        values = [scale * row.hospitals[name] for name in names]
        axes.barh(y, values, height=0.8 / len(table.rows), color=colour, label=row.learner)
    axes.set_yticks([i + 0.4 for i in range(len(names))], names)
    axes.invert_yaxis()
    axes.set_xlabel(f"query {table.score.label}")
    axes.set_title("After adaptation, hospital by hospital")
