"""What a privacy officer types: `metaward ledger ...` and `metaward privacy ...`."""

from metaward.server.office.commands import privacy
from metaward.server.office.ledger_commands import ledger

__all__ = ["ledger", "privacy"]
