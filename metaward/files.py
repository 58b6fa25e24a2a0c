"""Writing files so that they are complete or absent, even after a crash."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from metaward.errors import InputError


def usable(path: Path) -> Path:
    """The path itself; ``InputError`` for a name that no file can have, or a place that cannot be
    looked into."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:  # ValueError: it holds a zero byte
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{str(path)!r:.200}: {why}; name another file or folder") from error
    return path


def writable(place: Path) -> Path:
    """The path itself; ``InputError`` where no folder could be made of this name."""
    above = next(p for p in usable(place).absolute().parents if p.exists())
    if not above.is_dir():
        raise InputError(f"{place} cannot be written: {above} is a file; name another folder")
    if not place.exists() and not os.access(above, os.W_OK):
        raise InputError(f"{place} cannot be written: {above} lets nobody write; name another")
    return place


def write_synced(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Write a new file with these permissions (less the umask's); wait until it is on the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def replace_file(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Write a file so that readers see the old or the new one, never a part of it."""
    temporary = path.with_name(f".{path.name}.writing")
    temporary.unlink(missing_ok=True)  # a process that was killed left it
    write_synced(temporary, content, mode)
    temporary.replace(path)
    sync_folder(path.parent)


def write_private(path: Path, content: bytes) -> None:
    """Write a file as ``replace_file`` does; at no moment can anybody but its owner read it."""
    replace_file(path, content, 0o600)


def append_line(path: Path, text: str) -> None:
    """Add a line to a file that only grows, and wait until it is on the disk."""
    append_lines(path, [text])


def append_lines(path: Path, texts: Iterable[str]) -> None:
    """Add lines to a file that only grows, and wait once until all are on the disk.

    A last line that a crash cut short stays a line of its own and does not spoil the new ones.
    """
    new = "".join(text + "\n" for text in texts).encode()
    if not new:
        return
    with path.open("ab+") as file:
        torn = file.seek(0, os.SEEK_END) > 0 and not _ends_whole(file)
        file.write(b"\n" * torn + new)
        file.flush()
        os.fsync(file.fileno())


def _ends_whole(file: BinaryIO) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def sync_folder(folder: Path) -> None:
    """Make a rename durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
