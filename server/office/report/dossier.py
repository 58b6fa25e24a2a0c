"""What a privacy report is made from, gathered in one place: configuration, ledgers, the server."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from metaward.privacy import REFUSALS
from metaward.privacy.ledger import Charged, History
from metaward.privacy.mechanisms.base import Protected
from metaward.server.baselines import own
from metaward.server.body import StoredBody
from metaward.server.office.accounts.places import OpenedLedger
from metaward.sim import Sim
from metaward.strategies.marks import SeenMark

REWOUND = "ledger-rewound"
_STAYED = REFUSALS - {REWOUND}
"""Answers with which nothing leaves. The server says ledger-rewound of updates, too."""


@dataclass(frozen=True)
class Dossier:
    """One run's evidence. ``hospitals`` are those that train, ``id`` names the run itself.

    ``rows`` are the server's lines of the training rounds of the run's own learner, ``marks`` what
    it saw of the ledgers; both are empty where only a hospital's ledger is known. ``ledgers`` has
    one for each hospital whose ledger is here. ``status`` is that of the run since ``since``, and
    ``starts`` says how often the server began or resumed. ``delta`` is the agreed one, ``code`` the
    version of the program, ``audit`` the file in which an audit would be, and ``start`` the body
    that the run started from. ``signed`` is how many answers were signed, None where none had to.
    ``bundles`` has the SHA-256 of each bundle of code that the server shipped.
    """

    run: Sim
    id: str
    simulated: bool
    delta: float
    hospitals: tuple[str, ...]
    ledgers: Mapping[str, OpenedLedger]
    status: str
    started: str
    since: str | None
    rounds: int
    code: str
    rows: tuple[Mapping[str, Any], ...] = ()
    marks: tuple[SeenMark, ...] = ()
    starts: int = 1
    audit: Path | None = None
    start: StoredBody | None = None
    signed: int | None = None
    bundles: tuple[str, ...] = ()

    @cached_property
    def key(self) -> str:
        """What the run's own learner is called in ledgers and marks."""
        return f"{self.id}.{own(self.run).key}"

    @property
    def protected(self) -> Protected | None:
        """The run's mechanism; None where it protects nothing."""
        return self.run.privacy if isinstance(self.run.privacy, Protected) else None

    @property
    def histories(self) -> list[History]:
        """All ledgers that can be read."""
        return [ledger.history for ledger in self.ledgers.values() if ledger.history]

    def own_charges(self, history: History) -> tuple[Charged, ...]:
        """A ledger's charges of this run and its own learner."""
        return tuple(c for c in history.charges if c.request.run == self.key)

    def seen_of(self, hospital: str) -> list[SeenMark]:
        """The marks of a hospital in this run."""
        return self._marks_of.get(hospital, [])

    def left_rounds(self, hospital: str) -> set[int]:
        """Rounds in which something may have left the hospital, as far as the server knows.

        All in which it was asked and did not refuse, because an answer that was late or did not
        count may have left all the same; and all that the server has a mark of, which outlive the
        lines of a round that failed or was done again.
        """
        asked = {number for number, why in self._asked(hospital) if why not in _STAYED}
        return asked | {seen.round for seen in self.seen_of(hospital)}

    def repeated(self, hospital: str) -> int:
        """Releases beyond one a round: a resumed run does rounds again, with fresh noise.

        A round that is asked for anew is charged anew and leaves a second mark. Where the
        noise is the server's the first round after each resumption may be a second sum over
        replies that hospitals sent again, which no mark tells.
        """
        seen = self.seen_of(hospital)
        return len(seen) - len({s.round for s in seen}) + self.summed_again

    @property
    def summed_again(self) -> int:
        """Sums that the server itself may have noised a second time."""
        real = self.run.privacy.unit.noise_at_server and not self.simulated
        return self.starts - 1 if real else 0

    def refused(self, hospital: str) -> Counter[str]:
        """How often the hospital answered with each refusal."""
        return Counter(str(why) for _, why in self._asked(hospital) if why in REFUSALS)

    def _asked(self, hospital: str) -> Iterator[tuple[int, str | None]]:
        """The rounds in which the hospital was asked; why its answer did not count, or None."""
        yield from self._rounds_of.get(hospital, ())

    @cached_property
    def _marks_of(self) -> dict[str, list[SeenMark]]:
        found: dict[str, list[SeenMark]] = {}
        for one in self.marks:
            if one.run == self.key:
                found.setdefault(one.hospital, []).append(one)
        return found

    @cached_property
    def _rounds_of(self) -> dict[str, list[tuple[int, str | None]]]:
        found: dict[str, list[tuple[int, str | None]]] = {}
        for row in self.rows:
            why = dict.fromkeys(row["accepted"]) | row["rejected"]
            for hospital, reason in why.items():
                found.setdefault(hospital, []).append((row["round"], reason))
        return found


def clean(text: str, longest: int = 200) -> str:
    """A text from outside as a report may hold it: without control characters, not empty."""
    return re.sub(r"[\x00-\x1f\x7f]", "\N{REPLACEMENT CHARACTER}", text)[:longest] or "(no name)"


def utc(time: str) -> str:
    """An ISO time with any offset, as reports have it."""
    return f"{datetime.fromisoformat(time).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
