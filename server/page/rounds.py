"""What the rounds of a run say about its hospitals, its time and its updates, from its metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import mean, median
from typing import Any

from metaward.server.baselines import opponents, own
from metaward.server.folder import Folder
from metaward.server.page.plot import Series
from metaward.sim import Sim

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Phase:
    """The training of one learner: its name, and its rows of metrics.jsonl in order."""

    learner: str
    rows: Rows

    @property
    def trained(self) -> Rows:
        """The rows of training rounds."""
        return [row for row in self.rows if "accepted" in row]

    @property
    def watched(self) -> Rows:
        """The rows with scores of the hospitals that judge, the unseen ones or those for
        validation."""
        unseen = [row for row in self.rows if "after" in row]
        return unseen or [row | row["validation"] for row in self.rows if row.get("validation")]


@dataclass(frozen=True)
class Stretch:
    """Rounds in a row with one outcome: its left edge and width in percent of all rounds."""

    at: float
    width: float
    accepted: bool


@dataclass(frozen=True)
class Presence:
    """How often a hospital was asked and gave a valid answer, why not, and in which rounds."""

    hospital: str
    role: str
    asked: int
    accepted: int
    reasons: str
    stretches: Sequence[Stretch]


@dataclass(frozen=True)
class Turned:
    """An answer that did not count."""

    learner: str
    round: int
    hospital: str
    reason: str


@dataclass(frozen=True)
class Duration:
    """The time of one learner's training, in seconds."""

    learner: str
    rounds: int
    total: float
    median: float
    longest: float


def phases(run: Sim, folder: Folder) -> list[Phase]:
    """The training of the run's own learner, and of each baseline that was trained."""
    trained = [one for one in opponents(run) if one.trained]
    found = [Phase(one.name, list(folder.baseline(one.key).rows())) for one in trained]
    return [Phase(own(run).name, list(folder.rows())), *(one for one in found if one.rows)]


def presences(run: Sim, phase: Phase) -> list[Presence]:
    """Every hospital, those with rejected answers first, then as in the roster."""
    rounds = max((row["round"] for row in phase.rows), default=1)
    found_out = outcomes(run, phase)
    found = [
        _presence(seat.name, seat.role, found_out.get(seat.name, {}), rounds)
        for seat in run.client.tasks.roster()
    ]
    return sorted(found, key=lambda one: one.accepted - one.asked)


def turned_away(phases: Sequence[Phase]) -> list[Turned]:
    """Every rejected answer, of baselines too, in the order of the rounds."""
    return [
        Turned(phase.learner, row["round"], hospital, why)
        for phase in phases
        for row in phase.rows
        for hospital, why in row.get("rejected", {}).items()
    ]


def durations(phases: Sequence[Phase]) -> list[Duration]:
    """The time of each training, without the evaluations between its rounds."""
    times = [(p.learner, [row["seconds"] for row in p.trained if "seconds" in row]) for p in phases]
    return [
        Duration(learner, len(taken), sum(taken), median(taken), max(taken))
        for learner, taken in times
        if taken
    ]


def scores(phase: Phase, scale: float) -> Series:
    """The score after adaptation at the hospitals that judge, with its band."""
    rows = phase.watched
    after, low, high = ([scale * row[key] for row in rows] for key in ("after", "low", "high"))
    return Series(phase.learner, [row["round"] for row in rows], after, low, high)


def norms(phase: Phase) -> list[Series]:
    """The norm of the combined update, and the mean of the hospitals' with their range."""
    rows = phase.trained
    combined = Series("combined", [r["round"] for r in rows], [r["update_norm"] for r in rows])
    known = [row for row in rows if row.get("norms")]
    each = [list(row["norms"].values()) for row in known]
    low, high = [*map(min, each)], [*map(max, each)]
    hospitals = Series("of a hospital", [r["round"] for r in known], [*map(mean, each)], low, high)
    return [combined, hospitals]


def outcomes(run: Sim, phase: Phase) -> dict[str, dict[int, str]]:
    """Hospital -> round -> why its answer did not count, "" where it did."""
    asked: dict[str, list[str]] = {}
    for seat in run.client.tasks.roster():
        asked.setdefault(seat.role, []).append(seat.name)
    outcomes: dict[str, dict[int, str]] = {}
    for row in phase.rows:
        role = "validation" if "validation" in row else "unseen"
        there = row["accepted"] if "accepted" in row else asked.get(role, [])
        for hospital in there:
            outcomes.setdefault(hospital, {})[row["round"]] = ""
        for hospital, why in row.get("rejected", {}).items():
            outcomes.setdefault(hospital, {})[row["round"]] = why
    return outcomes


def _presence(hospital: str, role: str, outcomes: Mapping[int, str], rounds: int) -> Presence:
    reasons = Counter(why for why in outcomes.values() if why)
    return Presence(
        hospital=hospital,
        role=role,
        asked=len(outcomes),
        accepted=len(outcomes) - reasons.total(),
        reasons=", ".join(f"{why} ({count})" for why, count in reasons.most_common()),
        stretches=list(_stretches(outcomes, rounds)),
    )


def _stretches(outcomes: Mapping[int, str], rounds: int) -> Iterator[Stretch]:
    ordered = sorted(outcomes.items())
    places = ((number - place, why == "") for place, (number, why) in enumerate(ordered))
    for _, group in groupby(zip(places, ordered, strict=True), key=lambda pair: pair[0]):
        members = [number for _, (number, _) in group]
        accepted = outcomes[members[0]] == ""
        left, width = 100 * (members[0] - 1) / rounds, 100 * len(members) / rounds
        yield Stretch(round(left, 3), round(width, 3), accepted)
