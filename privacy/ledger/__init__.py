"""The hospital's ledger: what was ever done with each record, written down before it is done."""

from metaward.privacy.event import Events, Mark
from metaward.privacy.ledger.audit import verify
from metaward.privacy.ledger.errors import BudgetSpent, LedgerError
from metaward.privacy.ledger.history import (
    Answered,
    Charged,
    History,
    NotedRefusal,
    Payment,
    RunSummary,
    SpendPoint,
)
from metaward.privacy.ledger.keys import Entry, RequestKey
from metaward.privacy.ledger.ledger import Ledger
from metaward.privacy.ledger.spend import Allows

__all__ = [
    "Allows",
    "Answered",
    "BudgetSpent",
    "Charged",
    "Entry",
    "Events",
    "History",
    "Ledger",
    "LedgerError",
    "Mark",
    "NotedRefusal",
    "Payment",
    "RequestKey",
    "RunSummary",
    "SpendPoint",
    "verify",
]
