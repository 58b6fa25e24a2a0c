"""What the tests of the privacy commands share: ledgers, result folders, the command itself."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from metaward.privacy.accounting import allows
from metaward.privacy.event import Budget, Charge, Event, gaussian
from metaward.privacy.ledger import Entry, Ledger, RequestKey
from metaward.server.cli import main
from metaward.server.folder import Folder
from metaward.sim import Sim
from metaward.strategies.marks import SeenMark
from tests.privacy.ledger.ledger_desk import description
from tests.server.small import small

EIGHT = Budget(8.0, 1e-5)
STEPS = gaussian(10.0, 50)
"""Epsilon 2.943 at delta 1e-5 and 2.053 at 1e-3: known answers of Gaussian DP, mu = sqrt(50)/10."""
PRIVATE = (
    "privacy.mechanism=sums",
    "privacy.unit=record",
    "client.schedule=passes",
    "client.tasks.functions=4",
    "client.tasks.points=30",
    "server.evaluation.baselines=[scratch]",
)
"""The small run under record-level DP: a hospital's 120 records are four tasks, two a round."""

Call = Callable[..., int]


def caller(monkeypatch: pytest.MonkeyPatch) -> Call:
    """The command in this process; it returns the exit code."""

    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["metaward", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        return int(stop.value.code or 0)

    return call


def private(*settings: str) -> Sim:
    return small(*PRIVATE, *settings)


def written(run: Sim, path: Path) -> Path:
    path.write_text(json.dumps(run.mapping()))
    return path


def request(number: int, run: str = "run-1") -> RequestKey:
    return RequestKey(run, number, "train", hashlib.sha256(str(number).encode()).hexdigest())


def pay(
    ledger: Ledger,
    number: int,
    names: str = "ab",
    event: Event = STEPS,
    budget: Budget | None = EIGHT,
    rule: Any = allows,
    run: str = "run-1",
    code: str | None = None,
) -> Entry:
    """One round: each record named by a letter pays ``event``, and the reply is stored."""
    keys = tuple(f"record:patient-{name}" for name in names)
    said = description("sums", "record", event)
    paid = [Charge(keys, (event,))]
    entry = ledger.charge(request(number, run), said, paid, budget, rule, code=code)
    ledger.answer(entry, b"reply %d" % number)
    return entry


def folder_with(path: Path, run: Sim) -> tuple[Folder, Ledger]:
    """A result folder in which hospital sine-01 has paid two rounds, and the server saw both."""
    folder = Folder(path)
    folder.create(run)
    place = folder.hospitals / f"{folder.id}.reptile" / "sine-01.sqlite"
    place.parent.mkdir(parents=True)
    ledger = Ledger.create(place, "sine-01", "simulation")
    for number in (1, 2):
        see(folder, number, pay(ledger, number))
    return folder, ledger


def see(folder: Folder, number: int, entry: Entry) -> None:
    folder.marks().note([SeenMark("sine-01", f"{folder.id}.reptile", number, entry.mark)])
