"""What a privacy officer types: `metaward ledger ...` and `metaward privacy ...`."""

from server.privacy.commands import privacy
from server.privacy.ledger import ledger

__all__ = ["ledger", "privacy"]
