"""Units and what they have spent: the working tables beside the chain, and the check of a budget.

A unit is one key's pseudonym: its kind in clear (``record``, ``content``, ``patient``) and the
HMAC-SHA256 of the whole key, numbered in order of first use.
"""

from __future__ import annotations

import hmac
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from metaward.privacy.event import Budget, Charge, Event, merged
from metaward.privacy.ledger.errors import BudgetSpent

Events = tuple[Event, ...]
Allows = Callable[[Events, Events, Budget], bool]
"""(spent, new, budget) -> may ``new`` be added? Events are merged: counts of equal ones summed."""

_KIND = re.compile(r"[a-z]{1,20}(?=:.)", re.DOTALL)
_TOTALS = """
SELECT unit, noise_multiplier, count, sampling_rate FROM total
WHERE unit IN (SELECT value FROM json_each(?)) ORDER BY unit, noise_multiplier, sampling_rate
"""
_ADD = """
INSERT INTO total (unit, noise_multiplier, count, sampling_rate) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET count = count + excluded.count
"""
_Raw = tuple[tuple[float, int, float], ...]


def pseudonym(key: str, secret: bytes) -> str:
    """``kind:hmac`` of a key ``kind:identity``. An error does not repeat the key."""
    kind = _KIND.match(key)
    if kind is None:
        text = f"a key of {len(key)} characters is not like record:<identity> or patient:<identity>"
        raise ValueError(text)
    code = hmac.digest(secret, key.encode("utf-8", "surrogatepass"), "sha256").hex()
    return f"{kind.group()}:{code}"


def check_charges(charges: Sequence[Charge], budget: Budget | None) -> None:
    """A charge without keys or events is a fault of the caller, and so is a key given twice."""
    if budget and not (0 < budget.epsilon < float("inf") and 0 < budget.delta < 1):
        text = f"epsilon = {budget.epsilon} at delta = {budget.delta} is no cap"
        raise ValueError(f"{text}: epsilon must be positive and finite, delta between 0 and 1")
    if not charges or not all(charge.keys and charge.events for charge in charges):
        raise ValueError("a charge without keys or without events would let data go unpaid")
    for charge in charges:
        twice = len(charge.keys) - len(set(charge.keys))
        if twice:
            text = (
                f"{twice} of {len(charge.keys)} keys stand twice in one charge: a unit that is in"
            )
            raise ValueError(f"{text} one sum twice has twice the sensitivity; price it as that")


def under_pseudonyms(charges: Sequence[Charge], secret: bytes) -> list[Charge]:
    """The same charges to units' names instead of keys; numbers become Python's own."""
    return [
        Charge(
            tuple(pseudonym(key, secret) for key in charge.keys),
            tuple(
                Event(float(e.noise_multiplier), int(e.count), float(e.sampling_rate))
                for e in charge.events
            ),
        )
        for charge in charges
    ]


def numbered(db: sqlite3.Connection, charges: Sequence[Charge]) -> dict[str, int]:
    """The number of every named unit; new ones follow the last, in order of appearance."""
    names = list(dict.fromkeys(name for charge in charges for name in charge.keys))
    query = "SELECT name, id FROM unit WHERE name IN (SELECT value FROM json_each(?))"
    known: dict[str, int] = dict(db.execute(query, (json.dumps(names),)).fetchall())
    last = db.execute("SELECT COALESCE(MAX(id), 0) FROM unit").fetchone()[0]
    new = [name for name in names if name not in known]
    return known | {name: last + i for i, name in enumerate(new, 1)}


def new_names(db: sqlite3.Connection, numbers: Mapping[str, int]) -> list[str]:
    """Those of the numbered units that the ledger has not met before, in order."""
    last = db.execute("SELECT COALESCE(MAX(id), 0) FROM unit").fetchone()[0]
    return sorted((name for name, id in numbers.items() if id > last), key=numbers.__getitem__)


def spent_by(db: sqlite3.Connection, units: Iterable[int]) -> dict[int, _Raw]:
    """(noise multiplier, count, sampling rate) of all that these units have spent."""
    found: dict[int, list[tuple[float, int, float]]] = {}
    for unit, *event in db.execute(_TOTALS, (json.dumps(list(units)),)):
        found.setdefault(unit, []).append((event[0], event[1], event[2]))
    return {unit: tuple(events) for unit, events in found.items()}


def check_budget(
    db: sqlite3.Connection,
    charges: Sequence[Charge],
    numbers: Mapping[str, int],
    budget: Budget | None,
    allows: Allows,
) -> None:
    """BudgetSpent where any unit has too little left. Equal cases are judged once."""
    if budget is None:  # no cap, but what was used stays written down
        return
    cases: dict[tuple[_Raw, Events], list[str]] = {}
    spent = spent_by(db, numbers.values())
    for name, new in merged(charges).items():
        cases.setdefault((spent.get(numbers[name], ()), new), []).append(name)
    over = [
        name
        for (old, new), names in cases.items()
        if not allows(tuple(Event(*raw) for raw in old), coalesced(new), budget)
        for name in names
    ]
    if over:
        raise BudgetSpent(_too_little(over, numbers, budget), len(over), len(numbers))


def add(db: sqlite3.Connection, charges: Sequence[Charge], numbers: Mapping[str, int]) -> None:
    """Enter new units, and add the charges to all totals."""
    new = [(numbers[name], name) for name in new_names(db, numbers)]
    db.executemany("INSERT INTO unit (id, name) VALUES (?, ?)", new)
    db.executemany(
        _ADD,
        [
            (numbers[name], event.noise_multiplier, event.count, event.sampling_rate)
            for charge in charges
            for name in charge.keys
            for event in charge.events
        ],
    )


def coalesced(events: Iterable[Event]) -> Events:
    """Counts of equal events summed, in one fixed order: composition does not depend on it."""
    counts: Counter[tuple[float, float]] = Counter()
    for event in events:
        counts[event.noise_multiplier, event.sampling_rate] += event.count
    return tuple(Event(noise, counts[noise, rate], rate) for noise, rate in sorted(counts))


def _too_little(over: Sequence[str], numbers: Mapping[str, int], budget: Budget) -> str:
    kinds = Counter(name.partition(":")[0] for name in over)
    named = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    cap = f"epsilon = {budget.epsilon:g} at delta = {budget.delta:g}"
    return f"{len(over)} of {len(numbers)} keys would exceed {cap} ({named}); nothing was charged"
