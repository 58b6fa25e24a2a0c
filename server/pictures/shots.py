"""The picture of an evaluation: each learner's score over shots, and over adaptation steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes

from metaward.server.evaluations.tables import SizeTable
from metaward.server.pictures.figure import COLOURS, picture
from metaward.server.words import several


def draw_shots(path: Path, tables: Sequence[SizeTable], shots: int, steps: int) -> None:
    """Write the picture of one score's tables.

    On the left is the score over shots after ``steps`` steps, on the right over steps with
    ``shots`` shots; bands are 95 % intervals over episodes.
    """
    with picture(path, height=5.2) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        across = [table for table in tables if table.steps == steps]
        along = [table for table in tables if table.shots == shots]
        _curves(left, across, lambda table: table.shots)
        _curves(right, along, lambda table: table.steps)
        left.set(xlabel="shots", ylabel=f"query {tables[0].score.label}")
        left.set_title(f"After {several(steps, 'step')}")
        right.set(xlabel="steps", title=f"With {several(shots, 'shot')}")
        known = left.get_legend_handles_labels()
        figure.legend(*known, loc="outside lower center", ncols=4, fontsize=8, frameon=False)


def _curves(axes: Axes, tables: Sequence[SizeTable], at: Callable[[SizeTable], int]) -> None:
    """A line and a band for each learner of the first table."""
    axes.set_xticks([at(table) for table in tables])
    for number, learner in enumerate(one.learner for one in tables[0].learners):
        scale, colour = tables[0].score.scale, COLOURS[number % len(COLOURS)]
        rows = [(at(t), one) for t in tables for one in t.learners if one.learner == learner]
        x, y = [x for x, _ in rows], [scale * one.after for _, one in rows]
        low = [scale * one.episodes.low for _, one in rows]
        high = [scale * one.episodes.high for _, one in rows]
        style = ("-", "--", ":")[number // len(COLOURS) % 3]
        axes.plot(x, y, style, marker="o", markersize=3, color=colour, label=learner)
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
