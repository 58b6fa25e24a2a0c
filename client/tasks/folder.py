"""The source ``folder``: every hospital's records are files in its own folder.

The yaml names the hospitals and what their records look like; nothing else about them is public. In
a simulation the data folder holds one folder for each hospital, named like it; at a real hospital
the data folder is its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from metaward.client.errors import DataError
from metaward.client.tasks.base import (
    Draw,
    FewShot,
    Hospital,
    IntArray,
    Seat,
    Stored,
    TaskSpec,
    draw_classes,
    usable_classes,
)
from metaward.client.tasks.folder_files import LARGEST_RECORD, Read, RecordForm
from metaward.client.tasks.folder_forms import read
from metaward.client.tasks.folder_windows import REACH, Recording, Word, fits
from metaward.client.tasks.kinds import CLASSIFICATION
from metaward.client.tasks.preparation import Preparation, Step
from metaward.client.tasks.roster import Role
from metaward.options import nearest

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Scaled = tuple[Word, float, float]


@dataclass(frozen=True, kw_only=True)
class OwnFiles(FewShot):
    """Options of ``client.tasks.source: folder``.

    Four forms are read: ``records.csv``, a table; ``labels.csv`` beside ``images/`` with PNG, JPEG
    or DICOM files; ``records.npz`` with arrays ``x`` (n, *shape), ``y`` (n,), and ``patient`` and
    ``id`` (n,) where they are known; recordings of PhysioNet (WFDB) with annotations. Tables name
    these columns ``label``, ``patient`` and ``id``, and an image's file ``file``. Classes, scales
    and choices are declared here, so that nothing about one record depends on another.
    """

    train: tuple[Name, ...]
    """The hospitals that meta-train."""
    unseen: tuple[Name, ...]
    """The hospitals that only evaluate the result."""
    validation: tuple[Name, ...] = ()
    """The hospitals that are set aside to choose among the rounds."""
    classes: tuple[Word, ...]
    """The labels that training hospitals hold, in the order of their numbers."""
    novel: tuple[Word, ...] = ()
    """Further labels that other hospitals alone hold; an empty list: all hold `classes`."""
    shape: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = ()
    """The shape of a record: `[1, height, width]` for grey images, `[3, height, width]` for
    colours, which are resized to it; that of an array; `[leads, samples]` for recordings; an empty
    list for tables."""
    columns: tuple[Scaled, ...] = ()
    """Of a table, the columns of numbers, each as `[name, centre, unit]`: a value becomes
    (value - centre) / unit. Take centre and unit from guidelines, not from the records."""
    choices: tuple[tuple[Word, ...], ...] = ()
    """Of a table, the columns of words, each as `[name, value, value, ...]`: a number, 0 or 1, for
    each of the values."""
    recording: Recording | None = None
    """What is taken of recordings (WFDB); null where there are none."""
    preparation = Preparation(
        Step(
            "not used",
            "Records are scaled by constants of the configuration or the file format; a beat of a "
            "recording may have its own mean taken off. No record touches another.",
        ),
        Step("no", "What was done to the files before is known to the hospital alone."),
        "Each hospital's own.",
    )

    def __post_init__(self) -> None:
        for rule, problem in self._rules():
            if not rule:
                raise ValueError(problem)

    def _rules(self) -> tuple[tuple[bool, str], ...]:
        everyone, words = (
            (*self.train, *self.unseen, *self.validation),
            (*self.classes, *self.novel),
        )
        table = bool(self.columns or self.choices)
        novel = "novel" if self.novel else "classes"
        least = min(len(self.classes), len(self.novel or self.classes))
        return (
            (
                len(set(everyone)) == len(everyone),
                f"train, unseen, validation = {list(everyone)}: name each hospital once",
            ),
            (
                len(set(words)) == len(words),
                f"classes, novel = {list(words)}: name each label once",
            ),
            (
                self.ways <= least,
                f"ways = {self.ways}: {novel} has {least} labels; lower ways, or name more",
            ),
            (
                not self.canonical or (self.ways == len(self.classes) and not self.novel),
                "canonical = true needs ways to be the number of classes, and no novel ones",
            ),
            (
                table != bool(self.shape),
                f"shape = {list(self.shape)}: give the shape of images or arrays, or columns and "
                "choices of a table, and not both",
            ),
            (
                prod(self.shape) <= LARGEST_RECORD,
                f"shape = {list(self.shape)}: a record has more than {LARGEST_RECORD} values; "
                "resize to fewer",
            ),
            (
                all(unit != 0 for _, _, unit in self.columns),
                "columns: a unit is 0; it divides the column, so give its usual spread",
            ),
            (
                all(len(set(choice)) == len(choice) > 2 for choice in self.choices),
                "choices: each is [name, value, value, ...] with two different values or more",
            ),
            *self._rules_of_recordings(),
        )

    def _rules_of_recordings(self) -> tuple[tuple[bool, str], ...]:
        asked, shape = self.recording, self.shape
        if asked is None:
            return ()
        if len(shape) != 2:
            return ((False, f"shape = {list(shape)}: recordings need [leads, samples]"),)
        both = sorted({*asked.ignore} & {*self.classes, *self.novel})
        return (
            (
                fits(shape[1], asked.rate),
                f"shape = {list(shape)}: at recording.rate = {asked.rate:g} a window goes further "
                f"than {REACH:g} s from its annotation; take fewer samples",
            ),
            (
                len(set(asked.leads)) == len(asked.leads) and len(asked.leads) in (0, shape[0]),
                f"recording.leads = {list(asked.leads)}: name each lead once, and as many as "
                f"shape = {list(shape)} has",
            ),
            (not both, f"recording.ignore = {both}: these are classes, too; name each once"),
        )

    @property
    def form(self) -> RecordForm:
        """How files are read."""
        return RecordForm(self.input_shape, self.columns, self.choices, self.recording)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of a record as the network sees it."""
        return self.shape or (len(self.columns) + sum(len(c) - 1 for c in self.choices),)

    def roster(self) -> tuple[Seat, ...]:
        """The hospitals that meta-train, then the unseen ones, then those for validation."""
        roles: tuple[tuple[tuple[str, ...], Role], ...] = (
            (self.train, "train"),
            (self.unseen, "unseen"),
            (self.validation, "validation"),
        )
        return tuple(Seat(name, role) for names, role in roles for name in names)

    def spec(self) -> TaskSpec:
        """N-way classification of records of the declared shape."""
        names, shape = self.classes, self.input_shape
        return TaskSpec(CLASSIFICATION, shape, self.ways, len(names), self.canonical, names)

    def hospital(self, index: int, root: Path | None, seed: int) -> Hospital:
        """Open one hospital's folder; ``DataError`` where it is not as declared, or too small."""
        seat = self.roster()[index]
        found = read(place_of(seat.name, root), self.form)
        y = self.numbers(seat, found)
        hospital = opened(seat, found, y, partial(draw_classes, self))
        usable_classes(self, hospital)
        return hospital

    def numbers(self, seat: Seat, found: Read) -> IntArray:
        """The class (n,) of each record; ``DataError`` for a label that this hospital's role does
        not hold."""
        known = self.novel if self.novel and seat.role == "unseen" else self.classes
        number = {label: k for k, label in enumerate((*self.classes, *self.novel))}
        for label, where in zip(found.labels.tolist(), found.where, strict=True):
            if label not in known:
                ignored = " or recording.ignore" if self.recording else ""
                near = nearest(label, known, "")
                raise DataError(
                    f"{where}: label {label!r}; hospital {seat.name} ({seat.role}) holds "
                    f"{', '.join(known)}; {f'{near} Otherwise ' if near else ''}add it to "
                    f"client.tasks.classes or novel{ignored}, or leave it out"
                )
        return np.array([number[label] for label in found.labels.tolist()], np.int64)


def opened(seat: Seat, found: Read, y: IntArray, draw: Draw) -> Hospital:
    """A hospital's own files as its records, with classes ``y`` (n,).

    A ledger knows the records by these names and by what is stored, whoever opens them.
    """
    return Hospital(
        seat=seat,
        x=found.x,
        y=y,
        rows=np.arange(len(y)),
        ids=np.char.add(f"{seat.name}/", found.ids),
        patients=np.char.add(f"{seat.name}/", found.patients),
        draw=draw,
        view=np.copy,
        stored=Stored(found.stored, np.arange(len(y))),
        note=note(found),
    )


def place_of(name: str, root: Path | None) -> Path:
    """The folder of a hospital: the one of its name in the data folder, or else that itself.

    ``DataError`` where no data folder is named, or it is none.
    """
    if root is None:
        raise DataError(
            f"the records of hospital {name} are needed, but no data folder is named: set "
            "data.root in the yaml file or the environment variable METAWARD_DATA (at a deployed "
            "hospital: data-root in its node config)"
        )
    own = root / name
    place = own if own.is_dir() else root
    if not place.is_dir():
        raise DataError(f"{place} is no folder; put the records of hospital {name} there")
    return place


def note(found: Read) -> dict[str, str]:
    """What `metaward tasks show` and `metaward data check` print about a hospital."""
    counts = zip(*np.unique(found.labels, return_counts=True), strict=True)
    return {
        "of each class": ", ".join(f"{label} {count}" for label, count in counts),
        **({"left out": found.left_out} if found.left_out else {}),
    }
