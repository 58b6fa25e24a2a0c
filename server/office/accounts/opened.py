"""A ledger's file, opened by somebody who does not trust it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from metaward.privacy.event import Mark
from metaward.privacy.ledger import History, Ledger, LedgerError, verify


@dataclass(frozen=True)
class OpenedLedger:
    """What is wrong with it, and what it holds (None: that cannot be read)."""

    path: Path
    faults: tuple[str, ...]
    ledger: Ledger | None
    history: History | None

    @staticmethod
    def open(path: Path) -> OpenedLedger:
        """Read whatever can be read, and check all of it."""
        faults = tuple(verify(path))
        try:
            ledger = Ledger.open(path)
            return OpenedLedger(path, faults, ledger, ledger.history())
        except (LedgerError, KeyError, TypeError, ValueError):  # rows that are not ours
            return OpenedLedger(path, faults or ("it cannot be read",), None, None)

    def holds(self, mark: Mark) -> bool:
        """Whether it still holds an entry that the server saw."""
        try:
            return self.ledger is not None and self.ledger.holds(mark)
        except LedgerError:
            return False
