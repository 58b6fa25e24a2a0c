"""Check a whole ledger: the file, every hash of the chain, and every table computed from it.

What no check of the file alone can see is a tail that was cut off cleanly, or an older copy put
back: the rest is a perfect ledger. Only a mark that somebody else has kept shows it
(``Ledger.holds``).
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from metaward.privacy.ledger import chain, file
from metaward.privacy.ledger.chain import ChainRow
from metaward.privacy.ledger.errors import LedgerError
from metaward.privacy.ledger.history import (
    Answered,
    Charged,
    History,
    NotedRefusal,
    due,
    read_history,
)
from metaward.privacy.ledger.ledger import Ledger
from metaward.privacy.ledger.spend import text_of


def verify(path: Path) -> list[str]:
    """Everything that is wrong with the ledger at ``path``, one line a fault; [] for a sound one.

    Units are named by number only. Time and memory grow with the number of charges times the units
    that each of them touched.
    """
    faults: list[str] = []
    try:
        Ledger.open(path)
        with file.transaction(path, "DEFERRED") as db:
            for check in (_file_faults, _chain_faults, _content_faults):
                for fault in check(db):  # one by one: what was found stays if the file breaks off
                    faults.append(fault)
    except LedgerError as error:
        faults.append(str(error))
    return [*faults, *_key_faults(path)]


def _file_faults(db: sqlite3.Connection) -> Iterator[str]:
    """SQLite's own checks, and whether tables and triggers are those that we made."""
    found = [line for (line,) in db.execute("PRAGMA integrity_check")]
    yield from (f"file: {line}" for line in found if line != "ok")
    query = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"
    fresh = sqlite3.connect(":memory:")
    fresh.executescript(file.SCHEMA)
    ours, theirs = dict(fresh.execute(query)), dict(db.execute(query))
    fresh.close()
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            yield f"file: table or trigger {name!r} was added, removed or changed"


def _chain_faults(db: sqlite3.Connection) -> Iterator[str]:
    """Numbers without a gap, known kinds, every hash, every link."""
    previous, expected = chain.GENESIS, 1
    for row in chain.rows(db):
        if row.sequence != expected:
            yield f"row {row.sequence} stands where row {expected} should: rows are missing"
        if row.kind not in chain.KINDS or (row.kind == "init") != (row.sequence == 1):
            yield f"row {row.sequence}: kind {row.kind!r} does not belong there"
        if row.previous != previous:
            yield f"row {row.sequence} does not follow the row before it"
        if not row.intact():
            yield f"row {row.sequence} was changed: its hash is not that of its content"
        previous, expected = row.hash, row.sequence + 1


def _content_faults(db: sqlite3.Connection) -> Iterator[str]:
    """Does all that can be computed from the chain agree with what the tables hold?"""
    rows = list(chain.rows(db))
    bad = [row.sequence for row in rows if not _readable(rows[0], row)]
    if bad:
        yield f"rows {_some(bad)} cannot be read; the tables were not compared with the chain"
        return
    history = read_history(rows)
    yield from _guarantee_faults(history.charges)
    yield from _unit_faults(db, history.charges)
    yield from _total_faults(db, history)
    yield from _reply_faults(history)
    yield from _request_faults(db, history)
    yield from _refusal_faults(db, history.refusals)


def _readable(first: ChainRow, row: ChainRow) -> bool:
    try:
        read_history([first] if row is first else [first, row])
    except (KeyError, TypeError, ValueError):
        return False
    return True


def _guarantee_faults(charges: Sequence[Charged]) -> Iterator[str]:
    """All charges protect what the first one does: budgets of two units do not add up."""
    for charge in charges:
        if charge.protects != charges[0].protects:
            yield (
                f"row {charge.sequence} protects each {charge.protects}, in a ledger that counts "
                f"by {charges[0].protects}"
            )


def _unit_faults(db: sqlite3.Connection, charges: Sequence[Charged]) -> Iterator[str]:
    """The chain names each unit where it first appears, numbered in that order."""
    names: list[str] = []
    for charge in charges:
        names += charge.new
        strange = sorted(unit for unit in charge.units() if not 1 <= unit <= len(names))
        if strange:
            yield f"row {charge.sequence} charges units {_some(strange)}, which were never named"
    ours, theirs = dict(enumerate(names, 1)), dict(db.execute("SELECT id, name FROM unit"))
    yield from _differences("unit", ours, theirs)


def _total_faults(db: sqlite3.Connection, history: History) -> Iterator[str]:
    ours = {
        (unit, text_of(event)): event.count
        for unit, events in history.totals().items()
        for event in events
    }
    query = "SELECT unit, event, count FROM total"
    theirs = {(unit, event): count for unit, event, count in db.execute(query)}
    yield from _differences("total", ours, theirs)


def _reply_faults(history: History) -> Iterator[str]:
    """A reply has its charge before it, and a request is never answered twice."""
    charges = {charge.sequence: charge for charge in history.charges}
    answered: Counter[str] = Counter()
    for reply in history.replies:
        charge = charges.get(reply.charge)
        if charge is None or charge.sequence > reply.sequence:
            yield f"row {reply.sequence} is a reply without a charge before it"
            continue
        answered[charge.request.id] += 1
        if answered[charge.request.id] > 1:
            yield f"row {reply.sequence} answers a request that was answered before"


def _request_faults(db: sqlite3.Connection, history: History) -> Iterator[str]:
    """Each request's newest charge and its reply; the bytes that would be sent are those stored."""
    ids = {charge.sequence: charge.request.id for charge in history.charges}
    newest = {charge.request.id: charge.sequence for charge in history.charges}
    replies = {ids[r.charge]: _row_and_hash(r) for r in history.replies if r.charge in ids}
    ours = {id: (charge, *replies.get(id, (None, None))) for id, charge in newest.items()}
    query = "SELECT id, charge, answered, reply FROM request"
    theirs = {
        id: (charge, answered, None if reply is None else chain.sha256(reply).hex())
        for id, charge, answered, reply in db.execute(query)
    }
    yield from _differences("request", ours, theirs)


def _row_and_hash(reply: Answered) -> tuple[int, str]:
    return reply.sequence, reply.sha256


def _refusal_faults(db: sqlite3.Connection, refusals: Sequence[NotedRefusal]) -> Iterator[str]:
    """For every code and day the rows are exactly those that the count calls for."""
    noted: dict[tuple[str, str], list[int]] = {}
    for refusal in refusals:
        noted.setdefault((refusal.time[:10], refusal.code), []).append(refusal.count)
    rows = db.execute("SELECT day, code, count FROM refused")
    called_for = {(day, code): _due_up_to(count) for day, code, count in rows}
    yield from _differences("refused", noted, called_for)


def _due_up_to(count: int) -> list[int]:
    candidates = {*range(1, 65), *(1 << power for power in range(6, 63))}
    return sorted(number for number in candidates if number <= count and due(number))


def _differences(table: str, ours: Mapping[Any, Any], theirs: Mapping[Any, Any]) -> Iterator[str]:
    differing = [key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)]
    if differing:
        named = _some(sorted(differing, key=str))
        yield f"table {table}: {len(differing)} entries are not what the chain says: {named}"


def _some(numbers: Sequence[object]) -> str:
    shown = ", ".join(str(number) for number in numbers[:5])
    return shown if len(numbers) <= 5 else f"{shown} and {len(numbers) - 5} more"


def _key_faults(path: Path) -> Iterator[str]:
    key = file.key_path(path)
    if os.name == "posix" and key.exists() and key.stat().st_mode & 0o077:
        yield f"{key} can be read by other users; run: chmod 600 {key.name}"
