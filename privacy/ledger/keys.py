"""How a ledger identifies a request, and what it returns for one that was paid for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from metaward.privacy.event import Mark
from metaward.privacy.ledger.chain import canonical, sha256

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
    """A paid charge; ``mark`` is its row. A stored ``reply`` is sent again instead of computed."""

    request: RequestKey
    mark: Mark
    reply: bytes | None = None

    @property
    def sequence(self) -> int:
        """The number of the charge's row."""
        return self.mark.sequence
