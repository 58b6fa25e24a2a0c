"""The pictures of an adaptation: are probabilities right, and what is taken for what."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from metaward.client.scores.classes import BINS, Reliability
from metaward.server.pictures.figure import COLOURS, INK, picture

MOST_NUMBERS = 12
"""With more classes than this, the cells of a confusion matrix have no numbers."""


def draw_reliability(path: Path, found: Reliability, ece: str) -> None:
    """Write the share of records whose class is right over the highest probability, and below it
    how many records each bin holds; ``ece`` is the text of the error in the title."""
    with picture(path, height=5.6) as figure:
        upper, lower = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
        held = found.counts > 0
        middle = (np.arange(BINS) + 0.5) / BINS
        upper.bar(middle[held], found.right[held], 0.9 / BINS, color=COLOURS[0], label="right")
        upper.plot([0, 1], [0, 1], "--", color=INK, linewidth=1, label="perfectly calibrated")
        upper.plot(
            found.confidence[held],
            found.right[held],
            "o",
            color=COLOURS[1],
            label="mean probability of the bin, share that is right",
        )
        upper.set(ylabel="share that is right", xlim=(0, 1), ylim=(0, 1.02))
        upper.set_title(f"Reliability of the adapted model's probabilities ({ece})")
        upper.legend(fontsize=8, frameon=False, loc="upper left")
        lower.bar(middle, found.counts, 0.9 / BINS, color=COLOURS[2])
        lower.set(xlabel="highest probability", ylabel="predictions")


def draw_confusion(path: Path, found: NDArray[np.int64], classes: Sequence[str]) -> None:
    """Write the matrix (N, N): in per cent, what the records of each class are taken for."""
    share = 100 * found / np.maximum(found.sum(axis=1, keepdims=True), 1)
    with picture(path, height=5.6) as figure:
        axes = figure.subplots()
        shown = axes.imshow(share, vmin=0, vmax=100, cmap="Blues", aspect="auto")
        figure.colorbar(shown, ax=axes, label="% of the true class")
        axes.set_xticks(range(len(classes)), classes, rotation=30, ha="right")
        axes.set_yticks(range(len(classes)), classes)
        axes.set(xlabel="predicted", ylabel="true")
        axes.set_title("What records are taken for, all splits together")
        if len(classes) <= MOST_NUMBERS:
            _numbers(axes, share)


def _numbers(axes: Axes, share: NDArray[np.float64]) -> None:
    for (row, column), value in np.ndenumerate(share):
        colour = "white" if value > 55 else INK
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour)
