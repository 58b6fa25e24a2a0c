"""The ledger's two files: an SQLite database and the key under which identities are hashed.

Every operation has a connection of its own, so a ledger may be used from any thread and across a
fork. Nothing here opens the database as a plain file: closing such a file would drop the locks that
SQLite holds in the same process.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

from metaward.privacy.ledger.errors import LedgerError, translated

FORMAT = 3
APPLICATION = 0x6D776C67
"""SQLite's application id of our files ("mwlg")."""
BUSY_SECONDS = 60.0
KEY_BYTES = 32

SCHEMA = """
CREATE TABLE entry (
    seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, body BLOB NOT NULL,
    previous BLOB NOT NULL, hash BLOB NOT NULL
) STRICT;
CREATE TRIGGER entry_stays BEFORE UPDATE ON entry
    BEGIN SELECT RAISE(ABORT, 'rows of a ledger are never changed'); END;
CREATE TRIGGER entry_remains BEFORE DELETE ON entry
    BEGIN SELECT RAISE(ABORT, 'rows of a ledger are never deleted'); END;
CREATE TABLE unit (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE total (
    unit INTEGER NOT NULL, event TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (unit, event)
) STRICT, WITHOUT ROWID;
CREATE TABLE request (
    id TEXT PRIMARY KEY, charge INTEGER NOT NULL, answered INTEGER, reply BLOB
) STRICT;
CREATE TABLE refused (
    day TEXT NOT NULL, code TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (day, code)
) STRICT, WITHOUT ROWID;
"""
"""``entry`` is the ledger. All other tables can be computed from it, except the replies' bytes."""


def key_path(path: Path) -> Path:
    """The key file of the ledger at ``path``: the same name with ``.key`` added."""
    return path.with_name(path.name + ".key")


@contextmanager
def made(path: Path, key: bytes) -> Iterator[sqlite3.Connection]:
    """A transaction that writes the first row of a new ledger at ``path``, which has this key.

    The ledger appears with that row or not at all, whenever the process is killed: it is made under
    another name, its key file is put down, and then it gets its own name. What an earlier try left
    under the other name was never used by anybody, nor was the key that belongs to it.
    """
    making = path.with_name(f".{path.name}.making")
    with _alone(path) as folder:
        if making.exists() and not path.exists():
            _remove(path, making)
        for file in (path, key_path(path)):
            if file.exists():
                text = f"{file} exists already; a ledger is never overwritten: choose another name"
                raise LedgerError("ledger-exists", text)
        try:
            with _empty(making) as db:
                yield db
            _create(key_path(path), key)
            making.rename(path)
            os.fsync(folder)
        except OSError as error:
            _remove(path, making)
            raise LedgerError("ledger-unwritable", f"{path}: cannot be made ({error})") from error
        except LedgerError:
            _remove(path, making)
            raise


@contextmanager
def _alone(path: Path) -> Iterator[int]:
    """The folder of a ledger, opened, while no other process makes a ledger in it."""
    try:
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise LedgerError("ledger-unwritable", f"{path}: cannot be made ({error})") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(folder)


@contextmanager
def _empty(making: Path) -> Iterator[sqlite3.Connection]:
    """A transaction in a new file with the tables of a ledger."""
    _create(making, b"")
    stamp = f"PRAGMA user_version = {FORMAT}; PRAGMA application_id = {APPLICATION};"
    with connected(making) as db:
        db.executescript(f"BEGIN; {SCHEMA} {stamp} COMMIT;")
    with transaction(making) as db:
        yield db


def _remove(path: Path, making: Path) -> None:
    """Take back what a try to make a ledger has left; its own name it did not get."""
    journal = making.with_name(f"{making.name}-journal")
    for left in (key_path(path), journal, making):  # what tells of the try goes last
        left.unlink(missing_ok=True)


def read_key(path: Path) -> bytes:
    """The key of the ledger at ``path``; without it no record's budget can be found."""
    try:
        key = key_path(path).read_bytes()
    except OSError as error:
        text = f"{key_path(path)} cannot be read ({error.strerror}); without it the ledger cannot"
        raise LedgerError("ledger-missing", f"{text} be used: put it back") from error
    if len(key) != KEY_BYTES:
        text = f"{key_path(path)} holds {len(key)} bytes, not {KEY_BYTES}; put back the right one"
        raise LedgerError("ledger-damaged", text)
    return key


def check_file(path: Path) -> None:
    """``LedgerError``, which says what to do, unless this version can read the ledger."""
    if path.is_file() and path.stat().st_size == 0:
        raise LedgerError("ledger-damaged", f"{path} is empty; put back the newest backup")
    with connected(path) as db:
        application = db.execute("PRAGMA application_id").fetchone()[0]
        version = db.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION:
        raise LedgerError("ledger-damaged", f"{path} is another program's database, not a ledger")
    if version != FORMAT:
        text = f"{path} has format {version}, this version reads {FORMAT}; use the one that made it"
        raise LedgerError("ledger-damaged", text)


@contextmanager
def connected(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection for one operation; the file must be there, and SQLite's errors become ours.

    ``EXTRA`` and not ``FULL``: with a rollback journal, FULL does not sync the folder after the
    journal's removal, so that a power cut could take back a commit after the reply was sent.
    """
    if not path.is_file():
        raise _missing(path)
    uri = f"{path.resolve().as_uri()}?mode=rw"
    try:
        opened = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
        with closing(opened) as db:
            db.execute("PRAGMA synchronous = EXTRA")
            db.execute("PRAGMA fullfsync = 1")
            yield db
    except (sqlite3.Error, UnicodeDecodeError) as error:  # texts of the file, in its errors too
        raise translated(path, error) from error


@contextmanager
def transaction(
    path: Path, mode: Literal["IMMEDIATE", "DEFERRED"] = "IMMEDIATE"
) -> Iterator[sqlite3.Connection]:
    """One transaction: an error inside it closes the connection, which undoes everything in it."""
    with connected(path) as db:
        db.execute(f"BEGIN {mode}")
        yield db
        db.execute("COMMIT")


def _create(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(handle)


def _missing(path: Path) -> LedgerError:
    if key_path(path).exists():
        text = f"{path} is missing, but its key file exists; put the ledger back from a backup"
    else:
        text = f"there is no ledger at {path}; make one with `ledger init`, or correct the path"
    return LedgerError("ledger-missing", text)
