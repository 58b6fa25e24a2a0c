"""Opening data files at a hospital: find, check, read once, and report what is wrong.

Readers are cached per process by the caller with ``(path, stamp(path))`` as key, so that several
hospitals of one simulation share one read-only array, and an edited file is read again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from metaward.client.errors import DataError
from metaward.client.tasks.npz import read_arrays

Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class Layout:
    """The layout an array in a file must have: ``shape`` (None = any length) and dtype kind.

    ``kind`` is numpy's one-letter kind code ('u' unsigned, 'i' signed, 'U' text) followed by the
    item size in bytes, or by nothing when any size will do.
    """

    shape: tuple[int | None, ...]
    kind: str

    def fits(self, array: NDArray[Any]) -> bool:
        """True when ``array`` has this dtype and shape."""
        sizes = zip(array.shape, self.shape, strict=False)
        return (
            array.ndim == len(self.shape)
            and array.dtype.str.lstrip("<>=|").startswith(self.kind)
            and all(want in (None, have) for have, want in sizes)
        )

    def __str__(self) -> str:
        shape = ", ".join("n" if size is None else str(size) for size in self.shape)
        return f"({shape}) {self.kind}"


@dataclass(frozen=True)
class DataFile:
    """A file below the data folder: its name there, and where to get a good copy."""

    name: str
    origin: str

    def locate(self, root: Path | None) -> Path:
        """Path of this file below ``root``; ``DataError`` when there is none."""
        if root is None:
            raise DataError(
                f"{self.name} is needed, but no data folder is named: set data.root in the yaml "
                f"file or the environment variable METAWARD_DATA; the file is {self.origin}"
            )
        path = root / self.name
        if not path.is_file():
            raise DataError(
                f"{path} does not exist: put the file there, or point data.root or METAWARD_DATA "
                f"to the folder that holds {self.name}; it is {self.origin}"
            )
        return path

    def damaged(self, path: Path, what: str) -> DataError:
        """The error to raise when ``path`` is not what it should be."""
        return DataError(f"{path} is damaged: {what}; replace it by a good copy: {self.origin}")

    def read_npz(self, path: Path, layouts: Mapping[str, Layout]) -> dict[str, NDArray[Any]]:
        """Read the named arrays, read-only; ``DataError`` when one is missing or misshapen.

        Nothing is ever unpickled: a data file must not be able to run code.
        """
        try:
            arrays = read_arrays(path, layouts)
        except Exception as error:  # zipfile, zlib and numpy raise whatever they meet
            raise self.damaged(path, f"it cannot be read ({error})") from error
        if lacking := [name for name in layouts if name not in arrays]:
            raise self.damaged(path, f"it lacks an array ({', '.join(lacking)})")
        for name, layout in layouts.items():
            if not layout.fits(arrays[name]):
                have = f"{arrays[name].shape} {arrays[name].dtype}"
                raise self.damaged(path, f"array {name!r} is {have}, not {layout}")
        return {name: frozen(array) for name, array in arrays.items()}

    def check_md5(self, path: Path, expected: str) -> None:
        """Compare with a published MD5 checksum; ``DataError`` names what was found instead."""
        actual = md5(path, stamp(path))
        if actual != expected:
            raise self.damaged(path, f"its MD5 is {actual}, the published one is {expected}")


_read: ContextVar[set[Path] | None] = ContextVar("files that were read", default=None)


@contextmanager
def files_read() -> Iterator[set[Path]]:
    """The files that hospitals read while the block goes on, also where a reader's cache has them:
    every reader asks for the stamp of its file."""
    found: set[Path] = set()
    before = _read.set(found)
    try:
        yield found
    finally:
        _read.reset(before)


def stamp(path: Path) -> Stamp:
    """Modification time in ns, size in bytes and inode: with the path, a key for caches."""
    if (noted := _read.get()) is not None:
        noted.add(path)
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


@lru_cache(maxsize=64)
def md5(path: Path, stamp: Stamp) -> str:
    """MD5 of a file as 32 hex digits; computed once for each path and ``stamp``."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def lies_in(place: Path, file: Path) -> bool:
    """Whether the file is there, in the folder or below it; False for a name that none can have."""
    try:
        return file.resolve().is_relative_to(place.resolve()) and file.is_file()
    except (OSError, RuntimeError, ValueError):  # too long, a circle of links, a zero byte
        return False


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """The same array, read-only, because hospitals share it."""
    array.setflags(write=False)
    return array
