"""What a learner keeps at its hospital between rounds, and why it may be used again.

A learner that ``remembers`` finds in ``setting.kept`` the named vectors that its last update here
returned as ``Update.keep``: heads that stay local, a model of the hospital's own, control variates.
Each round leaves a version, a file of the hospital's own. A request of round r reads the newest
version from before r, so that a resumed run that does rounds again reads what it read the first
time. A folder belongs to one run, hospital and desk: what was kept under one mechanism is never
read under another.

Why a later release may depend on what was kept. Let y_1, y_2, ... be the noisy sums over records
that were charged in this run, in order.

- With units record and patient (mechanism sums) a learner sees noisy sums and nothing else
  (``session.raw`` is False). What it keeps is a function of theta, its own random stream, what it
  had kept before, and the y of this round; by induction, of y_1 ... y_t alone. So what depends on
  the records in a later round is its sums alone, taken at points that y_1 ... y_t fix. That is
  adaptive composition, which the ledger's account allows for (Dong, Roth, Su 2019: Gaussian
  Differential Privacy). All else is post-processing.
- A charge pays for one y. A crash between charge and reply draws it again under the same charge,
  because nothing of the first has left; but the first could leave later, through what was kept.
  So a version names the reply that was made with it, and counts only if the ledger stored that
  reply.
- With unit hospital the whole update is clipped in every round, whatever it was computed from.
  Leaving a hospital out moves each round's sum by the clip norm at most, memory or not.
- Without protection nothing is promised.
- With unit task a learner sees records, and noise is added to the sum over tasks. What it kept of
  one task would move the directions of later tasks, which are clipped and charged as theirs alone.
  No noise covers that, so a learner that remembers is refused there (``Desk.conflicts``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load, save

from metaward.client.errors import NodeError
from metaward.client.inner import Kept
from metaward.files import replace_file
from metaward.options import compact
from metaward.privacy import Session, Unit

PATTERN = "round-*.memory"


def check_session(session: Session, unit: Unit) -> None:
    """``RuntimeError`` where, by the argument above, a learner may keep nothing of what it sees.

    ``Desk.conflicts`` has refused such a run already; this also covers mechanisms of plug-ins.
    """
    if session.raw and unit.protected and not unit.every_round:
        raise RuntimeError(
            f"a learner that remembers sees records in the open, and a {unit.name} is protected"
        )


@dataclass(frozen=True)
class Stub:
    """The header of a version.

    ``round`` left it, after reading the version of round ``previous`` (0: there was none).
    ``request`` is the digest of the request, ``reply`` the SHA-256 of the reply, both in hex.
    """

    round: int
    previous: int
    request: str
    reply: str


_STUB = TypeAdapter(Stub)


@dataclass(frozen=True)
class Version:
    """A file of a memory: a line with the SHA-256 of the rest, a line of JSON, the vectors."""

    path: Path

    @property
    def round(self) -> int:
        """The round that left it, from the name of the file."""
        return int(self.path.stem.removeprefix("round-"))

    @property
    def stub(self) -> Stub:
        """The header: round, previous round, request and reply."""
        return self._content[0]

    @property
    def kept(self) -> Kept:
        """The vectors."""
        try:
            return load(self._content[1])
        except SafetensorError as error:
            raise self._damaged() from error

    @cached_property
    def _content(self) -> tuple[Stub, bytes]:
        digest, _, rest = self.path.read_bytes().partition(b"\n")
        head, _, vectors = rest.partition(b"\n")
        if hashlib.sha256(rest).hexdigest().encode() != digest:
            raise self._damaged()
        try:
            return _STUB.validate_json(head, strict=True), vectors
        except ValueError as error:
            raise self._damaged() from error

    def _damaged(self) -> NodeError:
        return NodeError(
            "memory-damaged",
            f"{self.path} is not what was once written; put back a copy, or delete the folder "
            "and start the run again from the beginning",
        )


@dataclass(frozen=True)
class Memory:
    """One hospital's versions for one run and desk.

    ``sent`` says whether the ledger holds the reply that a version was made with. ``rewind`` is the
    most rounds that a resumed run can repeat: versions are kept that far back.
    """

    folder: Path
    rewind: int
    sent: Callable[[Stub], bool]

    def recall(self, round: int) -> Kept:
        """The vectors that a request of ``round`` may use; empty before anything was kept.

        ``NodeError`` where a version is damaged, or where the one that this round once read is no
        longer kept.
        """
        last = self._before(round)
        if last is not None:
            return last.kept
        later = next(iter(self._versions()), None)
        if later is not None and later.stub.previous:
            raise NodeError(
                "memory-missing",
                f"{self.folder}: round {round} needs what round {later.stub.previous} left, which "
                f"is no longer kept (at most the last {self.rewind} rounds can be repeated); start "
                "the run again from the beginning",
            )
        return {}

    def keep(self, round: int, kept: Kept, request: str, reply: bytes) -> None:
        """Leave a version for the rounds after ``round``, and delete those too old to be read.

        It counts from the moment at which the ledger stores ``reply``.
        """
        last = self._before(round)
        previous = last.round if last else 0
        stub = Stub(round, previous, request, hashlib.sha256(reply).hexdigest())
        vectors = {name: vector.detach().cpu().contiguous() for name, vector in kept.items()}
        rest = compact(asdict(stub)).encode() + b"\n" + save(vectors)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        digest = hashlib.sha256(rest).hexdigest().encode()
        path = self.folder / f"round-{round:06d}.memory"
        replace_file(path, digest + b"\n" + rest, mode=0o600)
        self._forget(round - self.rewind)

    def _forget(self, round: int) -> None:
        """Delete what no request after ``round`` reads: all before the last version up to it."""
        last = self._before(round + 1)
        for version in self._versions():
            if last is not None and version.round < last.round:
                version.path.unlink()

    def _before(self, round: int) -> Version | None:
        earlier = (v for v in reversed(self._versions()) if v.round < round)
        return next((v for v in earlier if self.sent(v.stub)), None)

    def _versions(self) -> Sequence[Version]:
        """All versions there are, the oldest first."""
        return [Version(path) for path in sorted(self.folder.glob(PATTERN))]
