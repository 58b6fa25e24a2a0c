"""What the chain tells, as typed values: for ``show``, for the report and for ``verify``.

Units are numbers. The price of events is the reader's: wherever a unit must be the worst, a
function ``price(events) -> float`` (such as epsilon or mu) says by what.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from metaward.privacy.description import ChargeDescription
from metaward.privacy.event import (
    Budget,
    Charge,
    Event,
    Events,
    Mark,
    Protection,
    counted,
    from_plain,
    to_plain,
)
from metaward.privacy.ledger.chain import ChainRow, now
from metaward.privacy.ledger.keys import RequestKey

Price = Callable[[Events], float]
ALWAYS_NOTED = 20
"""So many refusals of a code and day have a row each."""


@dataclass(frozen=True)
class Payment:
    """The same ``events`` for each of the numbered ``units``."""

    units: tuple[int, ...]
    events: Events


@dataclass(frozen=True)
class Charged:
    """One charge: row, time (UTC), what was asked, what it was for, the budget it had to fit, what
    it cost whom."""

    sequence: int
    time: str
    request: RequestKey
    description: ChargeDescription
    budget: Budget | None
    payments: tuple[Payment, ...]
    new: tuple[str, ...]

    @property
    def protection(self) -> Protection:
        """The mechanism, and the unit of the guarantee."""
        return self.description.protection

    def units(self) -> set[int]:
        """The units that were touched."""
        return {unit for payment in self.payments for unit in payment.units}

    def add_to(self, spent: dict[int, Events]) -> None:
        """Add what it cost to each unit's events. Equal ones grow alike, so each is summed once."""
        for payment in self.payments:
            before = {spent.get(unit, ()) for unit in payment.units}
            after = {events: counted(events + payment.events) for events in before}
            spent |= {unit: after[spent.get(unit, ())] for unit in payment.units}

    def noises(self) -> set[tuple[float, float]]:
        """Noise multiplier and sampling rate of all its events that have noise of that kind."""
        events = [event for payment in self.payments for event in payment.events]
        pairs = ((event.noise_multiplier, event.sampling_rate) for event in events)
        return {(sigma, rate) for sigma, rate in pairs if sigma is not None}


@dataclass(frozen=True)
class Answered:
    """One stored reply: row, time (UTC), the row of its charge, SHA-256 of its bytes in hex."""

    sequence: int
    time: str
    charge: int
    sha256: str


@dataclass(frozen=True)
class NotedRefusal:
    """One noted refusal; it is the ``count``-th of its code on that day (UTC)."""

    sequence: int
    time: str
    code: str
    reason: str
    run: str
    round: int
    count: int


@dataclass(frozen=True)
class SpendPoint:
    """Spend after a charge: what the worst unit so far has spent, and at what price."""

    charge: Charged
    unit: int
    events: Events
    price: float


@dataclass(frozen=True)
class LedgerRun:
    """What one run did here: how it protected, first and last time (UTC), number of charges and of
    replies."""

    run: str
    protection: Protection
    first: str
    last: str
    charges: int
    replies: int


@dataclass(frozen=True)
class History:
    """A ledger's whole content at one moment; ``mark`` says at which."""

    mark: Mark
    hospital: str
    who: str
    created: str
    charges: tuple[Charged, ...]
    replies: tuple[Answered, ...]
    refusals: tuple[NotedRefusal, ...]

    def units(self) -> Mapping[str, int]:
        """How many units of each kind (record, content, patient ...) were ever charged."""
        return Counter(name.partition(":")[0] for c in self.charges for name in c.new)

    def totals(self) -> Mapping[int, Events]:
        """All that each unit has spent, from the charges themselves."""
        spent: dict[int, Events] = {}
        for charge in self.charges:
            charge.add_to(spent)
        return spent

    def protections(self) -> tuple[Protection, ...]:
        """How records were ever protected here, in order of the first charge."""
        return tuple(dict.fromkeys(charge.protection for charge in self.charges))

    def spending(self, price: Price) -> list[SpendPoint]:
        """Spend over time, a point a charge. ``price`` is asked once for each distinct history."""
        points: list[SpendPoint] = []
        spent: dict[int, Events] = {}
        prices: dict[Events, float] = {}
        for charge in self.charges:
            charge.add_to(spent)
            touched = {spent[unit]: unit for unit in sorted(charge.units(), reverse=True)}
            prices |= {events: price(events) for events in touched if events not in prices}
            events = max(touched, key=prices.__getitem__)
            point = SpendPoint(charge, touched[events], events, prices[events])
            if points and points[-1].price >= point.price:  # spend never goes down
                point = replace(points[-1], charge=charge)
            points.append(point)
        return points

    def runs(self) -> list[LedgerRun]:
        """Every run that was ever charged, in order of its first charge."""
        answered = {reply.charge for reply in self.replies}
        names = dict.fromkeys(charge.request.run for charge in self.charges)
        found = []
        for name in names:
            own = [charge for charge in self.charges if charge.request.run == name]
            replies = sum(charge.sequence in answered for charge in own)
            first, last = own[0], own[-1]
            found.append(
                LedgerRun(name, first.protection, first.time, last.time, len(own), replies)
            )
        return found


def due(count: int) -> bool:
    """Does the ``count``-th refusal of a code and day get a row?"""
    return count <= ALWAYS_NOTED or count & (count - 1) == 0


# ------------------------------------------------------------------------- bodies of rows

_DESCRIPTION = TypeAdapter(ChargeDescription)


def pack_charge(
    request: RequestKey,
    description: ChargeDescription,
    budget: Budget | None,
    named: Sequence[Charge],
    numbers: Mapping[str, int],
    new: Sequence[str],
) -> dict[str, Any]:
    """The body of a charge. ``new`` names the units first met here, so that the hash covers all."""
    payments = [
        {
            "events": [[to_plain(e.dp_event), e.count] for e in charge.events],
            "units": _packed(sorted(numbers[name] for name in charge.keys)),
        }
        for charge in named
    ]
    cap = [budget.epsilon, budget.delta] if budget else None
    said = _DESCRIPTION.dump_python(description, mode="json")
    asked = {"request": asdict(request), "description": said, "budget": cap}
    return asked | {"payments": payments, "new": list(new), "time": now()}


def read_history(rows: Iterable[ChainRow]) -> History:
    """Rows to values; ValueError, KeyError or TypeError where a body is not one of ours."""
    first, *rest = rows
    start = first.content()
    last = rest[-1] if rest else first
    return History(
        Mark(start["ledger"], last.sequence, last.hash.hex()),
        start["hospital"],
        start["who"],
        start["time"],
        tuple(_charged(row) for row in rest if row.kind == "charge"),
        tuple(Answered(row.sequence, **row.content()) for row in rest if row.kind == "reply"),
        tuple(NotedRefusal(row.sequence, **row.content()) for row in rest if row.kind == "refusal"),
    )


def _charged(row: ChainRow) -> Charged:
    body = row.content()
    payments = tuple(
        Payment(
            _unpacked(payment["units"]),
            tuple(Event(from_plain(one), count) for one, count in payment["events"]),
        )
        for payment in body["payments"]
    )
    budget = body["budget"]
    return Charged(
        row.sequence,
        body["time"],
        RequestKey(**body["request"]),
        _DESCRIPTION.validate_python(body["description"]),
        budget and Budget(*budget),
        payments,
        tuple(body["new"]),
    )


def _packed(units: Sequence[int]) -> str:
    return b64encode(np.asarray(units, "<u4").tobytes()).decode("ascii")


def _unpacked(text: str) -> tuple[int, ...]:
    return tuple(np.frombuffer(b64decode(text, validate=True), "<u4").tolist())
