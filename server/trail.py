"""The server's own log of a run, audit.jsonl: what it asked, what came, and what it did with it.

One JSON object a line, added and synced to disk before the run goes on; no line is ever changed. A
resumed run adds to the same file, so that rounds which it does again are in it again. Keys:

at        when, UTC
what      run started, run resumed, asked to train, asked to evaluate, retried, reply accepted,
          reply rejected, quorum failed, checkpoint, run finished, run failed, run interrupted
run       the run's id and the learner, as hospitals see it (``privacy.wire.Request``)
round     the round (0 before the first)
hospital  whose reply it is; ``hospitals`` are those that were asked
request   the SHA-256 of the request, as the hospitals' ledgers keep it (``privacy.wire.digest``)
update    the SHA-256 of an accepted update; None where it came without noise (unit hospital): who
          knows all records but one could tell by it whether that one was used
reason    why a reply was rejected, or how the run ended

It is for whoever answers for the server. It holds no values of updates, but who answered when; the
hospitals' ledgers are their own account.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from metaward.files import append_lines
from metaward.json_text import read_json
from metaward.strategies.notes import ONCE, Each

NAME = "audit.jsonl"


class RunTrail:
    """The log in a result folder; ``secret`` says that updates come without noise."""

    def __init__(self, folder: Path, secret: bool = False) -> None:
        self.path, self.secret = folder / NAME, secret

    def __call__(self, what: str, /, each: Each = ONCE, **known: Any) -> None:
        """Add a line for every one of ``each``, and see to it that they are on disk."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        lines = [{"at": at, "what": what, **known, **one} for one in each]
        hidden = {"update": None} if self.secret else {}
        append_lines(self.path, [json.dumps(x | hidden if "update" in x else x) for x in lines])

    def lines(self) -> Iterator[dict[str, Any]]:
        """All lines; one that a crash has cut short is left out."""
        text = self.path.read_text(encoding="utf-8") if self.path.is_file() else ""
        for line in text.splitlines():
            try:
                yield read_json(line)
            except ValueError:
                continue
