"""Images that may show several findings at once (ChestMNIST): each task asks for one finding.

A task picks a finding that enough records of the hospital show and enough do not show, and takes
shots + queries of either. So a record is in class 2 f + 1 or 2 f of every finding f. Where a record
must have one class alone, as when records are dealt to hospitals, that is the first finding that it
shows, or class 0 where it shows none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from metaward.client.errors import DataError
from metaward.client.tasks.base import Episode, FewShot, Hospital, IntArray, draw_classes


def first_shown(shown: NDArray[np.bool_]) -> IntArray:
    """(n, findings) -> (n,): class 2 f + 1 of the first finding f shown, 0 where none is."""
    first = 2 * shown.argmax(axis=1) + 1
    return np.where(shown.any(axis=1), first, 0).astype(np.int64)


@dataclass(frozen=True)
class Questions:
    """What each record shows, ``shown`` (n, findings), and the index of the set's first class."""

    shown: NDArray[np.bool_]
    first: int

    def draw(self, few: FewShot, hospital: Hospital, rng: np.random.Generator) -> Episode:
        """A 2-way task: one finding, records without it and records with it, whichever else they
        show."""
        finding = rng.choice(self.usable(few, hospital))
        answers = self.first + 2 * finding + self.shown[:, finding]
        return draw_classes(few, replace(hospital, y=answers.astype(np.int64)), rng)

    def usable(self, few: FewShot, hospital: Hospital) -> IntArray:
        """Findings with K + Q records here that show them and as many that do not; ``DataError``
        where there is none."""
        need = sum(few.sizes(hospital.seat.role))
        with_it = self.shown[hospital.rows].sum(axis=0)
        found = np.flatnonzero((with_it >= need) & (len(hospital.rows) - with_it >= need))
        if not len(found):
            raise DataError(
                f"hospital {hospital.seat.name}: no finding has at least shots + queries = {need} "
                "records with it and as many without it; lower client.tasks.shots or queries "
                "(train_shots or train_queries, where they are set), or give each hospital more "
                "records"
            )
        return found
