"""What a privacy report is made from, gathered in one place: configuration, ledgers, the server."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Any

from privacy import REFUSALS
from privacy.event import Budget
from privacy.protected import Protected
from server.baselines import own
from sim import Sim
from strategies.marks import Seen

DELTA = 1e-5
"""Under mechanism none, which agrees on none."""


@dataclass(frozen=True)
class Case:
    """One run's evidence. ``hospitals`` are those that train, ``id`` names the run itself.

    ``rows`` are the server's lines of the run's own learner, ``marks`` what it saw of the ledgers;
    both are empty where only a hospital's ledger is known. ``ledgers`` has a file for each
    hospital whose ledger is here.
    """

    run: Sim
    id: str
    simulated: bool
    delta: float
    hospitals: tuple[str, ...]
    ledgers: Mapping[str, Path]
    rows: tuple[Mapping[str, Any], ...] = ()
    marks: tuple[Seen, ...] = ()

    @property
    def key(self) -> str:
        """What the run's own learner is called in ledgers and marks."""
        return f"{self.id}.{own(self.run).key}"

    @property
    def protected(self) -> Protected | None:
        """The run's mechanism; None where it protects nothing."""
        return self.run.privacy if isinstance(self.run.privacy, Protected) else None

    @property
    def budget(self) -> Budget | None:
        """What the configuration lets the run spend on one unit."""
        return self.run.privacy.budget

    def seen_of(self, hospital: str) -> list[Seen]:
        """The marks of a hospital in this run."""
        return [s for s in self.marks if s.hospital == hospital and s.run == self.key]

    def left_rounds(self, hospital: str) -> set[int]:
        """Rounds in which something may have left the hospital, as far as the server knows.

        All in which it was asked and did not refuse: an answer that was late or did not count may
        have left all the same.
        """
        asked = {row["round"]: row["rejected"].get(hospital) for row in self.rows if _in(row, hospital)}
        return {number for number, why in asked.items() if why not in REFUSALS}

    def refused(self, hospital: str) -> Counter[str]:
        """How often the hospital answered with each refusal."""
        reasons = (row["rejected"].get(hospital) for row in self.rows)
        return Counter(str(why) for why in reasons if why in REFUSALS)


def agreed_delta(run: Sim) -> float:
    """The delta that the run's promise is made at."""
    return run.privacy.budget.delta if run.privacy.budget else DELTA


def rounds_of(rows: list[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Those lines of metrics.jsonl that tell of a training round."""
    return tuple(row for row in rows if "accepted" in row)


def clean(text: str, longest: int = 200) -> str:
    """A text from outside as a report may hold it: without control characters, not empty."""
    return re.sub(r"[\x00-\x1f\x7f]", "\N{REPLACEMENT CHARACTER}", text)[:longest] or "(no name)"


def utc(time: str) -> str:
    """An ISO time with any offset, as reports have it."""
    return f"{datetime.fromisoformat(time).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def unlimited(case: Case, hospital: str) -> bool:
    """Whether records left this hospital without any protection."""
    return case.run.privacy.unit == "none" and bool(case.left_rounds(hospital))


def epsilon_without(left: bool) -> float:
    """Epsilon where nothing protects: unlimited once anything has left."""
    return inf if left else 0.0


def _in(row: Mapping[str, Any], hospital: str) -> bool:
    return hospital in row["accepted"] or hospital in row["rejected"]
