"""Check a whole ledger: the file, every hash of the chain, and every table computed from it.

No check of the file alone can find that the end was cut off cleanly or that an older copy was put
back, because the rest is a sound ledger. Only a mark that somebody else has kept shows it
(``Ledger.holds``).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from metaward.privacy.ledger import chain, file
from metaward.privacy.ledger.bodies import read_history
from metaward.privacy.ledger.chain import ChainRow
from metaward.privacy.ledger.errors import LedgerError
from metaward.privacy.ledger.history import NOTED, Charged, History
from metaward.privacy.ledger.ledger import Ledger
from metaward.privacy.ledger.spend import text_of


def verify(path: Path) -> list[str]:
    """Everything that is wrong with the ledger at ``path``, one line each; [] for a sound one.

    Units are named by number only. Time and memory grow with the number of charges times the units
    that each of them touched.
    """
    faults: list[str] = []
    try:
        Ledger.open(path)
        with file.transaction(path, "DEFERRED") as db:
            for check in (_file_faults, _chain_faults, _content_faults):
                for fault in check(db):  # one by one: faults are kept if reading fails later
                    faults.append(fault)
    except LedgerError as error:
        faults.append(str(error))
    return [*faults, *_key_faults(path)]


def _file_faults(db: sqlite3.Connection) -> Iterator[str]:
    """SQLite's own checks, and whether tables and triggers are those that we made."""
    lines = [line for (line,) in db.execute("PRAGMA integrity_check")]
    yield from (f"file: {line}" for line in lines if line != "ok")
    query = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"
    with closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(file.SCHEMA)
        ours, theirs = dict(fresh.execute(query)), dict(db.execute(query))
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            yield f"file: table or trigger {name!r} was added, removed or changed"


def _chain_faults(db: sqlite3.Connection) -> Iterator[str]:
    """Rows must be numbered without a gap, of a known kind, unchanged, and follow one another."""
    previous, expected = chain.GENESIS, 1
    for row in chain.rows(db):
        if row.sequence != expected:
            yield f"row {row.sequence} is where row {expected} should be: rows are missing"
        if row.kind not in chain.KINDS or (row.kind == "init") != (row.sequence == 1):
            yield f"row {row.sequence}: kind {row.kind!r} does not belong there"
        if row.previous != previous:
            yield f"row {row.sequence} does not follow the row before it"
        if not row.intact():
            yield f"row {row.sequence} was changed: its hash is not that of its content"
        previous, expected = row.hash, row.sequence + 1


def _content_faults(db: sqlite3.Connection) -> Iterator[str]:
    """Charges and replies that make no sense, and tables that are not what the chain says."""
    rows = list(chain.rows(db))
    bad = [row.sequence for row in rows if not _readable(rows[0], row)]
    if bad:
        yield f"rows {_some(bad)} cannot be read; the tables were not compared with the chain"
        return
    history = read_history(rows)
    yield from _charge_faults(history.charges)
    yield from _reply_faults(history)
    yield from _table_faults(db, history)


def _readable(first: ChainRow, row: ChainRow) -> bool:
    try:
        read_history([first] if row is first else [first, row])
    except LedgerError:
        return False
    return True


def _charge_faults(charges: Sequence[Charged]) -> Iterator[str]:
    """All charges must be for the first one's unit and deal, or budgets would not add up.

    They must pay for the noise of the sums that they describe, for units that have a name.
    """
    named = 0
    for charge in charges:
        unit, settled = charge.protection.unit, charges[0].protection.unit
        if unit != settled:
            yield (
                f"row {charge.sequence} protects each {unit}, in a ledger that counts by {settled}"
            )
        if charge.deal != charges[0].deal:
            yield f"row {charge.sequence} deals the records into other tasks than the first charge"
        if charge.noises() != charge.description.noises():
            yield f"row {charge.sequence} charges for other noise than its described sums have"
        named += len(charge.new)
        strange = sorted(unit for unit in charge.units() if not 1 <= unit <= named)
        if strange:
            yield f"row {charge.sequence} charges units {_some(strange)}, which were never named"


def _reply_faults(history: History) -> Iterator[str]:
    """A reply must follow its charge, and a request must not be answered twice."""
    requests = {charge.sequence: charge.request.id for charge in history.charges}
    answered: set[str] = set()
    for reply in history.replies:
        request = requests.get(reply.charge)
        if request is None or reply.charge > reply.sequence:
            yield f"row {reply.sequence} is a reply without a charge before it"
        elif request in answered:
            yield f"row {reply.sequence} answers a request that was answered before"
        else:
            answered.add(request)


# ------------------------------------------------------------------------ the working tables


def _table_faults(db: sqlite3.Connection, history: History) -> Iterator[str]:
    """Entries of the tables, named by their first columns, that are not what the chain says."""
    db.create_function("sha256_of", 1, lambda reply: reply and chain.sha256(reply).hex())
    db.create_function("noted_of", 1, lambda count: str([n for n in NOTED if n <= count]))
    for table, names, columns, computed in _tables(history):
        stored = set(db.execute(f"SELECT {columns} FROM {table}"))
        wrong = {row[0] if names == 1 else row[:names] for row in computed ^ stored}
        if wrong:
            named = _some(sorted(wrong, key=str))
            yield f"table {table}: {len(wrong)} entries are not what the chain says: {named}"


def _tables(history: History) -> Iterator[tuple[str, int, str, set[tuple[Any, ...]]]]:
    """Each table, how many columns name an entry, its columns, and what it must hold.

    Of replies it must hold the hashes, of refusals those that have a row.
    """
    names = [name for charge in history.charges for name in charge.new]
    yield "unit", 1, "id, name", set(enumerate(names, 1))
    text = cache(text_of)  # many units have spent the same
    totals = {(u, text(e), e.count) for u, all in history.totals().items() for e in all}
    yield "total", 2, "unit, event, count", totals
    ids = {charge.sequence: charge.request.id for charge in history.charges}
    newest = {id: charge for charge, id in ids.items()}
    replies = {ids[r.charge]: (r.sequence, r.sha256) for r in history.replies if r.charge in ids}
    requests = {(id, row, *replies.get(id, (None, None))) for id, row in newest.items()}
    yield "request", 1, "id, charge, answered, sha256_of(reply)", requests
    noted: dict[tuple[str, str], list[int]] = {}
    for refusal in history.refusals:
        noted.setdefault((refusal.time[:10], refusal.code), []).append(refusal.count)
    refused = {(*key, str(counts)) for key, counts in noted.items()}
    yield "refused", 2, "day, code, noted_of(count)", refused


def _some(numbers: Sequence[object]) -> str:
    shown = ", ".join(str(number) for number in numbers[:5])
    return shown if len(numbers) <= 5 else f"{shown} and {len(numbers) - 5} more"


def _key_faults(path: Path) -> Iterator[str]:
    key = file.key_path(path)
    if os.name == "posix" and key.exists() and key.stat().st_mode & 0o077:
        yield f"{key} can be read by other users; run: chmod 600 {key.name}"
