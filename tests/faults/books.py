"""What the hospitals' ledgers say of the updates that a server has seen."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from metaward.errors import MetawardError
from metaward.privacy import Release
from metaward.privacy.accounting import enforced_epsilon
from metaward.privacy.ledger import History, Ledger, RequestKey, verify
from metaward.privacy.wire import unpack


@dataclass(frozen=True)
class Violation:
    """A broken promise: its fixed ``name``, and what was found."""

    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


@dataclass(frozen=True)
class Seen:
    """An update that the server accepted: the digests of its request and of its values."""

    hospital: str
    run: str
    round: int
    request: str
    update: str

    @property
    def key(self) -> RequestKey | None:
        """The request as ledgers know it; None where the server's log does not have it."""
        return RequestKey(self.run, self.round, "train", self.request) if self.request else None


@dataclass(frozen=True)
class Books:
    """A hospital's ledger; ``ledger`` is None where it cannot be read at all."""

    hospital: str
    path: Path
    faults: Sequence[str]
    ledger: Ledger | None
    history: History | None

    @classmethod
    def read(cls, hospital: str, path: Path) -> Books:
        """The ledger at ``path``, with everything that is wrong with its file."""
        faults = verify(path)
        try:
            ledger = Ledger.open(path)
            return cls(hospital, path, faults, ledger, ledger.history())
        except MetawardError as error:
            return cls(hospital, path, faults or [str(error)], None, None)

    @property
    def refusals(self) -> list[str]:
        """The codes of the refusals that it holds."""
        return [one.code for one in self.history.refusals] if self.history else []

    def stored(self, key: RequestKey) -> Release | None:
        """The reply that the ledger has stored for a request."""
        try:
            entry = self.ledger.answered(key) if self.ledger else None
        except MetawardError:  # found by ``verify`` as well
            return None
        return unpack(entry.reply) if entry is not None and entry.reply is not None else None


def ledger_violations(books: Mapping[str, Books], seen: Sequence[Seen]) -> Iterator[Violation]:
    """Ledgers that are damaged or overspent, and updates that they did not pay for and store."""
    for one in books.values():
        yield from (Violation("chain-broken", f"{one.hospital}: {fault}") for fault in one.faults)
        if one.history is not None:
            yield from _charged_twice(one.hospital, one.history)
            yield from _overspent(one.hospital, one.history)
    for update in seen:
        yield from _unpaid(books.get(update.hospital), update)
    yield from _contradictions(seen)


def _charged_twice(hospital: str, history: History) -> Iterator[Violation]:
    for request, count in Counter(charge.request for charge in history.charges).items():
        if count > 1:
            text = f"{hospital}: round {request.round} of {request.run} has {count} charges"
            yield Violation("charged-twice", text)


def _overspent(hospital: str, history: History) -> Iterator[Violation]:
    """Units above the largest budget that any of their charges had to fit."""
    budgets = [charge.budget for charge in history.charges if charge.budget is not None]
    if not budgets:
        return
    cap = max(budgets, key=lambda budget: budget.epsilon)
    spent = Counter(history.totals().values())  # many units have spent the same
    most = max(enforced_epsilon(one, cap.delta) for one in spent)
    if most > cap.epsilon * (1 + 1e-9):
        text = f"{hospital}: a unit has spent epsilon {most:g}, above {cap.epsilon:g}"
        yield Violation("overspent", text)


def _unpaid(books: Books | None, seen: Seen) -> Iterator[Violation]:
    """An update must have a charge, after it a stored reply, and be that reply's."""
    where, key = f"{seen.hospital}, round {seen.round} of {seen.run}", seen.key
    history = books.history if books is not None else None
    if books is None or history is None or key is None:
        yield Violation("not-charged", f"{where}: no ledger that can be read, or no such request")
        return
    charges = {one.sequence for one in history.charges if one.request == key}
    if not charges:
        yield Violation("not-charged", f"{where}: the ledger has no charge for its request")
        return
    if not any(one.charge in charges and one.sequence > one.charge for one in history.replies):
        yield Violation("not-stored", f"{where}: no reply was stored after the charge")
        return
    release = books.stored(key)
    if release is None or digest_of(release) != seen.update:
        yield Violation("other-bytes", f"{where}: what was seen is not what was stored")


def digest_of(release: Release) -> str:
    """The SHA-256 of an update, as the server's log has it."""
    return hashlib.sha256(release.update.astype("<f4").tobytes()).hexdigest()


def _contradictions(seen: Sequence[Seen]) -> Iterator[Violation]:
    """One request, two different updates: two releases of which one was paid for."""
    answers: dict[tuple[str, str], set[str]] = {}
    for one in seen:
        answers.setdefault((one.hospital, one.request), set()).add(one.update)
    for (hospital, _), updates in answers.items():
        if len(updates) > 1:
            yield Violation("answered-twice", f"{hospital}: {len(updates)} updates to one request")
