"""The picture of a run: the score of theta over the rounds, and each unseen hospital's score.

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

FEW = 3
"""With fewer evaluated rounds than this, points are drawn, because a line can have no length."""


def draw_curve(run: Sim, folder: Folder, table: ScoreTable) -> None:
    """Write curve.png: the score over rounds on the left, hospital by hospital on the right."""
    with picture(folder.path / "curve.png", height=5.0) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(3, 4))
        _rounds(left, folder, table)
        judges = run.server.evaluation.judges.capitalize()
        left.set_title(f"{judges} hospitals, while theta is learned")
        _hospitals(right, table)
        known = left.get_legend_handles_labels()
        figure.legend(*known, loc="outside lower center", ncols=4, fontsize=8, frameon=False)


def _rounds(axes: Axes, folder: Folder, table: ScoreTable) -> None:
    scale = table.score.scale
    points = [row for row in folder.rows() if "after" in row]
    if points:
        _watched(axes, points, table)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _validation(axes, folder, scale)
    for row, colour in list(zip(table.rows, COLOURS * 9, strict=False))[1:]:
        axes.axhline(scale * row.after, color=colour, linewidth=1, label=row.learner)
    axes.set_xlabel("round")
    axes.set_ylabel(f"query {table.score.label}")


def _watched(axes: Axes, points: Sequence[Mapping[str, Any]], table: ScoreTable) -> None:
    """The unseen hospitals' scores; there are none where they do not judge."""
    scale, x = table.score.scale, [row["round"] for row in points]
    own = table.rows[0].learner
    dot = "o" if len(points) < FEW else None
    after, low, high = ([scale * row[key] for row in points] for key in ("after", "low", "high"))
    axes.plot(x, after, marker=dot, color=COLOURS[0], label=f"{own}, adapted")
    axes.fill_between(x, low, high, color=COLOURS[0], alpha=0.15, linewidth=0)
    before = [scale * row["before"] for row in points]
    axes.plot(x, before, ":", color=COLOURS[0], label="not adapted")
    if dot:
        axes.set_xticks(x)
        axes.set_xlim(x[0] - 1, x[-1] + 1)


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
