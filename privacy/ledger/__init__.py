"""The hospital's ledger: what was ever done with each record, written down before it is done."""

from metaward.privacy.event import Events
from metaward.privacy.ledger.audit import verify
from metaward.privacy.ledger.errors import BudgetSpent, LedgerError
from metaward.privacy.ledger.history import (
    Charged,
    Entry,
    History,
    LedgerRun,
    NotedRefusal,
    Payment,
    RequestKey,
)
from metaward.privacy.ledger.ledger import Ledger

__all__ = [
    "BudgetSpent",
    "Charged",
    "Entry",
    "Events",
    "History",
    "Ledger",
    "LedgerError",
    "LedgerRun",
    "NotedRefusal",
    "Payment",
    "RequestKey",
    "verify",
]
