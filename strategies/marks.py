"""The high-water marks: how far each hospital's ledger has come, by its own replies.

A ledger that goes back has lost charges: records could be used again as if they were fresh. Every
reply carries the ledger's id, the number of the row that stored it and its hash; a later one must
come after all earlier ones. The same row twice is a reply that was sent again, and is accepted. The
row holds the reply's own hash, so that a copy of the ledger from between charge and reply, which
would answer with fresh noise under the same charge, lacks it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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
    """All marks that were seen, oldest first; ``note`` is called with new ones, to keep them."""

    seen: list[SeenMark] = field(default_factory=list)
    note: Callable[[Sequence[SeenMark]], None] = lambda seen: None

    def __post_init__(self) -> None:
        self._of: dict[str, list[SeenMark]] = {}
        for one in self.seen:
            self._of.setdefault(one.hospital, []).append(one)

    def last(self, hospital: str) -> Mark | None:
        """The furthest point of the hospital's newest ledger."""
        marks = [s.mark for s in self._of.get(hospital, ())]
        if not marks:
            return None
        return max((m for m in marks if m.ledger == marks[-1].ledger), key=lambda m: m.sequence)

    def accept(self, release: Release, run: str) -> bool:
        """Whether the reply's mark comes after all others of its ledger, or repeats one of them."""
        return not self.set_back([release], run)

    def set_back(self, releases: Iterable[Release], run: str) -> list[str]:
        """The hospitals whose mark does not come after all others of its ledger, nor repeats one of
        them. All other marks are kept, and noted together."""
        back, before = [], len(self.seen)
        for release in releases:
            if not self._fits(release, run):
                back.append(release.hospital)
        if new := self.seen[before:]:
            self.note(new)
        return back

    def _fits(self, release: Release, run: str) -> bool:
        own = self._of.setdefault(release.hospital, [])
        if release.mark is None:
            return not own
        new = SeenMark(release.hospital, run, release.round, release.mark)
        if new in own:
            return True
        last = self.last(release.hospital)
        if last is not None and not _follows(release.mark, last):
            return False
        self.seen.append(new)
        own.append(new)
        return True


def _follows(mark: Mark, last: Mark) -> bool:
    """Whether ``mark`` is further in the same ledger; another ledger counts as one set back."""
    return mark.ledger == last.ledger and mark.sequence > last.sequence
