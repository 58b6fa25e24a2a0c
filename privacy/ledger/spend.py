"""Units and what they have spent: the tables computed from the chain, and the check of a budget.

A unit's name is the pseudonym of a key: the key's kind in clear (``record``, ``content``,
``patient``) and the HMAC-SHA256 of the whole key. Units are numbered in order of first use.
"""

from __future__ import annotations

import hmac
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache

from metaward.json_text import read_json
from metaward.privacy.event import (
    Budget,
    Charge,
    Event,
    Events,
    counted,
    merged,
    to_plain,
)
from metaward.privacy.ledger.bodies import read_event
from metaward.privacy.ledger.chain import canonical
from metaward.privacy.ledger.errors import BudgetSpent, LedgerError, reading

Allows = Callable[[Events, Events, Budget], bool]
"""(spent, new, budget) -> whether ``new`` may be added. Each kind of event occurs once in each."""

_KIND = re.compile(r"[a-z]{1,20}(?=:.)", re.DOTALL)
_TOTALS = """
SELECT unit, json_group_object(event, count) FROM total
WHERE unit IN (SELECT value FROM json_each(?)) GROUP BY unit
"""
_ADD = """
INSERT INTO total (unit, event, count) SELECT value, ?, ? FROM json_each(?) WHERE true
ON CONFLICT DO UPDATE SET count = count + excluded.count
"""
_NAME = "INSERT OR IGNORE INTO unit (name) SELECT value FROM json_each(?) ORDER BY key"
_NUMBERS = "SELECT name, id FROM unit WHERE name IN (SELECT value FROM json_each(?))"


def pseudonym(key: str, secret: bytes) -> str:
    """``kind:hmac`` of a key ``kind:identity``. The error text does not repeat the key."""
    kind = _KIND.match(key)
    if kind is None:
        text = f"a key of {len(key)} characters is not like record:<identity> or patient:<identity>"
        raise ValueError(text)
    code = hmac.digest(secret, key.encode("utf-8", "surrogatepass"), "sha256").hex()
    return f"{kind.group()}:{code}"


def check_charges(charges: Sequence[Charge], budget: Budget | None) -> None:
    """``ValueError`` for a budget that caps nothing, or a charge that some data would not pay."""
    if budget and not (0 < budget.epsilon < float("inf") and 0 < budget.delta < 1):
        text = f"epsilon = {budget.epsilon} at delta = {budget.delta} is no cap"
        raise ValueError(f"{text}: epsilon must be positive and finite, delta between 0 and 1")
    if not charges or not all(charge.keys and charge.events for charge in charges):
        raise ValueError("a charge without keys or without events would let data go unpaid")
    for charge in charges:
        twice = len(charge.keys) - len(set(charge.keys))
        if twice:
            text = f"{twice} of {len(charge.keys)} keys are twice in one charge: a unit that is in"
            raise ValueError(f"{text} one sum twice has twice the sensitivity, and must pay for it")


def under_pseudonyms(charges: Sequence[Charge], secret: bytes) -> list[Charge]:
    """The same charges with units' names instead of keys."""
    return [Charge(tuple(pseudonym(k, secret) for k in c.keys), c.events) for c in charges]


def entered(db: sqlite3.Connection, charges: Sequence[Charge]) -> tuple[dict[str, int], list[str]]:
    """The number of every named unit, and the names that are new in this ledger.

    New names get the next numbers, in order of appearance, if the caller's transaction succeeds.
    """
    names = list(dict.fromkeys(name for charge in charges for name in charge.keys))
    last = db.execute("SELECT COALESCE(MAX(id), 0) FROM unit").fetchone()[0]
    db.execute(_NAME, (json.dumps(names),))
    numbers: dict[str, int] = dict(db.execute(_NUMBERS, (json.dumps(names),)).fetchall())
    if not all(0 < number < 2**32 for number in numbers.values()):
        text = "the table of units has numbers that are never given; put back the newest copy"
        raise LedgerError("ledger-damaged", text)
    return numbers, [name for name in names if numbers[name] > last]


def text_of(event: Event) -> str:
    """The text by which the table of totals names this kind of event."""
    return canonical(to_plain(event.dp_event)).decode()


def spent_by(db: sqlite3.Connection, units: Iterable[int]) -> dict[int, Events]:
    """All that these units have spent."""
    read = cache(_read)  # many units have spent the same
    return {unit: read(text) for unit, text in db.execute(_TOTALS, (json.dumps(list(units)),))}


def _read(totals: str) -> Events:
    with reading("the table of totals"):
        counts = read_json(totals).items()
        return counted(read_event(read_json(text), count) for text, count in counts)


def check_budget(
    db: sqlite3.Connection,
    charges: Sequence[Charge],
    numbers: Mapping[str, int],
    budget: Budget | None,
    allows: Allows,
) -> None:
    """``BudgetSpent`` where any unit has too little left; ``allows`` is asked once for equal ones.

    None caps nothing.
    """
    if budget is None:
        return
    spent = spent_by(db, numbers.values())
    alike: dict[tuple[int, int], list[str]] = {}
    pairs = {name: (spent.get(numbers[name], ()), new) for name, new in merged(charges).items()}
    for name, (before, new) in pairs.items():
        alike.setdefault((id(before), id(new)), []).append(name)
    apart = [names for names in alike.values() if not allows(*pairs[names[0]], budget)]
    over = [name for names in apart for name in names]
    if over:
        raise BudgetSpent(_too_little(over, numbers, budget), len(over), len(numbers))


def add(db: sqlite3.Connection, charges: Sequence[Charge], numbers: Mapping[str, int]) -> None:
    """Add the charges to the units' totals."""
    for charge in charges:
        units = json.dumps([numbers[name] for name in charge.keys])
        for event in charge.events:
            db.execute(_ADD, (text_of(event), event.count, units))


def _too_little(over: Sequence[str], numbers: Mapping[str, int], budget: Budget) -> str:
    kinds = Counter(name.partition(":")[0] for name in over)
    named = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    cap = f"epsilon = {budget.epsilon:g} at delta = {budget.delta:g}"
    return f"{len(over)} of {len(numbers)} keys would exceed {cap} ({named}); nothing was charged"
