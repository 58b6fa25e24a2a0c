"""A ledger that is checked before it is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from metaward.privacy.event import Mark
from metaward.privacy.ledger import History, Ledger, LedgerError, verify


@dataclass(frozen=True)
class OpenedLedger:
    """A ledger's faults and content; ``ledger`` and ``history`` are None where it is unreadable."""

    path: Path
    faults: tuple[str, ...]
    ledger: Ledger | None
    history: History | None

    @staticmethod
    def open(path: Path) -> OpenedLedger:
        """Check all of the ledger at ``path`` and read what can be read."""
        faults = tuple(verify(path))
        try:
            ledger = Ledger.open(path)
            return OpenedLedger(path, faults, ledger, ledger.history())
        except (LedgerError, KeyError, TypeError, ValueError):  # rows that no ledger writes
            return OpenedLedger(path, faults or ("it cannot be read",), None, None)

    def holds(self, mark: Mark) -> bool:
        """Whether the ledger still holds the entry that the server saw."""
        try:
            return self.ledger is not None and self.ledger.holds(mark)
        except LedgerError:
            return False
