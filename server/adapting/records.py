"""A new hospital's records, read from its own folder in the form that a run's network takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from metaward.client.errors import DataError
from metaward.client.tasks.base import Episode, FloatArray, Hospital, IntArray, Seat
from metaward.client.tasks.folder import OwnFiles, opened
from metaward.client.tasks.folder_files import ARRAYS, TABLE, Read, RecordForm
from metaward.client.tasks.folder_forms import read
from metaward.errors import InputError
from metaward.sim import Sim


@dataclass(frozen=True, eq=False)
class Labelled:
    """Records ``x`` (n, *input_shape), their classes' numbers ``y`` (n,) and the numbers of their
    ``patients`` (n,); ``classes`` are the labels behind the numbers; ``found`` is what was read."""

    folder: Path
    x: FloatArray
    y: IntArray
    patients: IntArray
    classes: tuple[str, ...]
    found: Read

    @property
    def left_out(self) -> str:
        """What of the folder became no record, in words."""
        return self.found.left_out

    def at(self, name: str) -> Hospital:
        """The same records as those of hospital ``name``, as the source ``folder`` opens them."""
        return opened(Seat(name, "train"), self.found, self.y, all_support)

    def counts(self) -> list[int]:
        """How many records each class has."""
        counts: list[int] = np.bincount(self.y, minlength=len(self.classes)).tolist()
        return counts

    def patient_count(self) -> int:
        """How many patients there are."""
        return len(self._by_patient)

    def of_patient(self, patient: int) -> IntArray:
        """The rows of a patient's records."""
        return self._by_patient[patient]

    @cached_property
    def _by_patient(self) -> list[IntArray]:
        order = np.argsort(self.patients, kind="stable")
        return np.split(order, np.cumsum(np.bincount(self.patients))[:-1])


def all_support(hospital: Hospital, rng: np.random.Generator) -> Episode:
    """All of a hospital's records as one task, without a query."""
    rows, none = hospital.rows, hospital.rows[:0]
    x, y = hospital.view(hospital.x[rows]), hospital.y[rows]
    return Episode(x, y, x[:0], y[:0], np.unique(y), rows, none)


def form_of(run: Sim) -> RecordForm:
    """How a run's records are read: as its yaml declares, or else by their shape alone."""
    source = run.client.tasks
    if isinstance(source, OwnFiles):
        return source.form
    return RecordForm(source.spec().input_shape, (), ())


def read_folder(folder: Path, form: RecordForm, labelled: bool = True) -> Read:
    """All records of a folder; ``labelled`` False asks for no labels, and the labels are empty.

    ``DataError`` where there is no such folder, or it does not hold such records.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; name the one that holds the hospital's records")
    table = bool(form.columns or form.choices)
    if not table and (folder / TABLE).is_file() and not (folder / ARRAYS).is_file():
        raise DataError(
            f"{folder / TABLE}: the run declares no columns of a table; its records have shape "
            f"{list(form.shape)}: give {ARRAYS} with x (n, {', '.join(map(str, form.shape))})"
        )
    return read(folder, replace(form, labelled=labelled))


def read_labelled(run: Sim, folder: Path) -> Labelled:
    """A hospital's labelled records; its classes are its own unless labels mean the same in all
    tasks of the run.

    ``DataError`` where the folder does not fit; ``InputError`` for labels that the run cannot take.
    """
    found = read_folder(folder, form_of(run))
    classes = _classes(run, folder, found.labels.tolist())
    number = {name: k for k, name in enumerate(classes)}
    return Labelled(
        folder,
        found.x,
        np.array([number[label] for label in found.labels.tolist()], np.int64),
        np.unique(found.patients, return_inverse=True)[1].astype(np.int64),
        classes,
        found,
    )


def _classes(run: Sim, folder: Path, labels: Sequence[str]) -> tuple[str, ...]:
    source, spec = run.client.tasks, run.client.tasks.spec()
    held = tuple(sorted(set(labels)))
    if len(held) < 2:
        raise InputError(f"{folder}: all records have label {held[0]}; two classes are needed")
    if not spec.canonical:
        return held
    own = source.classes if isinstance(source, OwnFiles) else map(str, range(spec.outputs))
    known = tuple(own)
    unknown = [name for name in held if name not in known]
    if unknown:
        raise InputError(
            f"{folder}: label {unknown[0]!r}; in this run every hospital's labels are "
            f"{', '.join(known)}: rename it, or leave its records out"
        )
    return known
