"""The ledger's small values: what is asked, and what is granted."""

from __future__ import annotations

import re
from dataclasses import dataclass

from metaward.privacy.event import Mark
from metaward.privacy.ledger.chain import canonical, sha256

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class RequestKey:
    """What makes two requests the same: a retry has all four equal.

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
        """One text for all four (a SHA-256), by which the ledger finds the request again."""
        return sha256(canonical([self.run, self.round, self.purpose, self.digest])).hex()


@dataclass(frozen=True)
class Entry:
    """A paid charge: ``mark`` is its row. Where ``reply`` is there, send it and do not compute."""

    request: RequestKey
    mark: Mark
    reply: bytes | None = None

    @property
    def sequence(self) -> int:
        """The charge's row number."""
        return self.mark.sequence
