"""What happens in a run, told as it happens: for a log that the server keeps."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from metaward.privacy import Release, Scores

Each = Sequence[Mapping[str, Any]]
ONCE: Each = ({},)


class Note(Protocol):
    """Takes what happened, in a few fixed words, and what is known of it."""

    def __call__(self, what: str, /, each: Each = ONCE, **known: Any) -> None:
        """The same thing happened once for every one of ``each``, which says what differs."""
        ...


def unnoted(what: str, /, each: Each = ONCE, **known: Any) -> None:
    """Nobody keeps a log."""


def noted(
    note: Note,
    run: str,
    number: int,
    accepted: Sequence[Release] | Sequence[Scores],
    rejected: Mapping[str, str],
) -> None:
    """Tell which replies of a round count, with the SHA-256 of their update, and which do not."""
    about = {"round": number, "run": run}
    counted = [{"hospital": one.hospital} | _digest(one) for one in accepted]
    others = [{"hospital": hospital, "reason": why} for hospital, why in rejected.items()]
    note("reply accepted", counted, **about)
    note("reply rejected", others, **about)


def _digest(one: Release | Scores) -> dict[str, str]:
    """Of an update; scores are on record elsewhere."""
    return {"update": _sha256(one)} if isinstance(one, Release) else {}


def _sha256(release: Release) -> str:
    return hashlib.sha256(release.update.astype("<f4").tobytes()).hexdigest()
