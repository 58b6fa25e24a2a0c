"""What the ledger's tests share: a simple accountant, requests, and a way to break a ledger."""

import hashlib
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from metaward.privacy.description import ChargeDescription, SumDescription
from metaward.privacy.event import Budget, Charge, Event, Protection, gaussian
from metaward.privacy.ledger import Entry, Events, Ledger, LedgerError, RequestKey, file, spend
from metaward.privacy.ledger.errors import CODES

STEPS = gaussian(2.0, 4)
"""Costs mu^2 = 4 / 2^2 = 1."""


def description(mechanism: str, unit: str, *events: Event) -> ChargeDescription:
    """Of a charge for these events; without any, for sums with the noise of ``STEPS``."""
    sums = [
        SumDescription(f"kind-{n}", 1.0, event.noise_multiplier, event.sampling_rate, 9.0, 4, 36, 4)
        for n, event in enumerate(events or (STEPS,))
        if event.noise_multiplier is not None
    ]
    return ChargeDescription(Protection(mechanism, unit), 2, 3, tuple(sums))


RECORDS, PATIENTS = description("sums", "record"), description("sums", "patient")
NOTHING = description("none", "none")
CAP = Budget(epsilon=3.0, delta=1e-5)
"""For ``within``, which reads epsilon as the cap on mu^2: three times ``STEPS``."""


def mu_squared(events: Events) -> float:
    return sum(event.count / event.noise_multiplier**2 for event in events)


def within(spent: Events, new: Events, budget: Budget) -> bool:
    """Exact in floating point for the numbers used here."""
    return mu_squared(spent) + mu_squared(new) <= budget.epsilon


def request(number: int, run: str = "run-1", purpose: str = "train", text: str = "") -> RequestKey:
    return RequestKey(run, number, purpose, hashlib.sha256(f"{number}{text}".encode()).hexdigest())


def keys(names: Iterable[Any]) -> tuple[str, ...]:
    return tuple(f"record:{name}" for name in names)


def pay(ledger: Ledger, number: int, names: Iterable[Any] = "ab", event: Event = STEPS) -> Entry:
    """Charge one request with one event for each named record."""
    charges = [Charge(keys(names), (event,))]
    said = description("sums", "record", event)
    return ledger.charge(request(number), said, charges, CAP, within)


def full(path: Path) -> Ledger:
    """A ledger with every kind of row: 1 init, 2 charge, 3 reply, 4 refusal, 5 charge, 6 reply,
    7 charge (unanswered)."""
    ledger = Ledger.create(path, "phantom-01")
    ledger.answer(pay(ledger, 1, "abc"), b"reply one")
    ledger.refuse("bad-request", "no such purpose")
    ledger.answer(pay(ledger, 2, "bcd"), b"reply two")
    pay(ledger, 3, "a")
    return ledger


def spent(ledger: Ledger, key: str) -> Events:
    """All that this key was ever charged, by the working tables; () for an unknown key."""
    name = spend.pseudonym(key, ledger.secret)
    with file.transaction(ledger.path, "DEFERRED") as db:
        found = db.execute("SELECT id FROM unit WHERE name = ?", (name,)).fetchone()
        return spend.spent_by(db, found).get(found[0], ()) if found else ()


def vandal(path: Path, *statements: str, values: tuple[object, ...] = ()) -> None:
    """Change the file as somebody would who knows SQL: the triggers go and come back."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA synchronous = OFF")
        query = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
        triggers = dict(db.execute(query).fetchall())
        for name in triggers:
            db.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            db.execute(statement, values)
        for sql in triggers.values():
            db.execute(sql)


def read(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(query).fetchall()


def code_of(error: pytest.ExceptionInfo[LedgerError]) -> str:
    """The error's code, if it is one that may leave."""
    assert error.value.code in CODES
    return error.value.code
