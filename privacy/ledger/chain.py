"""Rows in which each holds the hash of the one before, so that none can be changed unnoticed.

hash = SHA-256(previous hash (32 bytes) || row number (8 bytes, big-endian) || kind || 0 || body);
the first row's previous hash is 32 zero bytes. The hash has no secret: who may write the file can
recompute all of it. What they cannot change is a mark that somebody else has kept.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from metaward.options import compact
from metaward.privacy.ledger.errors import LedgerError

GENESIS = bytes(32)
KINDS = frozenset({"init", "charge", "reply", "refusal"})


@dataclass(frozen=True)
class ChainRow:
    """One row of the chain as it is stored; ``body`` is canonical JSON."""

    sequence: int
    kind: str
    body: bytes
    previous: bytes
    hash: bytes

    def intact(self) -> bool:
        """Is the hash that of the content?"""
        return self.hash == digest(self.previous, self.sequence, self.kind, self.body)

    def content(self) -> dict[str, Any]:
        """The body, parsed; ValueError where it is no JSON mapping."""
        content = json.loads(self.body)
        if not isinstance(content, dict):
            raise ValueError(f"row {self.sequence} holds no mapping")
        return content


def canonical(value: object) -> bytes:
    """JSON of which there is one for each value. Old hashes are of it: it must never change."""
    return compact(value).encode("ascii")


def sha256(data: bytes) -> bytes:
    """SHA-256, 32 bytes."""
    return hashlib.sha256(data).digest()


def digest(previous: bytes, sequence: int, kind: str, body: bytes) -> bytes:
    """The hash of a row (32 bytes)."""
    return sha256(
        previous + sequence.to_bytes(8, "big", signed=True) + kind.encode() + b"\0" + body
    )


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def append(db: sqlite3.Connection, kind: str, content: Mapping[str, Any]) -> ChainRow:
    """Write the next row; the caller's transaction makes it last."""
    last = head(db)
    sequence, previous = (last.sequence + 1, last.hash) if last else (1, GENESIS)
    body = canonical(content)
    row = ChainRow(sequence, kind, body, previous, digest(previous, sequence, kind, body))
    db.execute(
        "INSERT INTO entry VALUES (?, ?, ?, ?, ?)", (sequence, kind, body, previous, row.hash)
    )
    return row


def head(db: sqlite3.Connection) -> ChainRow | None:
    """The last row, None in a new file; nothing is ever built on a row that was changed."""
    found = db.execute("SELECT * FROM entry ORDER BY seq DESC LIMIT 1").fetchone()
    return _checked(ChainRow(*found)) if found else None


def row_at(db: sqlite3.Connection, sequence: int) -> ChainRow | None:
    """The row of this number, None where there is none."""
    found = db.execute("SELECT * FROM entry WHERE seq = ?", (sequence,)).fetchone()
    return _checked(ChainRow(*found)) if found else None


def rows(db: sqlite3.Connection) -> Iterator[ChainRow]:
    """All rows in order, unchecked."""
    return (ChainRow(*found) for found in db.execute("SELECT * FROM entry ORDER BY seq"))


def _checked(row: ChainRow) -> ChainRow:
    if not row.intact():
        raise LedgerError("ledger-damaged", f"row {row.sequence} is not what was once written")
    return row
