"""Heartbeats of 43 patients, dealt to hospitals: the MIT-BIH Arrhythmia Database.

A hospital is a group of patients and a class is a kind of heartbeat. Meta-training patients come
from DS1 and unseen hospitals from DS2, the inter-patient split of de Chazal, O'Dwyer and Reilly
(2004, "Automatic classification of heartbeats using ECG morphology and heartbeat interval
features", IEEE Trans. Biomed. Eng. 51). Records 201 (DS1) and 202 (DS2) are one patient, so 202 is
left out; the four paced records are in neither list.

The file ``ecg/mitbih_beats.npz`` holds one row per beat, ordered by record:
``x`` (n, 128) int16, millivolts times 200, 128 samples at 180 Hz around the annotation, lead MLII
(V5 in records 102 and 104); ``symbol`` (n,) the annotation's letter; ``aami`` (n,) its AAMI EC57
group; ``record`` (n,) int16. It is cut from Moody and Mark (2001, "The impact of the MIT-BIH
Arrhythmia Database", IEEE Eng. in Med. and Biol. 20), PhysioNet, ODC-BY 1.0.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from metaward.client.errors import DataError
from metaward.client.tasks.base import (
    FewShot,
    FloatArray,
    Hospital,
    IntArray,
    Seat,
    TaskSpec,
    draw_classes,
    usable_classes,
)
from metaward.client.tasks.files import DataFile, Layout, Stamp, frozen, stamp
from metaward.client.tasks.kinds import CLASSIFICATION
from metaward.client.tasks.preparation import Preparation, Step
from metaward.client.tasks.roster import check_set_aside, set_aside

# fmt: off
DS1 = (101, 106, 108, 109, 112, 114, 115, 116, 118, 119, 122,
       124, 201, 203, 205, 207, 208, 209, 215, 220, 223, 230)
DS2 = (100, 103, 105, 111, 113, 117, 121, 123, 200, 210, 212,
       213, 214, 219, 221, 222, 228, 231, 232, 233, 234)
# fmt: on

# Annotation letter -> AAMI EC57 group, in the order that numbers the classes.
GROUP_OF = {
    **dict.fromkeys("NLRej", "N"),
    **dict.fromkeys("AaJS", "S"),
    **dict.fromkeys("VE", "V"),
    "F": "F",
    **dict.fromkeys("/fQ", "Q"),
}
GROUPS = ("N", "S", "V", "F", "Q")
SAMPLES = 128
ADC_MIN, ADC_MAX = -1024, 1023  # an 11-bit recorder, centred

FILE = DataFile(
    "ecg/mitbih_beats.npz",
    "cut from https://physionet.org/content/mitdb/1.0.0/ in the layout of client/tasks/ecg.py",
)
LAYOUTS = {
    "x": Layout((None, SAMPLES), "i2"),
    "symbol": Layout((None,), "U"),
    "aami": Layout((None,), "U"),
    "record": Layout((None,), "i2"),
}


@dataclass(frozen=True)
class Ecg(FewShot):
    """N-way K-shot recognition of the kinds of heartbeat that a hospital's patients have.

    The default ``deal`` is the first under which each of 6 + 6 hospitals can fill a 3-way task of 5
    shots and 10 queries with either kind of label. Names of kinds are public knowledge, so the
    vocabulary holds all of them, whichever hospital has such beats. ``canonical`` needs ways to
    equal the number of kinds, as only then label j means the same kind in every task.
    """

    hospitals: Annotated[int, Field(ge=1, le=len(DS1))] = 6
    """Groups of DS1 patients, which meta-train (but for `validation` of them)."""
    unseen: Annotated[int, Field(ge=0, le=len(DS2))] = 6
    """Groups of DS2 patients, which only evaluate the result."""
    validation: Annotated[int, Field(ge=0, le=len(DS1) - 1)] = 0
    """How many of the DS1 groups, the last ones, are set aside to choose among the rounds instead
    of training."""
    deal: Annotated[int, Field(ge=0)] = 8
    """The seed that deals patients to hospitals; public, and independent of the run's seed."""
    labels: Literal["symbol", "aami"] = "symbol"
    """The 15 annotation letters, or the 5 groups of the AAMI."""
    kinds: tuple[str, ...] = ()
    """The kinds of beat that are kept; an empty list keeps all."""

    preparation = Preparation(
        Step(
            "yes", "Each beat is scaled by its own mean and deviation; no record touches another."
        ),
        Step(
            "no",
            "Beats were cut out of the recordings around the annotations beforehand. That the file "
            "passes its checks counts as public.",
        ),
        "The MIT-BIH Arrhythmia Database of PhysioNet, under ODC-BY 1.0.",
    )

    def __post_init__(self) -> None:
        check_set_aside(self.validation, self.hospitals)
        known = tuple(GROUP_OF) if self.labels == "symbol" else GROUPS
        if len(set(self.kinds)) < len(self.kinds) or not set(self.kinds) <= set(known):
            raise ValueError(f"kinds = {list(self.kinds)}: allowed are different ones of {known}")
        if self.ways > len(self.names):
            raise ValueError(f"ways = {self.ways}: allowed is 2 to {len(self.names)}, the kinds")
        if self.canonical and self.ways != len(self.names):
            raise ValueError(
                f"canonical = true needs ways = {len(self.names)}, the number of kinds, but "
                f"ways = {self.ways}; name that many kinds in client.tasks.kinds"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Public names of the classes, in the order of their indices."""
        return self.kinds or (tuple(GROUP_OF) if self.labels == "symbol" else GROUPS)

    def roster(self) -> tuple[Seat, ...]:
        """DS1 hospitals, the last of which may be set aside, then DS2 ones, which stay unseen."""
        train = [Seat(f"ds1-{i:02d}", "train") for i in range(self.hospitals)]
        unseen = [Seat(f"ds2-{i:02d}", "unseen") for i in range(self.unseen)]
        return (*set_aside(train, self.validation), *unseen)

    def spec(self) -> TaskSpec:
        """One lead of 128 samples, each beat standardised by its own mean and deviation."""
        return TaskSpec(
            CLASSIFICATION, (1, SAMPLES), self.ways, len(self.names), self.canonical, self.names
        )

    def members(self, index: int) -> tuple[int, ...]:
        """Records of hospital ``index``: every patient of DS1 and of DS2 is dealt exactly once."""
        side = int(index >= self.hospitals)
        count, seat = ((self.hospitals, index), (self.unseen, index - self.hospitals))[side]
        order = np.random.default_rng([self.deal, side]).permutation((DS1, DS2)[side])
        return tuple(sorted(int(record) for record in order[seat::count]))

    def hospital(self, index: int, root: Path | None, seed: int) -> Hospital:
        """Open one group of patients; ``DataError`` when it cannot fill a task."""
        path = FILE.locate(root)
        beats, members = _read(path, stamp(path)), self.members(index)
        y = _classes(path, stamp(path), self.labels, self.names)
        mine = np.isin(beats["record"], members)
        if absent := sorted(set(members) - set(beats["record"][mine].tolist())):
            raise FILE.damaged(path, f"it holds no beat of records {absent}")
        rows = np.flatnonzero(mine & (y >= 0))
        hospital = Hospital(
            seat=self.roster()[index],
            x=beats["x"],
            y=y,
            rows=rows,
            ids=beats["ids"],
            patients=beats["patients"],
            draw=partial(draw_classes, self),
            view=standardise,
            note=self._note(members, y[rows]),
        )
        self._check(hospital)
        return hospital

    def _check(self, hospital: Hospital) -> None:
        try:
            usable_classes(self, hospital)
        except DataError as error:
            raise DataError(
                f"{error}, or try another client.tasks.deal or fewer hospitals"
            ) from None

    def _note(self, members: tuple[int, ...], y: IntArray) -> dict[str, str]:
        counts = Counter(y.tolist()).most_common()
        return {
            "patients": ", ".join(map(str, members)),
            "beats": ", ".join(f"{self.names[kind]} {count}" for kind, count in counts),
        }


def standardise(beats: NDArray[Any]) -> FloatArray:
    """Beats (k, 128) -> (k, 1, 128) float32, each with mean 0 and deviation 1 (a flat one: 0)."""
    wave = beats.astype(np.float32)
    wave -= wave.mean(axis=1, keepdims=True)
    scale = wave.std(axis=1, keepdims=True)
    return (wave / np.where(scale > 0, scale, 1)).astype(np.float32)[:, None, :]


@lru_cache(maxsize=2)
def _read(path: Path, stamp: Stamp) -> dict[str, NDArray[Any]]:
    """The checked file, with ``ids`` (record * 10000 + number of the beat) and ``patients``."""
    beats = FILE.read_npz(path, LAYOUTS)
    _check(path, beats)
    record = beats["record"].astype(np.int64)
    number = np.arange(len(record)) - np.searchsorted(record, record)
    ids, patients = record * 10_000 + number, np.where(record == 202, 201, record)
    return {**beats, "ids": frozen(ids), "patients": frozen(patients)}


def _check(path: Path, beats: dict[str, NDArray[Any]]) -> None:
    """Refuse a file whose rows cannot be beats of this database."""
    if len({len(array) for array in beats.values()}) != 1:
        raise FILE.damaged(path, "its arrays differ in length")
    if len(beats["x"]) and (beats["x"].min() < ADC_MIN or beats["x"].max() > ADC_MAX):
        raise FILE.damaged(path, f"x leaves the recorder's range {ADC_MIN} to {ADC_MAX}")
    if unknown := set(np.unique(beats["symbol"]).tolist()) - set(GROUP_OF):
        raise FILE.damaged(path, f"symbol holds unknown kinds {sorted(unknown)}")
    groups = np.array([GROUP_OF[kind] for kind in GROUP_OF])
    expected = groups[np.argmax(beats["symbol"][:, None] == np.array(list(GROUP_OF)), axis=1)]
    if (expected != beats["aami"]).any():
        row = int(np.argmax(expected != beats["aami"]))
        raise FILE.damaged(path, f"aami and symbol disagree in row {row}")
    if (np.diff(beats["record"]) < 0).any():
        raise FILE.damaged(path, "its rows are not ordered by record")


@lru_cache(maxsize=8)
def _classes(path: Path, stamp: Stamp, labels: str, names: tuple[str, ...]) -> IntArray:
    """Class index of every beat in the file, -1 for kinds that are left out."""
    hits = _read(path, stamp)[labels][:, None] == np.array(names)
    return frozen(np.where(hits.any(axis=1), hits.argmax(axis=1), -1))
