"""Reading MedMNIST files with the ``medmnist`` package's own loader, after checking their MD5.

Folders written by ``metaward phantom`` have the same layout and an index ``phantom.json`` with the
facts that ``medmnist.INFO`` holds for the published sets, so the same loader reads them.
"""

from __future__ import annotations

import http.client
import os
import urllib.request
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from metaward.client.errors import DataError
from metaward.client.tasks.base import IntArray
from metaward.client.tasks.files import DataFile, Layout, Stamp, frozen, md5, stamp
from metaward.client.tasks.medmnist_images import Projection
from metaward.client.tasks.medmnist_questions import first_shown
from metaward.client.tasks.medmnist_sets import (
    PHANTOMS,
    SIDE,
    Size,
    facts,
    info,
    suffix,
)
from metaward.client.tasks.npz import check_headers
from metaward.client.tasks.phantom_findings import FINDINGS
from metaward.json_text import read_json

Split = Literal["train", "val", "test"]

INDEX = "phantom.json"

# Rows of the published files, by MD5, whose image is also in train (for val and test), in test (for
# val) or in a row above.
# They are left out, so that no image is dealt to two hospitals, or both trained on and tested on.
# The list is fixed and public: looking for copies among a hospital's records would let the values
# of one record decide how all others are dealt, and no epsilon covers that. Other files were not
# looked through, and nothing is left out of them. At other sizes a row shows the same image, so the
# same rows of these two sets are left out there.
COPIES: Mapping[str, Mapping[Split, str]] = {
    "750601b1f35ba3300ea97c75c52ff8f6": {"test": "76"},  # breastmnist
    "28209eda62fecd6e6a2d98b1501bb15f": {  # pneumoniamnist
        "train": "1366 2254 2322 3170 3240 3365 3521 3561 3655 3781 3817 3874 4122 4204 4293 4422 "
        "4512 4590",
        "val": "61 105 172 236 244 253 302 473",
        "test": "311 401 538",
    },
}


class IndexEntry(TypedDict):
    """What the index must say about a set of phantoms; other keys may be there."""

    MD5: str
    label: Annotated[dict[str, str], Field(min_length=1)]
    n_channels: int
    n_samples: Annotated[dict[Split, Annotated[int, Field(ge=0)]], Field(min_length=3)]


_INDEXED = TypeAdapter(IndexEntry)


class Pool(NamedTuple):
    """One split of a data set, read-only.

    ``images`` (n, side, side), (n, side, side, 3) or (n, side, side, side) uint8, ``labels`` (n,)
    int64 in the order of the set's classes, ``ids`` (n,) text, the same at every size; ``stored``
    (n, ...) are the images, or the volumes behind them, as they lie in the file. ``shown`` (n,
    findings) says what each image shows, where that may be several findings at once.
    """

    images: NDArray[np.uint8]
    labels: IntArray
    ids: NDArray[np.str_]
    stored: NDArray[np.uint8]
    shown: NDArray[np.bool_] | None


def open_file(flag: str, size: Size, root: Path | None, download: bool) -> Path:
    """The path of a checked file, in ``root/medmnist`` or in ``root`` itself.

    If it is missing and ``download`` allows it, it is first downloaded into ``root/medmnist``.
    """
    file = _file(flag, size)
    direct = root / Path(file.name).name if root else None
    if direct and direct.is_file():
        path = direct
    else:
        if download and root and flag not in PHANTOMS and not (root / file.name).is_file():
            _fetch(file, flag, size, root)
        path = _located(file, flag, root)
    file.check_md5(path, _entry(flag, path)[f"MD5{suffix(size)}"])
    return path


@lru_cache(maxsize=32)
def read_pool(
    path: Path, stamp: Stamp, flag: str, split: Split, projection: Projection, size: Size
) -> Pool:
    """One split, checked against the public facts; volumes are projected to images."""
    known, (stored, labels) = facts(flag), _checked(path, flag, split, size)
    images = frozen(projection(stored)) if known.volumes else stored
    ids = np.array([f"{flag}/{split}/{row:06d}" for row in range(len(stored))])
    shown = frozen(labels.astype(bool)) if known.several else None
    classes = labels[:, 0].astype(np.int64) if shown is None else first_shown(shown)
    return Pool(images, frozen(classes), frozen(ids), stored, shown)


def _checked(
    path: Path, flag: str, split: Split, size: Size
) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """The images and labels of a split; ``DataError`` where they are not as published."""
    file, known, entry = _file(flag, size), facts(flag), _entry(flag, path)
    try:
        check_headers(path)  # the package would leave a broken archive open, and believe any size
        loader = _loader(flag, entry)
        loaded = loader(split=split, root=str(path.parent), download=False, size=size)
    except Exception as error:  # the package raises many types, even AssertionError
        raise file.damaged(path, f"medmnist cannot read it ({error!r})") from error
    count = entry["n_samples"][split]
    for name, array, layout in (
        (f"{split}_images", loaded.imgs, Layout((count, *known.stored_shape(size)), "u1")),
        (f"{split}_labels", loaded.labels, Layout((count, known.columns), "")),
    ):
        if not layout.fits(array):
            raise file.damaged(path, f"{name} is {array.shape} {array.dtype}, not {layout}")
    if not np.isin(loaded.labels, np.arange(known.highest + 1)).all():
        raise file.damaged(path, f"{split}_labels leave the range 0 to {known.highest}")
    return frozen(loaded.imgs), loaded.labels


def _located(file: DataFile, flag: str, root: Path | None) -> Path:
    """Where the file is; ``DataError`` for a missing one names other sizes that lie there."""
    try:
        return file.locate(root)
    except DataError as error:
        there = [size for size in facts(flag).sizes if root and _lies(flag, size, root)]
        if not there:
            raise
        names = ", ".join(Path(_file(flag, size).name).name for size in there)
        sizes = " or ".join(map(str, there))
        raise DataError(f"{error}. There is {names}: set client.tasks.size to {sizes}") from error


def _lies(flag: str, size: Size, root: Path) -> bool:
    name = Path(_file(flag, size).name)
    return (root / name).is_file() or (root / name.name).is_file()


def originals(flag: str, path: Path, split: Split) -> IntArray:
    """Rows of a split that are dealt: all but those in ``COPIES``."""
    entry = _entry(flag, path)
    copies = COPIES.get(entry["MD5"], {}).get(split, "").split()
    return np.setdiff1d(np.arange(entry["n_samples"][split]), np.array(copies, dtype=np.int64))


def _file(flag: str, size: Size = SIDE) -> DataFile:
    origin = (
        "written by `metaward phantom`"
        if flag in PHANTOMS
        else f"at {info()[flag][f'url{suffix(size)}']} , or have it fetched: in a simulation by "
        "client.tasks.download: true, at a deployed hospital by download=true in its node config"
    )
    return DataFile(f"medmnist/{flag}{suffix(size)}.npz", origin)


def _entry(flag: str, path: Path) -> Mapping[str, Any]:
    """The set's entry of ``medmnist.INFO``, or of the phantom index in the file's folder."""
    if flag not in PHANTOMS:
        return info()[flag]
    index = path.with_name(INDEX)
    if not index.is_file():
        raise _file(flag).damaged(path, f"the index {index} is missing")
    entry: Mapping[str, Any] = _read_index(index, stamp(index)).get(flag, {})
    try:
        _INDEXED.validate_python(entry, strict=True)
    except ValidationError as error:
        odd = ", ".join(
            sorted({str(fault["loc"][0]) if fault["loc"] else flag for fault in error.errors()})
        )
        raise _file(flag).damaged(
            index, f"{flag} lacks {odd}, or holds something else there"
        ) from error
    names = list(entry["label"].values())
    if names != list(FINDINGS)[: len(names)] or entry["n_channels"] != 1:
        raise _file(flag).damaged(index, f"{flag} has other classes or channels than phantoms have")
    return entry


@lru_cache(maxsize=4)
def _read_index(path: Path, stamp: Stamp) -> dict[str, Any]:
    try:
        entries = read_json(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}); write it again: metaward phantom") from error
    if not isinstance(entries, dict):
        raise DataError(f"{path} is damaged: no data sets; write it again: metaward phantom")
    return entries


def _loader(flag: str, entry: Mapping[str, Any]) -> Any:
    """The package's class for this set; phantoms are made known to the package by their flag."""
    import medmnist
    from medmnist.dataset import MedMNIST2D

    if flag not in PHANTOMS:
        return getattr(medmnist, entry["python_class"])
    medmnist.INFO[flag] = dict(entry)
    return type(flag, (MedMNIST2D,), {"flag": flag})


def _fetch(file: DataFile, flag: str, size: Size, root: Path) -> None:
    """Download a published file; it gets its name only when its MD5 is right."""
    path, entry = root / file.name, info()[flag]
    url, published = entry[f"url{suffix(size)}"], entry[f"MD5{suffix(size)}"]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}.{os.getpid()}.part")
    try:
        with urllib.request.urlopen(url, timeout=60) as web, part.open("wb") as out:
            while block := web.read(1 << 20):
                out.write(block)
        actual = md5(part, stamp(part))
        if actual != published:
            raise OSError(f"its MD5 is {actual}, the published one is {published}")
        part.replace(path)
    except (OSError, http.client.HTTPException) as error:
        raise DataError(
            f"{path} could not be downloaded from {url} ({error}); download it by hand "
            "to that place, and no download is tried"
        ) from error
    finally:
        part.unlink(missing_ok=True)
