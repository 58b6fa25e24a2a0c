"""Reading MedMNIST files with the ``medmnist`` package's own loader, after checking their MD5.

Folders written by ``metaward phantom`` have the same layout and an index ``phantom.json`` with the
facts that ``medmnist.INFO`` holds for the published sets, so the same loader reads them.
The package is imported on first use, because that takes seconds and only this source needs it.
"""

from __future__ import annotations

import http.client
import json
import os
import urllib.request
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metaward.client.errors import DataError
from metaward.client.tasks.base import IntArray
from metaward.client.tasks.files import DataFile, Layout, Stamp, frozen, md5, stamp
from metaward.client.tasks.phantom_anatomy import MODALITIES
from metaward.client.tasks.phantom_findings import FINDINGS

Split = Literal["train", "val", "test"]

SIDE = 28
PHANTOMS = tuple(f"phantom{modality}" for modality in MODALITIES)
INDEX = "phantom.json"

# Rows of the published files, by MD5, whose image is also in train (for val and test), in test (for
# val) or in a row above.
# They are left out, so that no image is dealt to two hospitals, or both trained on and tested on.
# The list is fixed and public: looking for copies among a hospital's records would let the values
# of one record decide how all others are dealt, and no epsilon covers that. Other files were not
# looked through, and nothing is left out of them.
COPIES: Mapping[str, Mapping[Split, str]] = {
    "750601b1f35ba3300ea97c75c52ff8f6": {"test": "76"},  # breastmnist
    "28209eda62fecd6e6a2d98b1501bb15f": {  # pneumoniamnist
        "train": "1366 2254 2322 3170 3240 3365 3521 3561 3655 3781 3817 3874 4122 4204 4293 4422 "
        "4512 4590",
        "val": "61 105 172 236 244 253 302 473",
        "test": "311 401 538",
    },
}


@dataclass(frozen=True)
class Facts:
    """What is public about a data set: its class names and channels, and whether it is 3-D."""

    flag: str
    classes: tuple[str, ...]
    channels: int
    volumes: bool


@dataclass(frozen=True)
class Projection:
    """How a volume becomes an image: ``how`` along ``axis`` (0 to 2)."""

    how: Literal["mean", "max"]
    axis: int

    def __call__(self, volumes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(n, 28, 28, 28) -> (n, 28, 28)."""
        flat = volumes.max(self.axis + 1) if self.how == "max" else volumes.mean(self.axis + 1)
        image: NDArray[np.uint8] = np.round(flat).astype(np.uint8)
        return image


class Pool(NamedTuple):
    """One split of a data set, read-only.

    ``images`` (n, 28, 28) or (n, 28, 28, 3) uint8, ``labels`` (n,) int64, ``ids`` (n,) text;
    ``stored`` (n, ...) are the images, or the volumes behind them, as they lie in the file.
    """

    images: NDArray[np.uint8]
    labels: IntArray
    ids: NDArray[np.str_]
    stored: NDArray[np.uint8]


def facts(flag: str) -> Facts:
    """Public facts of a data set; ``ValueError`` for an unknown or multi-label one."""
    if flag in PHANTOMS:
        return Facts(flag, tuple(FINDINGS), 1, volumes=False)
    info = _info()
    allowed = [f for f in info if f not in PHANTOMS and "multi-label" not in info[f]["task"]]
    if flag in info and flag not in allowed:
        raise ValueError(
            f"datasets: {flag} is multi-label, an image may show several findings at once, so it "
            f"has no N-way tasks; allowed are {', '.join([*allowed, *PHANTOMS])}"
        )
    if flag not in allowed:
        raise ValueError(
            f"datasets: {flag} is unknown; allowed are {', '.join([*allowed, *PHANTOMS])}"
        )
    entry = info[flag]
    classes = tuple(entry["label"][str(i)] for i in range(len(entry["label"])))
    return Facts(flag, classes, entry["n_channels"], volumes=flag.endswith("3d"))


def open_file(flag: str, root: Path | None, download: bool) -> Path:
    """The path of a checked file, in ``root/medmnist`` or in ``root`` itself.

    If it is missing and ``download`` allows it, it is first downloaded into ``root/medmnist``.
    """
    file = _file(flag)
    direct = root / f"{flag}.npz" if root else None
    if direct and direct.is_file():
        path = direct
    else:
        if download and root and flag not in PHANTOMS and not (root / file.name).is_file():
            _fetch(file, flag, root)
        path = file.locate(root)
    file.check_md5(path, _entry(flag, path)["MD5"])
    return path


@lru_cache(maxsize=32)
def read_pool(path: Path, stamp: Stamp, flag: str, split: Split, projection: Projection) -> Pool:
    """One split, checked against the public facts; volumes are projected to images."""
    file, known, entry = _file(flag), facts(flag), _entry(flag, path)
    try:
        zipfile.ZipFile(path).close()  # the package would leave a broken archive open
        loaded = _loader(flag, entry)(split=split, root=str(path.parent), download=False)
    except Exception as error:  # the package raises many types, even AssertionError
        raise file.damaged(path, f"medmnist cannot read it ({error!r})") from error
    shape = (SIDE,) * (3 if known.volumes else 2) + ((3,) if known.channels == 3 else ())
    count = entry["n_samples"][split]
    for name, array, layout in (
        (f"{split}_images", loaded.imgs, Layout((count, *shape), "u1")),
        (f"{split}_labels", loaded.labels, Layout((count, 1), "")),
    ):
        if not layout.fits(array):
            raise file.damaged(path, f"{name} is {array.shape} {array.dtype}, not {layout}")
    labels = loaded.labels[:, 0]
    if not np.isin(labels, np.arange(len(known.classes))).all():
        what = f"{split}_labels leave the range 0 to {len(known.classes) - 1}"
        raise file.damaged(path, what)
    stored = frozen(loaded.imgs)
    images = frozen(projection(stored)) if known.volumes else stored
    ids = np.array([f"{flag}/{split}/{row:06d}" for row in range(count)])
    return Pool(images, frozen(labels.astype(np.int64)), frozen(ids), stored)


def originals(flag: str, path: Path, split: Split) -> IntArray:
    """Rows of a split that are dealt: all but those in ``COPIES``."""
    entry = _entry(flag, path)
    copies = COPIES.get(entry["MD5"], {}).get(split, "").split()
    return np.setdiff1d(np.arange(entry["n_samples"][split]), np.array(copies, dtype=np.int64))


def _info() -> dict[str, dict[str, Any]]:
    from medmnist import INFO

    return INFO  # type: ignore[no-any-return]


def _file(flag: str) -> DataFile:
    origin = (
        "written by `metaward phantom`"
        if flag in PHANTOMS
        else f"at {_info()[flag]['url']} , or have it fetched: in a simulation by "
        "client.tasks.download: true, at a deployed hospital by download=true in its node config"
    )
    return DataFile(f"medmnist/{flag}.npz", origin)


def _entry(flag: str, path: Path) -> Mapping[str, Any]:
    """The set's entry of ``medmnist.INFO``, or of the phantom index in the file's folder."""
    if flag not in PHANTOMS:
        return _info()[flag]
    index = path.with_name(INDEX)
    if not index.is_file():
        raise _file(flag).damaged(path, f"the index {index} is missing")
    entry: Mapping[str, Any] = _read_index(index, stamp(index)).get(flag, {})
    lacking = {"MD5", "label", "n_channels", "n_samples"} - set(entry)
    if lacking:
        raise _file(flag).damaged(index, f"{flag} lacks {', '.join(sorted(lacking))}")
    names = list(entry["label"].values())
    if names != list(FINDINGS)[: len(names)] or entry["n_channels"] != 1:
        raise _file(flag).damaged(index, f"{flag} has other classes or channels than phantoms have")
    return entry


@lru_cache(maxsize=4)
def _read_index(path: Path, stamp: Stamp) -> dict[str, Any]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
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


def _fetch(file: DataFile, flag: str, root: Path) -> None:
    """Download a published file; it gets its name only when its MD5 is right."""
    path, entry = root / file.name, _info()[flag]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{flag}.{os.getpid()}.part")
    try:
        with urllib.request.urlopen(entry["url"], timeout=60) as web, part.open("wb") as out:
            while block := web.read(1 << 20):
                out.write(block)
        actual = md5(part, stamp(part))
        if actual != entry["MD5"]:
            raise OSError(f"its MD5 is {actual}, the published one is {entry['MD5']}")
        part.replace(path)
    except (OSError, http.client.HTTPException) as error:
        raise DataError(
            f"{path} could not be downloaded from {entry['url']} ({error}); download it by hand "
            "to that place, and no download is tried"
        ) from error
    finally:
        part.unlink(missing_ok=True)
