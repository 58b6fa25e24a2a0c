"""Reading a hospital's own files: images with a list of labels, a table, or arrays.

``folder_forms`` says which of these lies in a folder. Every fault names the file, the line and the
way out.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metaward.client.errors import DataError
from metaward.client.tasks.files import DataFile, frozen, lies_in
from metaward.client.tasks.folder_images import pixels
from metaward.client.tasks.folder_windows import Recording
from metaward.client.tasks.npz import read_arrays

LARGEST_RECORD = 1 << 24
"""Values of one record, as many as 4096 x 4096 pixels have."""
LARGEST = float(np.finfo(np.float32).max)
ARRAYS, TABLE, LABELS, IMAGES = "records.npz", "records.csv", "labels.csv", "images"
EXAMPLE = "metaward data example DIR writes a folder as it must be"
OTHER_MARKS = (";", "\t", "|")
"""What spreadsheets write between cells where they write no commas."""

LABEL, PATIENT, ID, FILE = "label", "patient", "id", "file"
"""The columns that say what a record is, whose it is, which one it is and which file holds it.
These names are fixed: a run's yaml comes from outside and must not choose who a patient is."""


@dataclass(frozen=True)
class RecordForm:
    """How records become the network's input: ``shape`` of one record; ``columns`` of a table with
    the centre and unit of each, and ``choices`` with the values of each column of words;
    ``recording``, what is taken of recorded signals. ``labelled`` False, which no task of a run
    has, reads no labels: each is empty, and the files need none."""

    shape: tuple[int, ...]
    columns: tuple[tuple[str, float, float], ...]
    choices: tuple[tuple[str, ...], ...]
    recording: Recording | None = None
    labelled: bool = True


class Read(NamedTuple):
    """Records in the order of the file: ``x`` (n, *shape) float32, ``labels``, ``patients`` and
    ``ids`` (n,) as text, ``stored`` (n, 32) the SHA-256 of what the folder says of each apart from
    its names, and ``where`` (n,) the file and line of each, for errors. ``left_out`` says in words
    what of the folder became no record."""

    x: NDArray[np.float32]
    labels: NDArray[np.str_]
    patients: NDArray[np.str_]
    ids: NDArray[np.str_]
    stored: NDArray[np.uint8]
    where: tuple[str, ...]
    left_out: str = ""


# ---------------------------------------------------------------------------------- tables


def lines(path: Path, needed: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """(file and line, cells by column) of each record of a table in UTF-8 with a first line of
    names."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, strict=True)
            names = table.fieldnames or []
            _named_columns(f"{path}, line 1", names, needed)
            for row in table:
                where = f"{path}, line {table.line_num}"
                if None in row or None in row.values():
                    raise DataError(f"{where}: not as many cells as the first line has columns")
                yield where, {key: cell.strip() for key, cell in row.items()}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table in UTF-8 ({error})") from error


def _named_columns(where: str, names: Sequence[str], needed: Sequence[str]) -> None:
    """``DataError`` where a needed column is missing: by another name, or because a program wrote
    something else than commas between the cells."""
    missing = [name for name in needed if name not in names]
    other = [mark for mark in OTHER_MARKS if len(names) == 1 and mark in names[0]]
    if missing and other:
        raise DataError(
            f"{where}: {other[0]!r} stands between the cells; write the table with commas there, "
            "and with points in its numbers"
        )
    if missing:
        raise DataError(
            f"{where}: no column {', '.join(missing)}; it has {', '.join(names)}; rename the "
            f"column in the file; {EXAMPLE}"
        )


def said(where: str, row: dict[str, str], column: str) -> str:
    """The cell of a column; ``DataError`` where it is empty."""
    if not row[column]:
        raise DataError(f"{where}: column {column} is empty; fill it in, or leave the line out")
    return row[column]


def _named(where: str, row: dict[str, str], number: int, labelled: bool) -> tuple[str, str, str]:
    """Label, patient and id of a record; one that names no patient is a patient of its own."""
    identity = said(where, row, ID) if ID in row else str(number)
    patient = said(where, row, PATIENT) if PATIENT in row else identity
    return said(where, row, LABEL) if labelled else "", patient, identity


def _number(where: str, row: dict[str, str], column: str) -> float:
    text = said(where, row, column)
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise DataError(f"{where}: column {column} holds {text!r}; it must be a finite number")
    return value


def _scaled(where: str, row: dict[str, str], column: str, centre: float, unit: float) -> float:
    """A number in units from the centre; ``DataError`` where float32 cannot hold it."""
    value = (_number(where, row, column) - centre) / unit
    if not abs(value) <= LARGEST:
        raise DataError(
            f"{where}: column {column} holds {row[column]!r}, {value:g} units from its centre; "
            "correct it, or leave the line out"
        )
    return value


def _choice(where: str, row: dict[str, str], column: str, values: Sequence[str]) -> list[float]:
    text = said(where, row, column)
    if text not in values:
        raise DataError(
            f"{where}: column {column} holds {text!r}; client.tasks.choices knows "
            f"{', '.join(values)}"
        )
    return [float(text == value) for value in values]


@lru_cache(maxsize=64)
def table(folder: Path, form: RecordForm, stamps: tuple[Any, ...]) -> Read:
    """``records.csv``: numbers are scaled by their column's centre and unit, words one-hot."""
    path, x, names, wheres, stored = folder / TABLE, [], [], [], []
    words = [choice[0] for choice in form.choices]
    needed = [*(name for name, _, _ in form.columns), *words, *[LABEL] * form.labelled]
    for number, (where, row) in enumerate(lines(path, needed)):
        features = [_scaled(where, row, *column) for column in form.columns]
        for column, *values in form.choices:
            features += _choice(where, row, column, values)
        x.append(features)
        names.append(_named(where, row, number, form.labelled))
        wheres.append(where)
        stored.append(digest(_told(row)))
    return gathered(path, np.array(x, np.float32), names, stored, wheres)


def _told(row: dict[str, str]) -> bytes:
    """What a line says about the patient, whatever it is called, asked for, or written like: all
    its cells but id, patient and label, by the name of their column, numbers in one form."""
    rest = sorted(
        (key, _plain(cell)) for key, cell in row.items() if key not in (ID, PATIENT, LABEL)
    )
    return json.dumps(rest).encode()


def _plain(cell: str) -> str:
    try:
        return repr(float(cell))
    except ValueError:
        return cell


# ---------------------------------------------------------------------------------- images


@lru_cache(maxsize=64)
def images(folder: Path, form: RecordForm, stamps: tuple[Any, ...]) -> Read:
    """``labels.csv`` names the files in ``images/``; grey values become -1 to 1 by constants."""
    path, x, names, wheres, stored = folder / LABELS, [], [], [], []
    if len(form.shape) != 3 or form.shape[0] not in (1, 3):
        raise DataError(
            f"{folder} holds images, but client.tasks.shape is {list(form.shape)}; give "
            "[1, height, width] for grey ones or [3, height, width] for colours"
        )
    for number, (where, row) in enumerate(lines(path, [FILE, *[LABEL] * form.labelled])):
        file = _file(where, folder / IMAGES, said(where, row, FILE))
        x.append(pixels(where, file, form.shape))
        names.append(_named(where, row, number, form.labelled))
        wheres.append(where)
        stored.append(digest(file.read_bytes()))
    return gathered(path, np.array(x, np.float32), names, stored, wheres)


def _file(where: str, place: Path, name: str) -> Path:
    """The file of this name in a folder; ``DataError`` where it is none, or lies elsewhere."""
    file = place / name
    if not lies_in(place, file):
        raise DataError(f"{where}: {file!s:.300} does not exist; the files lie in {place}")
    return file


# ---------------------------------------------------------------------------------- arrays


@lru_cache(maxsize=64)
def arrays(folder: Path, form: RecordForm, stamps: tuple[Any, ...]) -> Read:
    """``records.npz``: ``x`` (n, *shape) numbers, ``y`` (n,), and ``patient`` and ``id`` (n,) where
    they are known."""
    path = folder / ARRAYS
    source = DataFile(ARRAYS, f"arrays x (n, *shape) and y (n,), perhaps patient and id; {EXAMPLE}")
    try:
        found = read_arrays(path, ("x", "y", PATIENT, ID))
    except Exception as error:  # zipfile, zlib and numpy raise whatever they meet
        raise source.damaged(path, f"it cannot be read ({error})") from error
    if not form.labelled and "x" in found and found["x"].ndim:
        found["y"] = np.full(len(found["x"]), "")
    if not {"x", "y"} <= found.keys():
        raise source.damaged(path, f"it has the arrays {sorted(found)}, and needs x and y")
    n = found["y"].size
    _check_arrays(path, found, n)
    if found["x"].shape != (n, *form.shape):
        raise DataError(
            f"{path}: x has shape {found['x'].shape}; client.tasks.shape is {list(form.shape)} and "
            f"y has {n} labels, so it must be {(n, *form.shape)}"
        )
    x = found["x"].astype(np.float32)
    wrong = np.flatnonzero(~np.isfinite(x).all(axis=tuple(range(1, x.ndim))))
    if len(wrong):
        raise DataError(f"{path}, row {wrong[0]}: x holds a value that is not finite")
    ids = found.get("id", np.arange(n)).astype(str)
    patients = found.get("patient", ids).astype(str)
    names = list(zip(found["y"].astype(str), patients, ids, strict=True))
    where = [f"{path}, row {k}" for k in range(n)]
    stored = [digest(one.tobytes()) for one in found["x"].astype(np.float64)]
    return gathered(path, x, names, stored, where)


def _check_arrays(path: Path, found: dict[str, NDArray[Any]], n: int) -> None:
    """``DataError`` where ``x`` holds no numbers, or another array not a name for each record."""
    if found["x"].dtype.kind not in "biuf":
        raise DataError(f"{path}: x holds {found['x'].dtype}; it must hold real numbers")
    for key in ("y", PATIENT, ID):
        names = found.get(key, found["y"])
        if names.shape != (n,) or names.dtype.kind not in "biufU":
            raise DataError(
                f"{path}: {key} has shape {names.shape} and holds {names.dtype}; it must be {(n,)} "
                "and hold numbers or text (not bytes)"
            )


def digest(data: bytes) -> bytes:
    """SHA-256, as ``Read.stored`` holds it."""
    return hashlib.sha256(data).digest()


def gathered(
    path: Path,
    x: NDArray[np.float32],
    names: Sequence[tuple[str, str, str]],
    stored: Sequence[bytes],
    where: Sequence[str],
) -> Read:
    """All of it as read-only arrays; ``DataError`` for an empty file or an id that comes twice."""
    if not names:
        raise DataError(f"{path} holds no record; {EXAMPLE}")
    labels, patients, ids = (np.array(column) for column in zip(*names, strict=True))
    first: dict[str, str] = {}
    for one, place in zip(ids.tolist(), where, strict=True):
        if one in first:
            raise DataError(f"{place}: id {one!r} is that of {first[one]}, too; ids are unique")
        first[one] = place
    kept = np.frombuffer(b"".join(stored), np.uint8).reshape(len(stored), -1)
    x, labels, patients, ids = (frozen(array) for array in (x, labels, patients, ids))
    return Read(x, labels, patients, ids, frozen(kept), tuple(where))
