"""What all pictures share: their width, their colours, and how they are written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from matplotlib.figure import Figure

COLOURS = (
    *("#1b6ca8", "#d1495b", "#8d96a3", "#edae49", "#66a182"),
    *("#7b5ea7", "#2f3e46", "#e07a9b", "#5fb3ce"),
)
INK = "#222222"


@contextmanager
def picture(path: Path, height: float) -> Iterator[Figure]:
    """A figure 11 inches wide and ``height`` inches high, written as PNG at the end."""
    figure = Figure(figsize=(11, height), layout="constrained")
    yield figure
    figure.savefig(path, dpi=110)
