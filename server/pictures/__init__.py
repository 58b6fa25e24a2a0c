"""The pictures of a run; each is one file of this folder and one entry of ``PICTURES``."""

from __future__ import annotations

from collections.abc import Callable

from metaward.server.evaluate import ScoreTable
from metaward.server.folder import Folder
from metaward.server.pictures.curve import draw_curve
from metaward.server.pictures.sine import draw_sine
from metaward.server.pictures.spent import draw_spent
from metaward.sim import Sim

Picture = Callable[[Sim, Folder, ScoreTable], None]
"""Draws a finished run into its folder, if the picture applies to the run."""

PICTURES: dict[str, Picture] = {
    "curve.png": draw_curve,
    "spent.png": draw_spent,
    "sine.png": draw_sine,
}


def draw(run: Sim, folder: Folder, table: ScoreTable) -> None:
    """Every picture that this run has."""
    for picture in PICTURES.values():
        picture(run, folder, table)
