"""Requests, and the content of the chain as typed values; units are numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from metaward.privacy.description import ChargeDescription
from metaward.privacy.event import (
    Budget,
    Events,
    Mark,
    Protection,
    add,
    different,
)
from metaward.privacy.ledger.chain import canonical, sha256

NOTED = (*range(1, 21), *(1 << power for power in range(5, 63)))
"""Which refusals of a code and day have a row, by their number."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class RequestKey:
    """What identifies a request: a retry of it has the same four values.

    ``run`` (1 to 200 characters), ``round`` (0 or more), ``purpose`` (1 to 40 characters, such as
    ``train``) and ``digest``, the SHA-256 of all that the request says, in 64 hex digits.
    """

    run: str
    round: int
    purpose: str
    digest: str

    def __post_init__(self) -> None:
        if not 1 <= len(self.run) <= 200:
            raise ValueError(f"run has {len(self.run)} characters, not 1 to 200")
        if type(self.round) is not int or self.round < 0:
            raise ValueError(f"round = {self.round!r} is not a whole number of 0 or more")
        if not 1 <= len(self.purpose) <= 40:
            raise ValueError(f"purpose has {len(self.purpose)} characters, not 1 to 40")
        if not _SHA256.fullmatch(self.digest):
            raise ValueError(f"digest = {self.digest[:80]!r} is not a SHA-256 in 64 hex digits")

    @property
    def id(self) -> str:
        """The SHA-256 of all four values, by which the ledger finds the request again."""
        return sha256(canonical([self.run, self.round, self.purpose, self.digest])).hex()


@dataclass(frozen=True)
class Entry:
    """A paid charge; ``mark`` is its row.

    A stored ``reply`` is sent again instead of computed. ``sent`` is its row, the mark that leaves
    with it: only a ledger that has this very reply holds it.
    """

    request: RequestKey
    mark: Mark
    reply: bytes | None = None
    sent: Mark | None = None

    @property
    def sequence(self) -> int:
        """The number of the charge's row."""
        return self.mark.sequence


@dataclass(frozen=True)
class Payment:
    """The same ``events`` for each of the numbered ``units``."""

    units: tuple[int, ...]
    events: Events


@dataclass(frozen=True)
class Charged:
    """One charge: its row, time (UTC), request and description, the budget that it had to fit, its
    payments, and the names of the units that were never charged before. ``deal`` names the tasks
    into which the hospital's records are dealt, where a unit is a task; else it is None. ``code``
    is the SHA-256 of the bundle of code that asked for it, in 64 hex digits, where the hospital's
    gate let it in; None where no gate says so.
    """

    sequence: int
    time: str
    request: RequestKey
    description: ChargeDescription
    budget: Budget | None
    payments: tuple[Payment, ...]
    new: tuple[str, ...]
    deal: str | None = None
    code: str | None = None

    def __post_init__(self) -> None:
        if self.code is not None and not _SHA256.fullmatch(self.code):
            raise ValueError(f"code = {self.code[:80]!r} is not a SHA-256 in 64 hex digits")

    @property
    def protection(self) -> Protection:
        """The mechanism, and the unit of the guarantee."""
        return self.description.protection

    def units(self) -> set[int]:
        """The units that paid."""
        return {unit for payment in self.payments for unit in payment.units}

    def add_to(self, spent: dict[int, Events]) -> None:
        """Add the payments to what the units have spent."""
        for payment in self.payments:
            add(spent, payment.units, payment.events)

    def noises(self) -> set[tuple[float, float]]:
        """Noise multiplier and sampling rate of all its events that have noise of that kind."""
        events = [event for payment in self.payments for event in payment.events]
        pairs = ((event.noise_multiplier, event.sampling_rate) for event in events)
        return {(sigma, rate) for sigma, rate in pairs if sigma is not None}


@dataclass(frozen=True)
class Answered:
    """One stored reply: its row, time (UTC), its charge's row, and SHA-256 of its bytes in hex."""

    sequence: int
    time: str
    charge: int
    sha256: str


@dataclass(frozen=True)
class NotedRefusal:
    """One noted refusal, the ``count``-th with its code on that day (UTC)."""

    sequence: int
    time: str
    code: str
    reason: str
    run: str
    round: int
    count: int


@dataclass(frozen=True)
class LedgerRun:
    """One run: its protection, the times (UTC) of its first and last charge, and its counts.

    ``code`` has the SHA-256 of each bundle of code under which it was charged, where that is known.
    """

    run: str
    protection: Protection
    first: str
    last: str
    charges: int
    replies: int
    code: tuple[str, ...] = ()


@dataclass(frozen=True)
class History:
    """A ledger's whole content up to ``mark``."""

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

    def names(self) -> Mapping[int, str]:
        """The pseudonym of each unit by its number: they are numbered from 1, in order of first
        use."""
        return dict(enumerate((name for c in self.charges for name in c.new), start=1))

    def totals(self) -> Mapping[int, Events]:
        """All events that each unit has paid for, added up from the charges."""
        spent: dict[int, Events] = {}
        for charge in self.charges:
            charge.add_to(spent)
        return spent

    def protections(self) -> tuple[Protection, ...]:
        """The different protections of all charges, in order of their first use."""
        return tuple(dict.fromkeys(charge.protection for charge in self.charges))

    def spending(self, price: Callable[[Events], float]) -> list[tuple[Charged, float]]:
        """Each charge, with the largest price of what any one unit has spent after it.

        ``price`` is a measure such as epsilon; it is called once for each distinct spend.
        """
        points: list[tuple[Charged, float]] = []
        spent: dict[int, Events] = {}
        price_once, largest = cache(price), 0.0
        for charge in self.charges:
            charge.add_to(spent)
            now = different(spent[unit] for unit in charge.units())
            largest = max([largest, *map(price_once, now)])
            points.append((charge, largest))
        return points

    def runs(self) -> list[LedgerRun]:
        """Every run that was ever charged, in order of its first charge."""
        charges: dict[str, list[Charged]] = {}
        for charge in self.charges:
            charges.setdefault(charge.request.run, []).append(charge)
        return [self._run(name, own) for name, own in charges.items()]

    def _run(self, name: str, own: Sequence[Charged]) -> LedgerRun:
        first, last, rows = own[0], own[-1], {charge.sequence for charge in own}
        replies = len(rows & {reply.charge for reply in self.replies})
        code = tuple(dict.fromkeys(charge.code for charge in own if charge.code))
        return LedgerRun(name, first.protection, first.time, last.time, len(own), replies, code)
