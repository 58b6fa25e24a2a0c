"""The ledger's operations. A request is charged, the charge committed, the reply computed, stored
and sent, in this order.

So a crash may lose budget but never privacy: whatever is computed was paid for before, and whatever
is sent was stored before.
"""

from __future__ import annotations

import getpass
import hmac
import os
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from metaward.privacy.description import ChargeDescription
from metaward.privacy.event import Budget, Charge, Mark
from metaward.privacy.ledger import chain, file, spend
from metaward.privacy.ledger.bodies import pack_charge, read_history
from metaward.privacy.ledger.errors import OTHER_DEAL, OTHER_UNIT, LedgerError, reading
from metaward.privacy.ledger.history import (
    NOTED,
    Entry,
    History,
    RequestKey,
)
from metaward.privacy.ledger.spend import Allows

_CODE = re.compile(r"[a-z]+(-[a-z]+)*")
_COUNT = """
INSERT INTO refused (day, code, count) VALUES (?, ?, 1)
ON CONFLICT DO UPDATE SET count = count + 1 RETURNING count
"""
_FIRST_CHARGE = "WHERE kind = 'charge' ORDER BY seq"
_LOST_REPLY = """
WHERE kind = 'reply' AND seq NOT IN (
    SELECT answered FROM request WHERE answered IS NOT NULL AND reply IS NOT NULL
) ORDER BY seq
"""
_CHARGE_OF = "WHERE seq = (SELECT charge FROM request WHERE id = ?)"
_REMEMBER = """
INSERT INTO request (id, charge) VALUES (?, ?) ON CONFLICT DO UPDATE SET charge = excluded.charge
"""
_STORE = """
INSERT INTO request (id, charge, answered, reply) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET answered = excluded.answered, reply = excluded.reply
"""


@dataclass(frozen=True)
class Ledger:
    """One hospital's ledger; ``create`` makes one and ``open`` opens one.

    It holds no connection: any number of threads and processes may use it at once.
    """

    path: Path
    id: str
    hospital: str
    secret: bytes = field(repr=False)

    # ------------------------------------------------------------------------- make, open

    @classmethod
    def create(cls, path: Path, hospital: str, who: str | None = None) -> Ledger:
        """A new ledger at ``path`` and its key file beside it; who made it and when is row 1.

        ``who`` defaults to the system's user. LedgerError ``ledger-exists`` where either file is
        there: a ledger is never overwritten.
        """
        if not hospital.strip():
            raise ValueError("hospital is empty: name the hospital that this ledger is of")
        ledger = cls(path, os.urandom(8).hex(), hospital, os.urandom(file.KEY_BYTES))
        names = {"ledger": ledger.id, "hospital": hospital, "who": who or _user()}
        stamp = {"format": file.FORMAT, "key": ledger._key_check(), "time": chain.now()}
        with file.made(path, ledger.secret) as db:
            chain.append(db, "init", names | stamp)
        return ledger

    @classmethod
    def open(cls, path: Path) -> Ledger:
        """The ledger at ``path``; LedgerError where it, or its key, is missing or damaged.

        This looks at the file's head only; ``verify`` checks all of it.
        """
        file.check_file(path)
        with file.connected(path) as db:
            first = _read_first(chain.find(db, chain.NUMBERED, 1))
        if not all(isinstance(first.get(key), str) for key in ("ledger", "hospital", "key")):
            raise LedgerError("ledger-damaged", f"{path} lacks its first row; put back a backup")
        ledger = cls(path, first["ledger"], first["hospital"], file.read_key(path))
        if first["key"] != ledger._key_check():
            text = f"{file.key_path(path)} is another ledger's key; put back the right one"
            raise LedgerError("ledger-damaged", text)
        return ledger

    # ------------------------------------------------------------------------------ write

    def charge(
        self,
        request: RequestKey,
        description: ChargeDescription,
        charges: Sequence[Charge],
        budget: Budget | None,
        allows: Allows,
        deal: str | None = None,
        code: str | None = None,
    ) -> Entry:
        """Pay for a request, before anything is computed; all keys are paid or none.

        A request that was answered before costs nothing and returns its stored reply. A request
        that was paid for but not answered (after a crash) uses its charge again: a reply is stored
        before it is sent, so nothing that was computed under that charge ever left. Where its price
        has changed since, it is charged anew.

        All charges of a ledger must protect the unit of its first charge (``ledger-unit``
        otherwise), because budgets of two units would be true for neither. Taking one record out of
        a clipped patient or task may reverse the clipped sum, which costs the record up to twice
        what the whole was charged; and a run that protects records costs a patient with k records
        up to k times as much.

        Where a unit is a task, ``deal`` names the tasks into which the hospital deals its records,
        in all rounds and not only in this one (``client.schedule``); else it is None. All charges
        must be for the first one's deal (``ledger-deal`` otherwise): in other tasks the records of
        one task would move several clipped updates, and pay for one. Only its keyed hash is kept.

        ``code`` is the SHA-256 of the bundle of code that asks, which the charge keeps as evidence;
        None: not known.

        ``allows(spent, new, budget)`` says whether one key may add ``new`` to ``spent``; it is
        called once for each distinct pair. ``BudgetSpent`` where a key may not. ``ValueError`` for
        a charge without keys or events, a key twice in one charge, or a budget that is no cap.
        Without a budget (mechanism none) nothing is refused, but the use is written down, and no
        budget will ever fit these keys again.
        """
        spend.check_charges(charges, budget)
        named = spend.under_pseudonyms(charges, self.secret)
        with file.transaction(self.path) as db:
            if entry := self._answered(db, request):
                return entry
            numbers, new = spend.entered(db, named)
            tasks = spend.pseudonym(f"deal:{deal}", self.secret) if deal else None
            content = pack_charge(request, description, budget, named, numbers, new, tasks, code)
            if entry := self._open(db, request, content):
                return entry
            self._check_measure(db, content)
            spend.check_budget(db, named, numbers, budget, allows)
            row = chain.append(db, "charge", content)
            spend.add(db, named, numbers)
            db.execute(_REMEMBER, (request.id, row.sequence))
        return Entry(request, self._mark(row))

    def answer(self, entry: Entry, reply: bytes) -> Entry:
        """Store the reply and return the entry with the one to send.

        Where another process was faster, that is its reply and ours is dropped: two replies with
        different noise would be two releases.
        """
        if not reply:
            raise ValueError("a reply is empty; there is nothing to store")
        with file.transaction(self.path) as db:
            known = self._answered(db, entry.request)
            if known is not None and known.reply is not None:
                return known
            if not self._holds(db, entry.mark):
                text = f"{self.path} was exchanged: it lacks row {entry.sequence}, the charge that"
                raise LedgerError("ledger-damaged", f"{text} paid for the reply; do not send it")
            body = {"charge": entry.sequence, "sha256": chain.sha256(reply).hex()}
            row = chain.append(db, "reply", body | {"time": chain.now()})
            values = (entry.request.id, entry.sequence, row.sequence, reply)
            db.execute(_STORE, values)
        return replace(entry, reply=reply, sent=self._mark(row))

    def refuse(self, code: str, reason: str, run: str = "", round: int = 0) -> None:
        """Note a refusal with the first 300 characters of its reason, which stay in the ledger.

        So that a flood cannot fill the disk, of each code and day the first 20 get a row and then
        the 32nd, 64th, 128th ...; each row holds its number.
        """
        if not _CODE.fullmatch(code) or len(code) > 40:
            raise ValueError(f"code = {code[:80]!r} is not made of words and hyphens (up to 40)")
        time = chain.now()
        with file.transaction(self.path) as db:
            (count,) = db.execute(_COUNT, (time[:10], code)).fetchall()[0]
            if count in NOTED:
                note = {"code": code, "reason": reason[:300], "run": run[:200], "round": round}
                chain.append(db, "refusal", note | {"count": count, "time": time})

    # ------------------------------------------------------------------------------- read

    def mark(self) -> Mark:
        """The end of the chain, for the server to remember."""
        with file.connected(self.path) as db:
            row = chain.find(db, chain.LAST)
        if row is None:
            raise LedgerError("ledger-damaged", f"{self.path} has no rows; put back a backup")
        return self._mark(row)

    def answered(self, request: RequestKey) -> Entry | None:
        """The entry of this request with its stored reply; None where there is no reply."""
        with file.connected(self.path) as db:
            return self._answered(db, request)

    def holds(self, mark: Mark) -> bool:
        """Whether this is a point of our chain; False after an older copy was put back."""
        with file.connected(self.path) as db:
            return self._holds(db, mark)

    def charged(self) -> bool:
        """Whether anything was ever charged here."""
        with file.connected(self.path) as db:
            return bool(db.execute("SELECT EXISTS (SELECT 1 FROM unit)").fetchone()[0])

    def history(self) -> History:
        """The content of the chain at one moment; it names units by pseudonyms only."""
        with file.transaction(self.path, "DEFERRED") as db:
            return read_history(chain.rows(db))

    # ------------------------------------------------------------------------------ inner

    def _key_check(self) -> str:
        """A keyed hash that shows another key, with which every record would look unspent."""
        return hmac.digest(self.secret, f"ledger {self.id}".encode(), "sha256").hex()

    def _mark(self, row: chain.ChainRow) -> Mark:
        return Mark(self.id, row.sequence, row.hash.hex())

    def _holds(self, db: sqlite3.Connection, mark: Mark) -> bool:
        if not 0 < mark.sequence < 2**63:
            return False
        row = chain.find(db, chain.NUMBERED, mark.sequence)
        return row is not None and self._mark(row) == mark

    def _answered(self, db: sqlite3.Connection, request: RequestKey) -> Entry | None:
        """The entry of a request that has a reply; ``LedgerError`` where one is changed or lost."""
        query = "SELECT answered, reply FROM request WHERE id = ? AND answered IS NOT NULL"
        stored = db.execute(query, (request.id,)).fetchone()
        if stored is None:
            self._check_replies(db)
            return None
        sequence, reply = stored
        row = chain.find(db, chain.NUMBERED, sequence)
        note = row.content() if row is not None and row.kind == "reply" else {}
        with reading(f"row {sequence}"):
            charge = chain.find(db, chain.NUMBERED, note.get("charge", 0))
        same = note.get("sha256") == chain.sha256(reply or b"").hex()
        if row and charge and charge.content().get("request") == asdict(request) and same:
            return Entry(request, self._mark(charge), reply, self._mark(row))
        text = f"{self.path}: the reply of row {sequence} is not what was stored; run `verify`"
        raise LedgerError("ledger-damaged", text)

    def _check_replies(self, db: sqlite3.Connection) -> None:
        """``LedgerError`` where a reply is lost: its request would be answered with fresh noise."""
        row = chain.find(db, _LOST_REPLY)
        if row is not None:
            text = f"{self.path} lost the reply of row {row.sequence}, which may have been sent"
            raise LedgerError("ledger-damaged", f"{text}; put back the newest copy")

    def _check_measure(self, db: sqlite3.Connection, content: dict[str, Any]) -> None:
        """``LedgerError`` where charges like the first one count by another unit or deal."""
        row = chain.find(db, _FIRST_CHARGE)
        first = row.content() if row else content
        with reading(f"row {row.sequence if row else 0}"):
            asked, settled = (c["description"]["protection"]["unit"] for c in (content, first))
        if asked != settled:
            raise LedgerError("ledger-unit", OTHER_UNIT.format(self.path, settled, asked))
        if content["deal"] != first.get("deal"):
            raise LedgerError("ledger-deal", OTHER_DEAL.format(self.path, settled))

    def _open(
        self, db: sqlite3.Connection, request: RequestKey, content: dict[str, Any]
    ) -> Entry | None:
        """The unanswered charge of the same request, if it paid for exactly the same."""
        row = chain.find(db, _CHARGE_OF, request.id)
        paid, price = row.content() if row else {}, ("request", "description", "payments", "deal")
        same = all(paid.get(key) == content[key] for key in price)
        return Entry(request, self._mark(row)) if row and same else None


def _read_first(row: chain.ChainRow | None) -> dict[str, Any]:
    try:
        return row.content() if row is not None and row.kind == "init" else {}
    except LedgerError:
        return {}


def _user() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container's user without a name
        return "unknown"
