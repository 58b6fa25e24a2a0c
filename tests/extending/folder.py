"""Tasks from a folder: each hospital has a file of its own, with records, labels and patients.

``FOLDER/hospital.npz`` below the data folder holds ``x`` (n, features) float32, ``y`` (n,) int64
and ``patients`` (n,) text.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from metaward.client.tasks.base import FewShot, Hospital, Seat, TaskSpec, draw_classes
from metaward.client.tasks.files import DataFile, Layout
from metaward.client.tasks.kinds import CLASSIFICATION


@dataclass(frozen=True)
class Folder(FewShot):
    """N-way K-shot tasks from files in a folder."""

    folder: str = "wards"
    """The folder, below the data folder."""
    training: tuple[str, ...] = ()
    """The hospitals that meta-train, each the name of a file without its ending."""
    unseen: tuple[str, ...] = ()
    """The hospitals that only evaluate the result."""
    features: Annotated[int, Field(ge=1)] = 1
    """Values of a record."""
    findings: Annotated[int, Field(ge=2)] = 2
    """Classes that meta-training hospitals know."""

    def roster(self) -> tuple[Seat, ...]:
        """Training hospitals, then unseen ones, as the options name them."""
        train = tuple(Seat(name, "train") for name in self.training)
        return train + tuple(Seat(name, "unseen") for name in self.unseen)

    def spec(self) -> TaskSpec:
        """Flat records."""
        shape = (self.features,)
        return TaskSpec(CLASSIFICATION, shape, self.ways, self.findings, self.canonical)

    def hospital(self, index: int, root: Path | None, seed: int) -> Hospital:
        """Read the hospital's own file."""
        seat = self.roster()[index]
        file = DataFile(f"{self.folder}/{seat.name}.npz", "a file of the hospital's own")
        layouts = {
            "x": Layout((None, self.features), "f4"),
            "y": Layout((None,), "i8"),
            "patients": Layout((None,), "U"),
        }
        arrays = file.read_npz(file.locate(root), layouts)
        rows = np.arange(len(arrays["y"]))
        ids = np.array([f"{seat.name}/{row}" for row in rows])
        return Hospital(
            seat=seat,
            **arrays,
            rows=rows,
            ids=ids,
            draw=partial(draw_classes, self),
            view=np.asarray,
        )
