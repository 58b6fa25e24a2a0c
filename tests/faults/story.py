"""Faults done to a live deployment, one after the other, while it carries out runs.

One thread does the faults (``Hand``). The caller's carries out runs and resumes each that a fault
has ended, until all faults are done and the last run has finished. Nothing of Flower or metaward is
replaced: SuperLink, SuperNodes, server app, client apps and guards are processes on loopback, with
TLS and node authentication, and every record is under differential privacy.
"""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psutil
import pytest

from metaward import sim
from metaward.errors import MetawardError
from metaward.server.baselines import own
from metaward.server.deploy import commands
from metaward.server.deploy.layout import HospitalFiles, Site, default_policy, seats
from metaward.server.deploy.up import IDLE, Deployment, deployment
from metaward.server.folder import BusyError, Folder, claimed
from tests.faults.cells import Cell, found

STOPPED_SECONDS = 160.0
"""Longer than a round of ``configuration`` waits, and longer than Flower waits for a heartbeat."""
RECOVERY_SECONDS = 1200.0
POLL_SECONDS = 0.05
STARTS = 100
"""So often one run may be started; each fault ends a run once at most, but a server app that is
stopped keeps its run for as long, and every start meanwhile fails."""
BUSY_SECONDS = 5.0

CONFIGURATION: dict[str, Any] = {
    "name": "faults",
    "seed": 3,
    "client": {
        "tasks": {"source": "sine", "hospitals": 2, "unseen": 1, "functions": 60, "points": 50},
        "model": {"network": "mlp", "hidden": [40, 40]},
        "inner": {"algorithm": "reptile", "lr": 0.02, "steps": 10, "adapt_steps": 2},
        "tasks_per_round": 20,
        "schedule": "passes",
    },
    "privacy": {
        "mechanism": "sums",
        "unit": "record",
        "epsilon": 1.0,
        "delta": 1e-5,
        "clip_norm": 1.0,
    },
    "strategies": {
        "combine": {"rule": "mean"},
        "outer": {"optimizer": "adam", "lr": 0.01},
        "quorum": 0.5,
        "timeout": 150.0,
    },
    "server": {
        "rounds": 6,
        "evaluation": {"every": 6, "episodes": 2, "final_episodes": 4, "baselines": []},
        "checkpoint": {"every": 1, "keep": 1000},
        "flower": {"startup_timeout": 600.0, "return_timeout": 300.0},
    },
}
"""Small, but a hospital trains for some seconds, so that a fault can happen meanwhile."""


@dataclass
class Outcome:
    """What happened to a cell: in which ``run`` and after how many seconds the hospital's updates
    counted again; how runs ``ended`` because of it, and what the server's log says meanwhile. Where
    they never counted again, ``lost`` says what was waited for."""

    cell: Cell
    run: str
    process: int
    at: str
    seconds: float | None = None
    lost: str = ""
    ended: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self.cell) | {k: v for k, v in asdict(self).items() if k != "cell"}


class Lost(AssertionError):
    """A run did not come back after a fault, which is what must not happen."""


class Story:
    """Runs on one deployment in ``place``, and the faults that are done to them."""

    def __init__(self, place: Path, rounds: int = 12, seeded: bool = False) -> None:
        self.place, self.site = place, Site(place / "deployment")
        self.seeded = place / "seeded" if seeded else None
        self.run = configured(self.site, rounds, seeded)
        self.names = [seat.name for seat in self.run.client.tasks.roster()]
        self.victim = self.names[0]
        self.live: Deployment | None = None
        self.folders: list[Folder] = []
        self.endings: list[tuple[datetime, str]] = []
        self.outcomes: list[Outcome] = []
        self.over = Event()

    def ledgers(self, folder: Folder) -> dict[str, Path]:
        """The ledgers of the hospitals that train, in which a run is charged."""
        train = [one.name for one in self.run.client.tasks.roster() if one.role == "train"]
        if self.seeded is not None:
            own_name = f"{folder.id}.{own(self.run).key}"
            return {name: self.seeded / own_name / f"{name}.sqlite" for name in train}
        return {one.name: one.ledger for one in self.site.hospitals(train)}

    def play(self, cells: Sequence[Cell]) -> list[Outcome]:
        """Do all the faults; ``Lost`` where a run does not come back after one."""
        hand = Hand(self, cells)
        with ExitStack() as stack:
            if self.seeded is not None:
                patch = stack.enter_context(pytest.MonkeyPatch.context())
                patch.setattr(commands, "node_config", partial(seeded_config, self.seeded))
            stack.callback(self._end, hand)
            live = stack.enter_context(ExitStack())
            hand.start()
            while hand.is_alive():
                self.folders.append(claimed(self.run, self.place / f"run-{len(self.folders) + 1}"))
                self._finish(self.folders[-1], live)
        if hand.error is not None:
            raise hand.error
        return self.outcomes

    def _end(self, hand: Hand) -> None:
        self.over.set()
        hand.join()

    def _finish(self, folder: Folder, stack: ExitStack) -> None:
        """Carry out a run, and resume it as often as it is ended; ``stack`` has the deployment."""
        for _ in range(STARTS):
            try:
                self._deployed(stack).carry_out(self.run, folder, lambda row: None)
                return
            except MetawardError as error:
                self.endings.append((datetime.now(UTC), f"{type(error).__name__}: {error}"))
                if IDLE in str(error):  # the command would end here, and be started again
                    stack.close()
                    self.live = None
                time.sleep(BUSY_SECONDS if isinstance(error, BusyError) else 1.0)
        raise Lost(f"{folder.path} did not finish: {self.endings[-1][1]}")

    def _deployed(self, stack: ExitStack) -> Deployment:
        """The deployment, or a new one from the same folder where its SuperLink has ended."""
        if self.live is None or self.live.link.poll() is not None or not self.live.wardens():
            stack.close()
            made = deployment(self.run, self.site, generous(self.place), guard=self.seeded is None)
            self.live = stack.enter_context(made)
        return self.live

    def lines(self, since: datetime) -> list[dict[str, Any]]:
        """What the server has logged since then, in all runs."""
        every = [line for folder in list(self.folders) for line in logged(folder)]
        return [line for line in every if datetime.fromisoformat(line["at"]) >= since]


class Hand(Thread):
    """Does one fault after the other, each when the hospital has come back from the last one."""

    def __init__(self, story: Story, cells: Sequence[Cell]) -> None:
        super().__init__(daemon=True)
        self.story, self.cells = story, cells
        self.error: Exception | None = None

    def run(self) -> None:
        """Do all faults; what goes wrong is kept for the thread that waits."""
        try:
            for cell in self.cells:
                outcome = Outcome(cell, "", 0, "")
                self.story.outcomes.append(outcome)
                try:
                    self._do(cell, outcome)
                except Lost as error:
                    outcome.lost = str(error)
                print(json.dumps(outcome.plain()), flush=True)
        except Exception as error:
            self.error = error

    def _do(self, cell: Cell, outcome: Outcome) -> None:
        story = self.story
        self._until(self._between_rounds, "a checkpoint before another round")
        process = self._moment(cell)
        began, at = time.monotonic(), datetime.now(UTC)
        process.send_signal(getattr(signal, cell.signal))
        outcome.run, outcome.process = story.folders[-1].path.name, process.pid
        outcome.at = at.isoformat(timespec="milliseconds")
        if cell.signal == "SIGSTOP":
            story.over.wait(STOPPED_SECONDS)
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
        resumed = datetime.now(UTC)
        self._until(lambda: self._recovered(resumed), f"the recovery from {cell}")
        outcome.seconds = round(time.monotonic() - began, 1)
        outcome.ended = [brief(text) for when, text in story.endings if when >= at]
        outcome.said = [short(line) for line in story.lines(at) if line["what"] not in USUAL]

    def _until(self, condition: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + RECOVERY_SECONDS
        while not (value := condition()):
            if self.story.over.wait(POLL_SECONDS):
                raise Lost(f"the runs ended while waiting for {what}")
            if time.monotonic() > deadline:
                raise Lost(f"waited {RECOVERY_SECONDS:g} s for {what}")
        return value

    def _between_rounds(self) -> bool:
        """The last thing that happened is a checkpoint that is not the last one of its run."""
        if not self.story.folders:
            return False
        last = [*logged(self.story.folders[-1])][-1:]
        rounds = self.story.run.server.rounds
        return any(one["what"] == "checkpoint" and one["round"] < rounds for one in last)

    def _moment(self, cell: Cell) -> psutil.Process:
        """The process, at the moment of the cell."""
        story = self.story
        charges, replies = self._rows()
        armed = datetime.now(UTC)

        def there() -> psutil.Process | None:
            now = self._rows()
            if cell.moment == "during" and not (now[0] > charges and now[0] > now[1]):
                return None
            if cell.moment == "after" and now[1] <= replies:
                return None
            if cell.moment == "before" and cell.component == "client app" and not asked(armed):
                return None
            return found(cell.component, story.live, story.victim) if story.live else None

        def asked(since: datetime) -> bool:
            return any(line["what"] == "asked to train" for line in story.lines(since))

        process: psutil.Process = self._until(there, f"the moment of {cell}")
        return process

    def _rows(self) -> tuple[int, int]:
        """The charges and replies of the hospital that is hit."""
        story = self.story
        return rows(story.ledgers(story.folders[-1])[story.victim])

    def _recovered(self, since: datetime) -> bool:
        """The hospital's update has counted since then, and the round is saved."""
        counted = False
        for line in self.story.lines(since):
            mine = line.get("hospital") == self.story.victim and "update" in line
            counted |= line["what"] == "reply accepted" and mine
            if counted and line["what"] == "checkpoint":
                return True
        return False


USUAL = {"run started", "asked to train", "asked to evaluate", "reply accepted", "checkpoint"}


def seeded_config(folder: Path, hospital: HospitalFiles) -> str:
    """A node config by which a hospital draws seeded noise, as a simulated one, and signs."""
    own = {"simulation": folder, "signing-key": hospital.signing_key}
    pairs = [f"{key}={json.dumps(str(value))}" for key, value in own.items()]
    return " ".join([f"partition-id={hospital.index}", *pairs])


def configured(site: Site, rounds: int, seeded: bool = False) -> sim.Sim:
    """The configuration with the keys of the hospitals' seats.

    With seeded noise every hospital must answer in every round, so that the trajectory has to be
    that of a run without faults.
    """
    run = sim.parse(CONFIGURATION)
    if seeded:
        run = replace(run, strategies=replace(run.strategies, quorum=1.0))
    names = [seat.name for seat in run.client.tasks.roster()]
    evaluation = replace(run.server.evaluation, every=rounds)
    server = replace(run.server, rounds=rounds, evaluation=evaluation, seats=seats(site, names))
    return replace(run, server=server)


def generous(place: Path) -> Path:
    """A policy that lets the same records take part in many runs."""
    path = place / "policy.yaml"
    text = default_policy(sim.parse(CONFIGURATION)).read_text(encoding="utf-8")
    assert "epsilon: 8.0 " in text
    path.write_text(text.replace("epsilon: 8.0 ", "epsilon: 20.0 "), encoding="utf-8")
    return path


def logged(folder: Folder) -> Iterator[dict[str, Any]]:
    """The server's log, which may not be there yet."""
    return folder.trail().lines() if (folder.path / "config.json").is_file() else iter(())


def brief(error: str) -> str:
    """What ended a run, without the lines of Flower's log that follow."""
    return error.splitlines()[0].partition("; the end of ")[0]


def short(line: dict[str, Any]) -> str:
    """A line of the server's log, for people."""
    words = [line["what"], line.get("hospital"), line.get("reason")]
    return ", ".join(str(word) for word in words if word) + f" (round {line.get('round', '?')})"


def rows(ledger: Path) -> tuple[int, int]:
    """How many charges and replies the ledger has; it is only read, and not locked for long."""
    if not ledger.is_file():
        return 0, 0
    query = "SELECT sum(kind = 'charge'), sum(kind = 'reply') FROM entry"
    with closing(sqlite3.connect(f"{ledger.as_uri()}?mode=ro", uri=True, timeout=30)) as db:
        charges, replies = db.execute(query).fetchone()
    return charges or 0, replies or 0
