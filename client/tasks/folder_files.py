"""Reading a hospital's own files: images with a list of labels, a table, or arrays.

What lies in the folder decides how it is read: ``records.npz``, ``records.csv``, or ``labels.csv``
beside ``images/``. Every fault names the file, the line and the way out.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from metaward.client.errors import DataError
from metaward.client.tasks.files import DataFile, frozen, stamp

ARRAYS, TABLE, LABELS, IMAGES = "records.npz", "records.csv", "labels.csv", "images"
EXAMPLE = "metaward data example DIR writes a folder as it must be"
DICOM = (".dcm", ".dicom")


class Columns(NamedTuple):
    """The names of the columns that say what a record is, whose it is and which file holds it."""

    label: str
    patient: str
    id: str
    file: str


@dataclass(frozen=True)
class RecordForm:
    """How records become the network's input: ``shape`` of one record; ``columns`` of a table with
    the centre and unit of each, and ``choices`` with the values of each column of words."""

    shape: tuple[int, ...]
    columns: tuple[tuple[str, float, float], ...]
    choices: tuple[tuple[str, ...], ...]
    named: Columns


class Read(NamedTuple):
    """Records in the order of the file: ``x`` (n, *shape) float32, ``labels``, ``patients`` and
    ``ids`` (n,) as text, ``stored`` (n, 32) the SHA-256 of each as it lies in the folder, and
    ``where`` (n,) the file and line of each, for errors."""

    x: NDArray[np.float32]
    labels: NDArray[np.str_]
    patients: NDArray[np.str_]
    ids: NDArray[np.str_]
    stored: NDArray[np.uint8]
    where: tuple[str, ...]


def read(folder: Path, form: RecordForm) -> Read:
    """All records of a folder; ``DataError`` where something is missing or wrong."""
    for name, reader in ((ARRAYS, _arrays), (TABLE, _table), (LABELS, _images)):
        if (folder / name).is_file():
            return reader(folder, form, stamps(folder))
    raise DataError(
        f"{folder} holds none of {ARRAYS}, {TABLE} and {LABELS} (with {IMAGES}/); {EXAMPLE}"
    )


def stamps(folder: Path) -> tuple[Any, ...]:
    """What changes when any file that is read changes."""
    names = [folder / name for name in (ARRAYS, TABLE, LABELS)]
    images = sorted((folder / IMAGES).iterdir()) if (folder / IMAGES).is_dir() else []
    return tuple((path.name, stamp(path)) for path in [*names, *images] if path.is_file())


# ---------------------------------------------------------------------------------- tables


def lines(path: Path, needed: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """(file and line, cells by column) of each record of a table in UTF-8 with a first line of
    names."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, strict=True)
            names = table.fieldnames or []
            missing = [name for name in needed if name not in names]
            if missing:
                raise DataError(
                    f"{path}, line 1: no column {', '.join(missing)}; it has {', '.join(names)}; "
                    "name the columns in client.tasks (label, patient, id, file, columns, choices)"
                )
            for row in table:
                where = f"{path}, line {table.line_num}"
                if None in row or None in row.values():
                    raise DataError(f"{where}: not as many cells as the first line has columns")
                yield where, {key: cell.strip() for key, cell in row.items()}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table in UTF-8 ({error})") from error


def _cell(where: str, row: dict[str, str], column: str) -> str:
    if not row[column]:
        raise DataError(f"{where}: column {column} is empty; fill it in, or leave the line out")
    return row[column]


def _named(where: str, row: dict[str, str], named: Columns, number: int) -> tuple[str, str, str]:
    """Label, patient and id of a record; one that names no patient is a patient of its own."""
    identity = _cell(where, row, named.id) if named.id in row else str(number)
    patient = _cell(where, row, named.patient) if named.patient in row else identity
    return _cell(where, row, named.label), patient, identity


def _number(where: str, row: dict[str, str], column: str) -> float:
    text = _cell(where, row, column)
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise DataError(f"{where}: column {column} holds {text!r}; it must be a finite number")
    return value


def _choice(where: str, row: dict[str, str], column: str, values: Sequence[str]) -> list[float]:
    text = _cell(where, row, column)
    if text not in values:
        raise DataError(
            f"{where}: column {column} holds {text!r}; client.tasks.choices knows "
            f"{', '.join(values)}"
        )
    return [float(text == value) for value in values]


@lru_cache(maxsize=64)
def _table(folder: Path, form: RecordForm, stamps: tuple[Any, ...]) -> Read:
    """``records.csv``: numbers are scaled by their column's centre and unit, words one-hot."""
    path, x, names, wheres, stored = folder / TABLE, [], [], [], []
    words = [choice[0] for choice in form.choices]
    needed = [*(name for name, _, _ in form.columns), *words, form.named.label]
    for number, (where, row) in enumerate(lines(path, needed)):
        features = [(_number(where, row, c) - centre) / unit for c, centre, unit in form.columns]
        for column, *values in form.choices:
            features += _choice(where, row, column, values)
        x.append(features)
        names.append(_named(where, row, form.named, number))
        wheres.append(where)
        stored.append(_digest("\x1f".join(row.values()).encode()))
    return _read(path, np.array(x, np.float32), names, stored, wheres)


# ---------------------------------------------------------------------------------- images


@lru_cache(maxsize=64)
def _images(folder: Path, form: RecordForm, stamps: tuple[Any, ...]) -> Read:
    """``labels.csv`` names the files in ``images/``; grey values become -1 to 1 by constants."""
    path, x, names, wheres, stored = folder / LABELS, [], [], [], []
    if len(form.shape) != 3 or form.shape[0] not in (1, 3):
        raise DataError(
            f"{folder} holds images, but client.tasks.shape is {list(form.shape)}; give "
            "[1, height, width] for grey ones or [3, height, width] for colours"
        )
    for number, (where, row) in enumerate(lines(path, [form.named.file, form.named.label])):
        file = folder / IMAGES / _cell(where, row, form.named.file)
        if not file.resolve().is_relative_to((folder / IMAGES).resolve()) or not file.is_file():
            raise DataError(f"{where}: {file} does not exist; the files lie in {folder / IMAGES}")
        x.append(_pixels(where, file, form.shape))
        names.append(_named(where, row, form.named, number))
        wheres.append(where)
        stored.append(_digest(file.read_bytes()))
    return _read(path, np.array(x, np.float32), names, stored, wheres)


def _pixels(where: str, file: Path, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The image as (channels, height, width), its lowest possible value -1 and its highest 1."""
    image = _dicom(where, file) if file.suffix.lower() in DICOM else _picture(where, file)
    channels, height, width = shape
    if channels == 3 or image.mode in ("RGB", "RGBA", "P", "CMYK", "LA", "1"):
        image = image.convert("RGB" if channels == 3 else "L")
    most = 65535.0 if image.mode.startswith("I") else 255.0
    if image.mode.startswith("I"):
        image = Image.fromarray(np.asarray(image).astype(np.float32))
    seen = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float32)
    seen = seen[None] if seen.ndim == 2 else np.moveaxis(seen, 2, 0)
    return (seen / most * 2 - 1).astype(np.float32)


def _picture(where: str, file: Path) -> Image.Image:
    try:
        with Image.open(file) as image:
            image.load()
            return image
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"{where}: {file} is no image that can be read ({error})") from error


def _dicom(where: str, file: Path) -> Image.Image:
    """Stored values after the file's own rescaling and window, as 16-bit grey values."""
    try:
        import pydicom
        from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
    except ImportError as error:
        raise DataError(
            f"{where}: {file} is DICOM; pip install 'metaward[dicom]' reads it"
        ) from error
    try:
        data = pydicom.dcmread(file)
        shown = apply_voi_lut(apply_modality_lut(data.pixel_array, data), data).astype(np.float64)
        low, high = _window(data)
    except Exception as error:  # pydicom raises whatever its decoders do
        raise DataError(f"{where}: {file} is no DICOM image that can be read ({error})") from error
    if shown.ndim != 2:
        raise DataError(f"{where}: {file} holds {shown.shape}; one grey frame a file is read")
    grey = np.clip((shown - low) / (high - low), 0, 1)
    grey = 1 - grey if data.get("PhotometricInterpretation") == "MONOCHROME1" else grey
    return Image.fromarray(np.round(65535 * grey).astype(np.uint16))


def _window(data: Any) -> tuple[float, float]:
    """The least and the most value that a file's own header allows: none is taken from pixels."""
    signed = int(data.get("PixelRepresentation", 0)) == 1
    bits = int(data.BitsStored)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    slope, intercept = float(data.get("RescaleSlope", 1)), float(data.get("RescaleIntercept", 0))
    ends = sorted((low * slope + intercept, high * slope + intercept))
    return ends[0], max(ends[1], ends[0] + 1)


# ---------------------------------------------------------------------------------- arrays


@lru_cache(maxsize=64)
def _arrays(folder: Path, form: RecordForm, stamps: tuple[Any, ...]) -> Read:
    """``records.npz``: ``x`` (n, *shape) numbers, ``y`` (n,), and ``patient`` and ``id`` (n,) where
    they are known."""
    path = folder / ARRAYS
    source = DataFile(ARRAYS, f"arrays x (n, *shape) and y (n,), perhaps patient and id; {EXAMPLE}")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            found = {key: archive[key] for key in archive.files}
    except Exception as error:  # numpy raises whatever its readers do
        raise source.damaged(path, f"it cannot be read ({error})") from error
    if not {"x", "y"} <= found.keys():
        raise source.damaged(path, f"it has the arrays {sorted(found)}, and needs x and y")
    n = len(found["y"])
    if found["x"].shape != (n, *form.shape):
        raise DataError(
            f"{path}: x has shape {found['x'].shape}; client.tasks.shape is {list(form.shape)} and "
            f"y has {n} labels, so it must be {(n, *form.shape)}"
        )
    x = found["x"].astype(np.float32)
    wrong = np.flatnonzero(~np.isfinite(x.reshape(n, -1)).all(axis=1))
    if len(wrong):
        raise DataError(f"{path}, row {wrong[0]}: x holds a value that is not finite")
    ids = found.get("id", np.arange(n)).astype(str)
    patients = found.get("patient", ids).astype(str)
    names = list(zip(found["y"].astype(str), patients, ids, strict=True))
    where = [f"{path}, row {k}" for k in range(n)]
    return _read(path, x, names, [_digest(one.tobytes()) for one in found["x"]], where)


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _read(
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
