"""The bodies of the chain's rows: written as plain data, and read back strictly.

A body that is not what would be written is a ``LedgerError``, whatever is wrong with it: a ledger
is a file, and nothing is ever built on a row that means something else.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple
from math import inf
from typing import Any, TypeVar, get_type_hints

import numpy as np
from pydantic import TypeAdapter

from metaward.privacy.description import ChargeDescription
from metaward.privacy.event import Budget, Charge, Event, Mark, from_plain, to_plain
from metaward.privacy.ledger.chain import ChainRow, now
from metaward.privacy.ledger.errors import LedgerError, reading
from metaward.privacy.ledger.history import (
    Answered,
    Charged,
    History,
    NotedRefusal,
    Payment,
    RequestKey,
)

Noted = TypeVar("Noted")

_DESCRIPTION = TypeAdapter(ChargeDescription)


def pack_charge(
    request: RequestKey,
    description: ChargeDescription,
    budget: Budget | None,
    named: Sequence[Charge],
    numbers: Mapping[str, int],
    new: Sequence[str],
    deal: str | None,
    code: str | None = None,
) -> dict[str, Any]:
    """The body of a charge. ``new`` names the units that were never charged before.

    ``code`` is in it only where it is known, so that a ledger without a gate has the rows that it
    always had.
    """
    payments = [
        {
            "events": [[to_plain(e.dp_event), e.count] for e in charge.events],
            "units": _packed(sorted(numbers[name] for name in charge.keys)),
        }
        for charge in named
    ]
    return {
        "request": asdict(request),
        "description": _DESCRIPTION.dump_python(description, mode="json"),
        "budget": budget and astuple(budget),
        "payments": payments,
        "new": new,
        "deal": deal,
        "time": now(),
    } | ({} if code is None else {"code": code})


def read_history(rows: Iterable[ChainRow]) -> History:
    """Rows as values; ``LedgerError`` where there is none, or a body is not ours."""
    there = [*rows]
    if not there:
        raise LedgerError("ledger-damaged", "there is no row; put back the newest copy")
    first, *rest = there
    last = rest[-1] if rest else first
    with reading(f"row {first.sequence}"):
        start = first.content()
        ledger, hospital, who, created = (
            _text(start[key]) for key in ("ledger", "hospital", "who", "time")
        )
        mark = Mark(ledger, last.sequence, last.hash.hex())
    return History(
        mark,
        hospital,
        who,
        created,
        tuple(_charged(row) for row in rest if row.kind == "charge"),
        tuple(_noted(Answered, row) for row in rest if row.kind == "reply"),
        tuple(_noted(NotedRefusal, row) for row in rest if row.kind == "refusal"),
    )


def _noted(kind: type[Noted], row: ChainRow) -> Noted:
    with reading(f"row {row.sequence}"):
        return _made(kind, {"sequence": row.sequence, **row.content()})


def _made(kind: type[Noted], values: Mapping[str, Any]) -> Noted:
    """A value of texts and whole numbers; ``TypeError`` where there are others."""
    if {name: type(value) for name, value in values.items()} != get_type_hints(kind):
        raise TypeError(f"a field of {kind.__name__} is missing or has another type")
    return kind(**values)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _charged(row: ChainRow) -> Charged:
    with reading(f"row {row.sequence}"):
        body = row.content()
        deal, code = body.get("deal"), body.get("code")  # older ledgers hold neither
        return Charged(
            row.sequence,
            _text(body["time"]),
            _made(RequestKey, body["request"]),
            _DESCRIPTION.validate_python(body["description"]),
            None if body["budget"] is None else _budget(*body["budget"]),
            tuple(_payment(**payment) for payment in body["payments"]),
            tuple(_text(name) for name in body["new"]),
            None if deal is None else _text(deal),
            None if code is None else _text(code),
        )


def _budget(epsilon: float, delta: float) -> Budget:
    """``ValueError`` for what is no cap."""
    budget = Budget(float(epsilon), float(delta))
    if not (0 < budget.epsilon < inf and 0 < budget.delta < 1):
        raise ValueError(f"{budget} is no cap")
    return budget


def _payment(units: str, events: Iterable[tuple[Mapping[str, Any], int]]) -> Payment:
    return Payment(_unpacked(units), tuple(read_event(*event) for event in events))


def read_event(plain: Mapping[str, Any], count: Any) -> Event:
    """An event as a ledger writes it down; ``ValueError`` or ``TypeError`` for any other."""
    event = Event(from_plain(plain), count)
    if type(count) is not int or count < 1 or to_plain(event.dp_event) != plain:
        raise ValueError(f"{plain!r:.200}, {count!r:.20} times, is no event that is charged")
    return event


def _packed(units: Sequence[int]) -> str:
    return b64encode(np.asarray(units, "<u4").tobytes()).decode("ascii")


def _unpacked(text: str) -> tuple[int, ...]:
    return tuple(np.frombuffer(b64decode(text, validate=True), "<u4").tolist())
