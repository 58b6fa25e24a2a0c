"""Following a run of another process by new lines in the result folder's metrics files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from metaward.server.folder import Folder
from metaward.server.run import Observer
from metaward.server.stored import row_in


class Progress:
    """Hands new lines of metrics.jsonl, including the baselines', to an observer."""

    def __init__(self, folder: Folder, observe: Observer) -> None:
        self.folder, self.observe = folder, observe
        self.tails = {path: Tail.of(path) for path in self.files()}

    def files(self) -> list[Path]:
        """The metrics files that exist at the moment."""
        baselines = self.folder.path.glob("baselines/*/metrics.jsonl")
        own = self.folder.path / "metrics.jsonl"
        return [*([own] if own.exists() else []), *sorted(baselines)]

    def show(self) -> None:
        """Hand over the new lines."""
        for path in self.files():
            for row in self.tails.setdefault(path, Tail()).rows(path):
                self.observe(row)


@dataclass
class Tail:
    """The place in one file up to which it was read.

    A resumed run first replaces the file by the lines up to its checkpoint. ``before`` and
    ``inode`` describe the file before that: until it is replaced it holds no new lines, and
    afterwards the lines that it shares with the earlier file at its beginning are old.
    """

    before: bytes = b""
    inode: int | None = None
    offset: int | None = None

    @classmethod
    def of(cls, path: Path) -> Tail:
        """A tail that skips what the file holds already."""
        return cls(path.read_bytes(), path.stat().st_ino)

    def rows(self, path: Path) -> Iterator[dict[str, Any]]:
        """New whole lines, parsed; one that is damaged is left out."""
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_ino == self.inode:
                return
            if self.offset is None:
                pairs = zip(self.before.splitlines(keepends=True), file, strict=False)
                self.offset = sum(len(old) for old, _ in takewhile(_equal, pairs))
            file.seek(self.offset)
            whole = file.read().rpartition(b"\n")
        self.offset += len(whole[0]) + len(whole[1])
        yield from (row for line in whole[0].splitlines() if (row := row_in(line)) is not None)


def _equal(pair: tuple[bytes, bytes]) -> bool:
    return pair[0] == pair[1]
