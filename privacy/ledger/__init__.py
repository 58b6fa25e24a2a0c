"""The hospital's ledger: what was ever done with each record, written down before it is done."""

from privacy.event import Mark
from privacy.ledger.audit import verify
from privacy.ledger.errors import BudgetSpent, LedgerError
from privacy.ledger.history import Answered, Charged, History, Part, Point, Refused, Run
from privacy.ledger.keys import Entry, RequestKey
from privacy.ledger.ledger import Ledger
from privacy.ledger.spend import Allows, Events

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
    "Part",
    "Point",
    "Refused",
    "RequestKey",
    "Run",
    "verify",
]
