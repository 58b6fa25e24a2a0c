"""The high-water marks: how far each hospital's ledger has come, by its own replies.

A ledger that goes back has lost charges: records could be used again as if they were fresh. Every
reply carries the ledger's id, the number of the row that stored it and its hash; a later one must
come after all earlier ones. The same row twice is a reply that was sent again, and is accepted. The
row holds the reply's own hash, so that a copy of the ledger from between charge and reply, which
would answer with fresh noise under the same charge, lacks it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from metaward.privacy import Mark, Release


@dataclass(frozen=True)
class SeenMark:
    """One reply's mark: ``hospital`` and ``round`` of ``run``, and the point of its ledger."""

    hospital: str
    run: str
    round: int
    mark: Mark


@dataclass
class Marks:
    """All marks that were seen, oldest first; ``note`` is called with each new one, to keep it."""

    seen: list[SeenMark] = field(default_factory=list)
    note: Callable[[SeenMark], None] = lambda seen: None

    def last(self, hospital: str) -> Mark | None:
        """The furthest point of the hospital's newest ledger."""
        marks = [s.mark for s in self.seen if s.hospital == hospital]
        if not marks:
            return None
        return max((m for m in marks if m.ledger == marks[-1].ledger), key=lambda m: m.sequence)

    def accept(self, release: Release, run: str) -> bool:
        """Whether the reply's mark comes after all others of its ledger, or repeats one of them."""
        if release.mark is None:
            return not any(s.hospital == release.hospital for s in self.seen)
        new = SeenMark(release.hospital, run, release.round, release.mark)
        if new in self.seen:
            return True
        last = self.last(release.hospital)
        if last is not None and not _follows(release.mark, last):
            return False
        self.seen.append(new)
        self.note(new)
        return True


def _follows(mark: Mark, last: Mark) -> bool:
    """Whether ``mark`` is further in the same ledger; another ledger counts as one set back."""
    return mark.ledger == last.ledger and mark.sequence > last.sequence
