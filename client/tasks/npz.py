"""Reading archives of arrays: nothing is unpickled, and no memory is taken on a header's word."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

DEFLATED = 1032
"""Deflate makes at most so many bytes of one: an entry that claims more is damaged."""
HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_arrays(path: Path, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Those of the named arrays that are in the archive; it may raise any exception where it is
    damaged, and ``ValueError`` where texts hold characters that there are not."""
    with zipfile.ZipFile(path) as archive:
        there = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
        return {name: _array(archive, there[name]) for name in names if name in there}


def check_headers(path: Path) -> None:
    """That every array in the archive is as long as its header says; it may raise any exception
    where one is not, or the archive is damaged."""
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            _check_entry(archive, entry)


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> NDArray[Any]:
    _check_entry(archive, entry)
    with archive.open(entry) as file:
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    if array.dtype.kind == "U":
        _check_text(entry.filename, array)
    return array


def _check_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    if entry.file_size > DEFLATED * (entry.compress_size + 1):
        raise ValueError(f"{entry.filename} claims {entry.file_size} bytes, which cannot be")
    with archive.open(entry) as file:
        _check_header(file, entry)


def _check_header(file: IO[bytes], entry: zipfile.ZipInfo) -> None:
    """``ValueError`` where the entry is not as long as the shape in its header says."""
    version = np.lib.format.read_magic(file)
    if version not in HEADERS:
        raise ValueError(f"{entry.filename} has version {version} of the format npy")
    shape, _, dtype = HEADERS[version](file)
    length = file.tell() + prod(shape) * dtype.itemsize
    if not dtype.hasobject and (length != entry.file_size or min(shape, default=0) < 0):
        raise ValueError(
            f"{entry.filename} has {entry.file_size} bytes; shape {shape} and {dtype} need {length}"
        )


def _check_text(name: str, array: NDArray[Any]) -> None:
    """``ValueError`` for numbers that are no characters."""
    plain = array.astype(array.dtype.newbyteorder("="), order="C")
    codes = np.frombuffer(plain.tobytes(), np.uint32)
    if ((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes < 0xE000))).any():
        raise ValueError(f"{name} holds text with characters that there are not")
