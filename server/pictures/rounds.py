"""The picture of a comparison: the runs' scores at their unseen hospitals, over the rounds."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from metaward.client.tasks.kinds import Score
from metaward.server.comparing.compare import Comparison, score_of
from metaward.server.comparing.side import Side
from metaward.server.pictures.figure import COLOURS, picture


def draw_rounds(path: Path, found: Comparison) -> None:
    """Write the finished runs' curves, one panel for each score; bands are 95 % intervals over
    episodes."""
    scores = list(dict.fromkeys(score_of(one) for one in found.finished))
    with picture(path, height=4.6) as figure:
        panels = figure.subplots(1, len(scores), squeeze=False)[0]
        for axes, score in zip(panels, scores, strict=True):
            own = [one for one in found.finished if score_of(one) == score]
            for number, one in enumerate(own):
                _curve(axes, one, score, COLOURS[number % len(COLOURS)])
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set(xlabel="round", ylabel=f"query {score.label}")
            axes.set_title("Unseen hospitals, after adaptation")
            axes.legend(fontsize=8, frameon=False)


def _curve(axes: Axes, one: Side, score: Score, colour: str) -> None:
    x = [row["round"] for row in one.curve]
    y, low, high = (
        [score.scale * row[key] for row in one.curve] for key in ("after", "low", "high")
    )
    axes.plot(x, y, marker="o", markersize=3, color=colour, label=one.name)
    axes.vlines(x, low, high, color=colour, linewidth=1, alpha=0.4)  # a single point has no band
    axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
