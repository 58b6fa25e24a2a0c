"""Which hospitals' answers did not count, how often, and why: for everybody who reads a result.

A mean over the few that are left looks like one over all. So the final table names each hospital
that was rejected or silent, while the run's learner or a baseline was trained.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from metaward.server.folder import Folder
from metaward.server.page.rounds import Phase, outcomes, phases
from metaward.sim import Sim


@dataclass(frozen=True)
class Missed:
    """``hospital`` was asked in ``asked`` rounds of ``learner``; ``missed`` of its answers did not
    count, by ``reasons`` (of which ``no-reply`` is one). In ``losses`` rounds its update counted
    and its loss, out of range, was left out."""

    hospital: str
    learner: str
    asked: int
    missed: int
    reasons: Mapping[str, int]
    losses: int = 0

    def plain(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def text(self) -> str:
        """One line for people."""
        parts = []
        if self.missed:
            why = ", ".join(f"{reason} ({count})" for reason, count in self.reasons.items())
            parts.append(f"{self.missed} of {self.asked} answers did not count: {why}")
        if self.losses:
            parts.append(f"{self.losses} of {self.asked} losses were out of range and left out")
        return f"{self.hospital}, {self.learner}: {'; '.join(parts)}"


def missed(run: Sim, folder: Folder) -> list[Missed]:
    """Every hospital with an answer that did not count, the most often missed one of each learner
    first; the run's own learner comes before the baselines."""
    return [one for phase in phases(run, folder) for one in _of_phase(run, phase)]


def _of_phase(run: Sim, phase: Phase) -> Sequence[Missed]:
    losses = Counter(h for row in phase.trained for h in row.get("loss_left_out", ()))
    found = []
    for hospital, rounds in sorted(outcomes(run, phase).items()):
        why = dict(Counter(reason for reason in rounds.values() if reason).most_common())
        count = sum(why.values())
        if count or losses[hospital]:
            seen = losses[hospital]
            found.append(Missed(hospital, phase.learner, len(rounds), count, why, seen))
    return sorted(found, key=lambda one: -one.missed)
