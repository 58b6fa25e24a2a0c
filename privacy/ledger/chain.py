"""The chain: each row holds the hash of the row before it, so that a changed row is noticed.

hash = SHA-256(previous hash (32 bytes) || row number (8 bytes, big-endian) || kind || 0 || body);
the first row's previous hash is 32 zero bytes. The hash involves no secret: somebody who may write
the file can recompute the whole chain, but cannot change a mark that somebody else has kept.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from typing import Any

from metaward.json_text import read_json
from metaward.options import compact
from metaward.privacy.ledger.errors import LedgerError, reading

GENESIS = bytes(32)
KINDS = frozenset({"init", "charge", "reply", "refusal"})
COLUMNS = "seq, kind, body, previous, hash"
NUMBERED, LAST = "WHERE seq = ?", "ORDER BY seq DESC"
"""Clauses for ``find``."""


@dataclass(frozen=True)
class ChainRow:
    """One row of the chain as it is stored; ``body`` is canonical JSON."""

    sequence: int
    kind: str
    body: bytes
    previous: bytes
    hash: bytes

    def intact(self) -> bool:
        """Whether the hash is that of the content."""
        try:
            return self.hash == digest(self.previous, self.sequence, self.kind, self.body)
        except (AttributeError, OverflowError, TypeError):  # of a table that is none of ours
            return False

    def content(self) -> dict[str, Any]:
        """The parsed body; ``LedgerError`` where it is not a JSON mapping."""
        with reading(f"row {self.sequence}"):
            return dict(read_json(self.body).items())


def canonical(value: object) -> bytes:
    """The one JSON text of a value. It must never change, because old hashes are hashes of it."""
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
    """Write the next row; it lasts once the caller's transaction is committed."""
    last = find(db, LAST)
    sequence, previous = (last.sequence + 1, last.hash) if last else (1, GENESIS)
    body = canonical(content)
    row = ChainRow(sequence, kind, body, previous, digest(previous, sequence, kind, body))
    db.execute("INSERT INTO entry VALUES (?, ?, ?, ?, ?)", astuple(row))
    return row


def find(db: sqlite3.Connection, clause: str, *values: object) -> ChainRow | None:
    """The first row that SQL's ``clause`` selects; None where there is none.

    ``LedgerError`` where the row was changed: nothing is ever built on such a row.
    """
    fields = db.execute(f"SELECT {COLUMNS} FROM entry {clause} LIMIT 1", values).fetchone()
    row = ChainRow(*fields) if fields else None
    if row is not None and not row.intact():
        raise LedgerError("ledger-damaged", f"row {row.sequence} is not what was once written")
    return row


def rows(db: sqlite3.Connection) -> Iterator[ChainRow]:
    """All rows in order, unchecked."""
    return (ChainRow(*fields) for fields in db.execute(f"SELECT {COLUMNS} FROM entry ORDER BY seq"))
