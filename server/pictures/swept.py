"""The picture of a sweep: the score of every combination over each key that was varied."""

from __future__ import annotations

from math import ceil
from pathlib import Path

from matplotlib.axes import Axes

from metaward.server.pictures.figure import COLOURS, picture
from metaward.server.sweeping.outcome import SweepOutcome, SweepRow
from metaward.server.sweeping.text import value_text

ACROSS, LARGE_RATIO, LONGEST = 3, 20.0, 24
"""Panels side by side; from which ratio of its values on an axis is logarithmic; and the most
characters of a value that is no number."""


def draw_sweep(path: Path, found: SweepOutcome) -> None:
    """Write the picture: a panel for each key, a point for each combination with a finished trial.

    Bars are the 95 % t-intervals over seeds; the best combination is drawn in another colour.
    """
    keys, rows = found.plan.sweep.varied, [row for row in found.rows if row.done]
    down = ceil(len(keys) / ACROSS)
    with picture(path, height=0.6 + 3.6 * down) as figure:
        grid = figure.subplots(down, min(ACROSS, len(keys)), squeeze=False, sharey=True)
        for key, axes in zip(keys, grid.flat, strict=False):
            _panel(axes, key, rows, found.best)
        for axes in grid.flat[len(keys) :]:
            axes.set_axis_off()
        for axes in grid[:, 0]:
            axes.set_ylabel(f"query {found.score.label}")
        figure.suptitle(
            f"{found.plan.base.name}: hospitals for validation, mean and 95 % interval over seeds; "
            "the best one in red",
            fontsize=10,
        )


def _panel(axes: Axes, key: str, rows: list[SweepRow], best: SweepRow | None) -> None:
    """The score over one key; other keys' values differ from point to point."""
    places = _places(axes, [row.combination.values[key] for row in rows])
    for row, x in zip(rows, places, strict=True):
        scale, bounds = row.score.scale, row.interval
        ends = [row.mean - bounds.low, bounds.high - row.mean] if bounds else None
        axes.errorbar(
            x,
            scale * row.mean,
            yerr=[[scale * end] for end in ends] if ends else None,
            marker="o",
            color=COLOURS[1] if row is best else COLOURS[0],
            capsize=3,
            linewidth=1,
            zorder=3 if row is best else 2,
        )
    axes.set_xlabel(key)
    axes.grid(alpha=0.2)


def _places(axes: Axes, values: list[object]) -> list[float]:
    """Where each value stands on the x axis: numbers at themselves, all others side by side."""
    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) == len(values):
        if min(numbers) > 0 and max(numbers) / min(numbers) >= LARGE_RATIO:
            axes.set_xscale("log")
        return numbers
    names = list(dict.fromkeys(value_text(value) for value in values))
    labels = [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in names]
    axes.set_xticks(range(len(names)), labels, fontsize=8)
    axes.set_xlim(-0.5, len(names) - 0.5)
    return [float(names.index(value_text(value))) for value in values]
