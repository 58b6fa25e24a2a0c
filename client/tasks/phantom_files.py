"""Phantom data as files: MedMNIST's layout, so that MedMNIST's own loader reads them.

There is one ``phantom<modality>.npz`` for each modality with the six arrays of Yang et al. (2023,
"MedMNIST v2: a large-scale lightweight benchmark for 2D and 3D biomedical image classification"),
and an index ``phantom.json`` with the entries that ``medmnist.INFO`` has for a published set.
Official splits keep their meaning: ``train`` and ``val`` come from meta-training hospitals (no
patient in both), ``test`` from unseen hospitals, with findings that neither of them has when
``novel`` > 0. Hospitals set aside for validation go to ``val`` as a whole.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaward.client.errors import DataError
from metaward.client.tasks.phantom import NAMES, Phantom, Ward, draw_ward

INDEX = "phantom.json"
VAL_SHARE = 0.1  # of the patients of each meta-training hospital
EPOCH = (1980, 1, 1, 0, 0, 0)  # the time every archive entry carries: equal data, equal bytes

Arrays = dict[str, NDArray[np.uint8]]


def write_phantom(
    directory: Path, source: Phantom, seed: int, overwrite: bool = False
) -> tuple[Path, ...]:
    """Write every hospital of ``source`` into ``directory``: a file per modality, and an index.

    Returns the paths, the index last. Each file appears complete or not at all, and the index
    appears after the files that it describes. Entries are stored without compression and without a
    clock time, so the same options and seed give the same bytes and MD5 on the same numpy and
    processor (another one may round a grey value differently). ``DataError`` when a file of other
    content is there already and ``overwrite`` is false, or when a split would be empty; nothing is
    written then.
    """
    files, index = {}, {}
    for modality in source.modalities:
        arrays = pooled(source, modality, seed)
        flag = f"phantom{modality}"
        files[f"{flag}.npz"] = archive(arrays)
        index[flag] = describe(flag, source, arrays, seed, files[f"{flag}.npz"])
    files[INDEX] = (json.dumps(index, indent=2) + "\n").encode()
    if not overwrite:
        _refuse_clashes(directory, files)
    directory.mkdir(parents=True, exist_ok=True)
    return tuple(_write(directory / name, content) for name, content in files.items())


def pooled(source: Phantom, modality: str, seed: int) -> Arrays:
    """The six MedMNIST arrays: images (n, 28, 28) and labels (n, 1), uint8, of each split."""
    parts: dict[str, list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]]
    parts = {"train": [], "val": [], "test": []}
    for index, seat in enumerate(source.roster()):
        ward = draw_ward(source, index, seed)
        own = ward.modality == modality
        held_out = own & _val_patients(ward)
        splits = {
            "train": {"train": own & ~held_out, "val": held_out},
            "unseen": {"test": own},
            "validation": {"val": own},
        }
        for name, rows in splits[seat.role].items():
            parts[name].append((ward.x[rows], ward.y[rows, None].astype(np.uint8)))
    _refuse_empty(modality, parts)
    return {
        f"{name}_{what}": np.concatenate([part[k] for part in parts[name]])
        for k, what in enumerate(("images", "labels"))
        for name in parts
    }


def describe(
    flag: str, source: Phantom, arrays: Arrays, seed: int, content: bytes
) -> dict[str, Any]:
    """The entry of a set in the format of ``medmnist.INFO``, with the MD5 of the file's content."""
    return {
        "python_class": flag,
        "description": (
            f"Made-up {flag.removeprefix('phantom')} images of {source.hospitals} meta-training "
            f"hospitals (train, val) and {source.unseen} unseen ones (test), seed {seed}. "
            "No patient was ever imaged: not for medical use."
        ),
        "url": "written by metaward phantom",
        "MD5": hashlib.md5(content, usedforsecurity=False).hexdigest(),
        "task": "multi-class",
        "label": {str(c): name for c, name in enumerate(NAMES[: source.findings + source.novel])},
        "n_channels": 1,
        "n_samples": {name: len(arrays[f"{name}_labels"]) for name in ("train", "val", "test")},
        "license": "same as metaward",
    }


def archive(arrays: Arrays) -> bytes:
    """The bytes of an uncompressed ``.npz`` with a fixed time on every entry."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        for name, array in arrays.items():
            entry = io.BytesIO()
            np.lib.format.write_array(entry, array, allow_pickle=False)
            file.writestr(zipfile.ZipInfo(f"{name}.npy", EPOCH), entry.getvalue())
    return buffer.getvalue()


def _val_patients(ward: Ward) -> NDArray[np.bool_]:
    """Which records (n,) belong to the last tenth of the hospital's patients."""
    _, first, who = np.unique(ward.patients, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    return order[who] >= (1 - VAL_SHARE) * len(first)


def _refuse_empty(modality: str, parts: dict[str, list[Any]]) -> None:
    """``DataError`` for a split without images, which a reader would take for a damaged file."""
    for name, pieces in parts.items():
        if not sum(len(images) for images, _ in pieces):
            key = "unseen" if name == "test" else "hospitals"
            raise DataError(
                f"phantom{modality}.npz would have no {name} images; raise {key} to at least the "
                "number of modalities, or name fewer modalities"
            )


def _refuse_clashes(directory: Path, files: dict[str, bytes]) -> None:
    """``DataError``, before anything is written, if a file of other content is in the way."""
    clashes = [name for name in files if _differs(directory / name, files[name])]
    if clashes:
        raise DataError(
            f"{directory} already holds {', '.join(clashes)} with other content; "
            "name another folder, or replace them with overwrite"
        )


def _differs(path: Path, content: bytes) -> bool:
    return path.exists() and (not path.is_file() or path.read_bytes() != content)


def _write(path: Path, content: bytes) -> Path:
    """Write under another name, then rename, so that a reader never sees half a file."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path
