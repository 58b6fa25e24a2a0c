"""What happens in a run, told as it happens: for a log that the server keeps."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from metaward.privacy import Release, Scores


class Note(Protocol):
    """Takes what happened, in a few fixed words, and what is known of it."""

    def __call__(self, what: str, /, **known: Any) -> None:
        """One thing that happened."""
        ...


def unnoted(what: str, /, **known: Any) -> None:
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
    for one in accepted:
        sent = {"update": _digest(one)} if isinstance(one, Release) else {}
        note("reply accepted", **about, hospital=one.hospital, **sent)
    for hospital, reason in rejected.items():
        note("reply rejected", **about, hospital=hospital, reason=reason)


def _digest(release: Release) -> str:
    return hashlib.sha256(release.update.astype("<f4").tobytes()).hexdigest()
