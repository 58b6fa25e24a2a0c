"""Random faults to the processes of a light federation, until its run has finished.

At random instants a random process gets SIGKILL, SIGTERM or SIGSTOP (and SIGCONT after a while,
often later than a round waits). What has ended is started again after a moment, and the server
resumes the run. Nothing may be lost: the run must finish, and its history must be sound.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from metaward.server.engines import ENGINES
from metaward.server.folder import Folder
from tests.faults.books import Violation
from tests.faults.history import violations
from tests.faults.light import TIMEOUT, Federation, configured

SIGNALS = ("SIGKILL", "SIGTERM", "SIGSTOP")
SERVER_SHARE = 0.4
"""How often the server is hit; otherwise one of the hospitals."""
LINES, HASTE_SECONDS, DULL_SECONDS = 3.0, 0.4, 20.0
"""A fault comes when the server's log has grown by so many lines in the mean, up to so many seconds
later; or after so many seconds in which nothing has been logged."""
STOPPED_SECONDS, AWAY_SECONDS = 2 * TIMEOUT, 0.6
"""The longest stop, and the longest time until an ended process is started again."""
ROUNDS = 16
CALM_SECONDS = 400.0
"""Within which a run finishes to which nothing is done any more, on a busy machine, too."""


class NeverFinishedError(AssertionError):
    """A run did not finish though nothing was done to it any more."""


@dataclass
class Report:
    """Counts: faults by process and signal, and by what the server had done last; how the server
    ended in between; what is wrong with the history."""

    faults: Counter[str] = field(default_factory=Counter)
    met: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    left: int = 0
    runs: int = 0
    found: list[Violation] = field(default_factory=list)

    def add(self, other: Report) -> None:
        """Take over the counts of another report."""
        for name in ("faults", "met", "ended", "rejected"):
            getattr(self, name).update(getattr(other, name))
        self.left, self.runs = self.left + other.left, self.runs + other.runs
        self.found += other.found

    def plain(self) -> dict[str, Any]:
        """Plain data for JSON."""
        counts = ("faults", "met", "ended", "rejected")
        shown: dict[str, Any] = {n: dict(sorted(getattr(self, n).items())) for n in counts}
        known = {"runs": self.runs, "updates_that_left": self.left}
        return known | shown | {"violations": [str(one) for one in self.found]}


class Storm:
    """The faults of one run; ``rng`` draws instants, processes and signals."""

    def __init__(self, federation: Federation, faults: int, rng: np.random.Generator) -> None:
        self.federation, self.left, self.rng = federation, faults, rng
        self.due: list[tuple[float, str, int | None]] = []
        self.seen = self.goal = 0
        self.since = time.monotonic()
        self.next: float | None = None
        self.report = Report(runs=1)

    def rage(self) -> None:
        """Do the faults, and wait until the run has finished."""
        for name in self.federation.names:
            self.federation.start(name)
        calm: float | None = None
        while not self._look():
            now = time.monotonic()
            if self.left and self._time_to_strike(now):
                self._strike(now)
            elif not self.left:
                calm = calm or now + CALM_SECONDS
                if now > calm:
                    raise NeverFinishedError(f"{self.federation.place}: {self.report.plain()}")
            time.sleep(0.01)

    def _look(self) -> bool:
        """Do what is due; whether the run has finished."""
        now = time.monotonic()
        for one in [one for one in self.due if one[0] <= now]:
            self.due.remove(one)
            _, name, process = one
            if process is None:
                self.federation.start(name)
            elif self.federation.processes.get(name) == process:
                os.kill(process, signal.SIGCONT)
        for name in self.federation.names:
            code = self.federation.ended(name)
            if code is None:
                continue
            if name == "server":
                status, reason = self.federation.folder.status()
                self.report.ended[
                    f"{status}: {reason.partition(':')[0]}" if reason else status
                ] += 1
                if code == 0:
                    return True
            self.due.append((now + self.rng.uniform(0, AWAY_SECONDS), name, None))
        return False

    def _time_to_strike(self, now: float) -> bool:
        """Whether the run has come so far as was drawn for the next fault, and a moment further."""
        path = self.federation.folder.path / "audit.jsonl"
        lines = path.read_bytes().count(b"\n") if path.is_file() else 0
        if lines > self.seen:
            self.seen, self.since = lines, now
        if self.next is None and (lines >= self.goal or now - self.since > DULL_SECONDS):
            self.next = now + self.rng.uniform(0, HASTE_SECONDS)
        return self.next is not None and now >= self.next

    def _strike(self, now: float) -> None:
        """One fault to a process that is there."""
        self.next, self.since = None, now
        self.goal = self.seen + int(self.rng.exponential(LINES))
        name = "server"
        if self.rng.random() > SERVER_SHARE:
            name = str(self.rng.choice(list(self.federation.generations)))
        process = self.federation.processes.get(name)
        if process is None:
            return
        how = str(self.rng.choice(SIGNALS))
        os.kill(process, getattr(signal, how))
        if how == "SIGSTOP":
            self.due.append((now + self.rng.uniform(0, STOPPED_SECONDS), name, process))
        else:
            os.kill(process, signal.SIGCONT)  # one that was stopped could not end
        self.left -= 1
        kind = "server" if name == "server" else "hospital"
        self.report.faults[f"{how} to {kind}"] += 1
        last = list(self.federation.folder.trail().lines())[-1:] or [{"what": "nothing yet"}]
        self.report.met[f"{kind}, after {last[0]['what']}"] += 1


def storm(
    place: Path, faults: int, rng: np.random.Generator, simulated: bool, reference: Path | None
) -> Report:
    """One run with so many faults, and what its history says."""
    federation = Federation(place, simulated, ROUNDS)
    raging = Storm(federation, faults, rng)
    try:
        raging.rage()
    finally:
        federation.end()
    report, left = raging.report, federation.left()
    report.left = len(left)
    for line in federation.folder.trail().lines():
        if line["what"] == "reply rejected":
            report.rejected[line["reason"]] += 1
    report.found = violations(federation.folder.path, federation.ledgers, reference, left)
    return report


def reference_run(place: Path) -> Path:
    """The folder of a simulated run to which nothing is done, carried out in this process.

    What is forked from it later finds all libraries loaded and all first calls made.
    """
    folder, run = Folder(place), configured(ROUNDS, simulated=True)
    run = replace(run, strategies=replace(run.strategies, timeout=900.0))
    folder.create(run)
    ENGINES["inprocess"](run, folder, lambda row: None)
    return folder.path
