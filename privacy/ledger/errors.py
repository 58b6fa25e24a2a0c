"""A ledger's errors: each has a fixed code for the server and a text for the hospital's log."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metaward.errors import BAD_INPUT, FAILED, MetawardError

CODES = frozenset(
    {
        "budget-spent",
        "ledger-busy",
        "ledger-damaged",
        "ledger-deal",
        "ledger-exists",
        "ledger-missing",
        "ledger-unit",
        "ledger-unwritable",
    }
)

OTHER_UNIT = (
    "{0} counts what each {1} spent, since its first charge; a run for unit {2} would be charged "
    "by another measure. Take part in runs for unit {1}; a new ledger is right only for records "
    "that were never in this one"
)
OTHER_DEAL = (
    "{0} counts what each {1} spent, of those into which the records were dealt at its first "
    "charge; this run deals them into others, and records that were one {1} would be parts of "
    "several. Take part in runs with that one's client.tasks and seed, on the same records; a new "
    "ledger is right only for records that were never in this one"
)


class LedgerError(MetawardError):
    """A ledger that cannot be used. ``code`` may leave the hospital, the text may not.

    A command's exit code is that of bad input where another path or ledger would help.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.exit_code = FAILED if code in ("ledger-damaged", "ledger-busy") else BAD_INPUT


class BudgetSpent(LedgerError):
    """Of ``asked`` keys, this number, ``keys``, have too little budget left; none was charged."""

    def __init__(self, text: str, keys: int, asked: int) -> None:
        super().__init__("budget-spent", text)
        self.keys = keys
        self.asked = asked


_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_UNWRITABLE = {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}


def translated(path: Path, error: sqlite3.Error | UnicodeDecodeError) -> LedgerError:
    """SQLite's complaint about the file at ``path`` as one of ours."""
    number = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the upper bytes only go into detail
    if number in _BUSY:
        return LedgerError("ledger-busy", f"{path}: another process holds the ledger ({error})")
    if number in _UNWRITABLE:
        text = f"{path}: cannot be written ({error}); look at its folder's space and permissions"
        return LedgerError("ledger-unwritable", text)
    return LedgerError(
        "ledger-damaged",
        f"{path}: not a ledger, or damaged ({error}); put back the newest backup and its key file",
    )


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Reading ``what``, as errors name it: where it is not what metaward writes, the error of any
    kind that Python meets becomes ``LedgerError``."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        text = f"{what} is not what metaward writes ({error!r:.200}); put back the newest copy"
        raise LedgerError("ledger-damaged", text) from error
