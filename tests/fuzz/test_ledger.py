"""A hospital's ledger and its key file: flipped bytes, cut files, rows and tables rewritten.

A rewritten row may have the right hash again: the hash involves no secret.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from metaward.options import compact
from metaward.privacy.event import Charge, Mark
from metaward.privacy.ledger import Ledger, file, verify
from metaward.privacy.ledger.chain import GENESIS, digest
from tests.fuzz.damage import LEAVES, altered, damaged
from tests.fuzz.harness import Counted, fuzz, inputs, withstood
from tests.privacy.ledger.ledger_desk import CAP, RECORDS, STEPS, keys, pay, request, within

Rewrite = Callable[[sqlite3.Connection], None]
TABLES = {
    "entry": ("seq", "kind", "body", "previous", "hash"),
    "unit": ("id", "name"),
    "total": ("unit", "event", "count"),
    "request": ("id", "charge", "answered", "reply"),
    "refused": ("day", "code", "count"),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with an answered charge, an open one and a refusal."""
    path = tmp_path_factory.mktemp("good") / "ledger"
    ledger = Ledger.create(path, "north", "nobody")
    ledger.answer(pay(ledger, 1), b"reply")
    pay(ledger, 2, "bc")
    ledger.refuse("policy-steps", "too many")
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA page_size = 512")  # fewer bytes without a meaning, faster copies
        db.execute("VACUUM")
    return path


def use(path: Path) -> None:
    """All that is ever done with a ledger: each operation ends well or with a LedgerError."""
    verify(path)
    ledger = Ledger.open(path)
    for operation in (
        ledger.mark,
        ledger.history,
        ledger.charged,
        lambda: ledger.holds(Mark(ledger.id, 2, "00")),
        lambda: ledger.answered(request(1)),
        lambda: ledger.charge(request(2), RECORDS, [Charge(keys("bc"), (STEPS,))], CAP, within),
        lambda: ledger.answer(pay(ledger, 3, "c"), b"other"),
        lambda: ledger.refuse("policy-steps", "again"),
    ):
        withstood(operation)


def copied(good: Path, folder: Path) -> Path:
    """The ledger and its key at a fresh place, without anything that SQLite left there."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(good.parent, folder)
    return folder / good.name


@inputs(40, 700)
def test_damaged_files(number: int, counted: Counted, good: Path, tmp_path: Path) -> None:
    def read(content: bytes) -> None:
        path = copied(good, tmp_path / "copy")
        path.write_bytes(content)
        use(path)

    fuzz(number, damaged(good.read_bytes(), 8), read, counted, [b"", good.read_bytes()[:100]])


@inputs(10, 100)
def test_damaged_keys(number: int, counted: Counted, good: Path, tmp_path: Path) -> None:
    def read(content: bytes) -> None:
        path = copied(good, tmp_path / "copy")
        file.key_path(path).write_bytes(content)
        use(path)

    fuzz(number, damaged(file.key_path(good).read_bytes()), read, counted)


def rows_of(good: Path) -> list[tuple[str, Any]]:
    """Kind and body of each row of the chain."""
    with closing(sqlite3.connect(good)) as db:
        return [(k, json.loads(b)) for k, b in db.execute("SELECT kind, body FROM entry")]


def chained(rows: list[tuple[str, bytes]]) -> Rewrite:
    """Replaces the chain by these rows, with the hashes that they must have."""

    def write(db: sqlite3.Connection) -> None:
        db.executescript("DROP TRIGGER entry_stays; DROP TRIGGER entry_remains")
        db.execute("DELETE FROM entry")
        previous = GENESIS
        for number, (kind, body) in enumerate(rows, 1):
            hash = digest(previous, number, kind, body)
            db.execute(
                "INSERT INTO entry VALUES (?, ?, ?, ?, ?)", (number, kind, body, previous, hash)
            )
            previous = hash
        db.executescript(
            file.SCHEMA[
                file.SCHEMA.index("CREATE TRIGGER") : file.SCHEMA.index("CREATE TABLE unit")
            ]
        )

    return write


@st.composite
def chains(draw: st.DrawFn, good: list[tuple[str, Any]]) -> list[tuple[str, bytes]]:
    """The rows with the body or the kind of some changed, and hashes that agree."""
    rows = []
    changed = draw(st.sets(st.integers(0, len(good) - 1), min_size=1, max_size=2))
    for number, (kind, body) in enumerate(good):
        if number not in changed:
            rows.append((kind, compact(body).encode()))
            continue
        tree = draw(altered(body))
        text = draw(st.just(json.dumps(tree).encode()) | damaged(json.dumps(body).encode()))
        rows.append(
            (draw(st.sampled_from([kind, kind, "reply", "charge", "refusal", "odd"])), text)
        )
    return rows


@inputs(40, 700)
def test_rewritten_chains(number: int, counted: Counted, good: Path, tmp_path: Path) -> None:
    fuzz(
        number,
        chains(rows_of(good)),
        lambda rows: rewritten(good, tmp_path, chained(rows)),
        counted,
    )


@inputs(20, 300)
def test_rewritten_tables(number: int, counted: Counted, good: Path, tmp_path: Path) -> None:
    @st.composite
    def change(draw: st.DrawFn) -> tuple[str, str, object, int]:
        table = draw(st.sampled_from([*TABLES]))
        value = draw(LEAVES | st.binary(max_size=9) | st.sampled_from(["{}", "[1]", '{"kind": 1}']))
        return table, draw(st.sampled_from(TABLES[table])), value, draw(st.integers(0, 3))

    def read(change: tuple[str, str, object, int]) -> None:
        table, column, value, which = change

        def write(db: sqlite3.Connection) -> None:
            db.executescript("DROP TRIGGER entry_stays")
            where = f"{column} IN (SELECT {column} FROM {table} LIMIT 1 OFFSET {which})"
            with suppress(sqlite3.Error, OverflowError, UnicodeError):  # SQLite refuses some
                db.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (value,))

        rewritten(good, tmp_path, write)

    known = [("unit", "id", -1, 1), ("total", "event", False, 0)]
    fuzz(number, change(), read, counted, known)


def rewritten(good: Path, place: Path, write: Rewrite) -> None:
    path = copied(good, place / "copy")
    with closing(sqlite3.connect(path)) as db:
        write(db)
        db.commit()
    use(path)
