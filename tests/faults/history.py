"""Checks the history of a run by what it has left: the server's files and the hospitals' ledgers.

``violations`` finds every broken promise, each with a name. It is for runs in which a ledger pays
for every update (units record, patient and task, or a simulation of them). Each side has its own
account, and neither is believed: what the server has seen must be in the ledgers, and theta is
computed again from the stored replies (``tests.faults.trajectory``).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from metaward.errors import MetawardError
from metaward.privacy import REFUSALS
from metaward.server.baselines import own
from metaward.server.checkpoint import PATTERN, load_state
from metaward.server.folder import Folder
from metaward.server.signed import signed_faults
from metaward.sim import Sim
from tests.faults.books import Books, Seen, Violation, ledger_violations
from tests.faults.trajectory import trajectory_violations

CHECKS = frozenset(
    {"no-reply", "unsigned", "wrong-hospital", "wrong-kind", "wrong-round", "wrong-scores"}
    | {"wrong-shape", "wrong-signature", "not-finite", "norm-above-cap", "out-of-range"}
)
"""The words with which the server itself rejects a reply."""


class NothingToCheckError(ValueError):
    """There is no history: a check of nothing would pass."""


@dataclass(frozen=True)
class Scene:
    """One run's folder and configuration, the server's log, and the ledgers by hospital."""

    folder: Folder
    run: Sim
    lines: Sequence[dict[str, Any]]
    books: Mapping[str, Books]

    @property
    def name(self) -> str:
        """The run and its own learner, as hospitals see them."""
        return f"{self.folder.id}.{own(self.run).key}"

    def seen(self) -> Iterator[Seen]:
        """The updates that the server accepted, with the request that each one answers."""
        asked: dict[tuple[str, int], str] = {}
        for line in self.lines:
            if line["what"] == "asked to train":
                asked[line["run"], line["round"]] = line["request"]
            elif line["what"] == "reply accepted" and "update" in line:
                key = line["run"], line["round"]
                yield Seen(line["hospital"], *key, asked.get(key, ""), line["update"])


def violations(
    place: Path,
    ledgers: Mapping[str, Path],
    reference: Path | None = None,
    left: Sequence[Seen] = (),
) -> list[Violation]:
    """Everything that is wrong with the run in the folder ``place``; [] for a sound history.

    ``ledgers`` are those of the hospitals that train. ``reference`` is the folder of a run with the
    same configuration and seeded noise that met no fault; theta must be the same after every round
    up to the first in which other hospitals counted. ``left`` are further updates that are known to
    have left a hospital. ``NothingToCheckError`` where there is no log, no ledger, no update or no
    common round.
    """
    folder = Folder(place)
    lines = list(folder.trail().lines()) if folder.exists() else []
    if not lines or not ledgers:
        raise NothingToCheckError(f"{place}: {len(lines)} lines of a log, {len(ledgers)} ledgers")
    books = {hospital: Books.read(hospital, path) for hospital, path in ledgers.items()}
    scene = Scene(folder, folder.config(), lines, books)
    seen = list(scene.seen())
    if not seen:
        raise NothingToCheckError(f"{place}: no update was ever accepted")
    found = [*ledger_violations(books, [*seen, *left])]
    for check in (server_violations, checkpoint_violations, ending_violations, causes):
        found += check(scene)
    found += trajectory_violations(folder, scene.run, lines, books)
    if reference is not None:
        found += reference_violations(folder, Folder(reference))
    return found


def server_violations(scene: Scene) -> Iterator[Violation]:
    """Marks that no ledger holds, signatures that are missing, and rounds that are."""
    marks = scene.folder.marks().seen
    for seen in marks:
        books = scene.books.get(seen.hospital)
        if books is not None and books.ledger is not None and not books.ledger.holds(seen.mark):
            text = f"{seen.hospital}: its ledger lacks row {seen.mark.sequence}, which was seen"
            yield Violation("ledger-set-back", text)
    for fault in signed_faults(scene.run, scene.folder)[1]:
        yield Violation("not-signed", fault)
    rounds = [row["round"] for row in scene.folder.rows() if "accepted" in row]
    if rounds != list(range(1, len(rounds) + 1)):
        yield Violation("round-lost", f"metrics.jsonl has the rounds {rounds}")
    accepted = {(s.round, s.hospital) for s in scene.seen() if s.run == scene.name}
    for row in scene.folder.rows():
        for hospital in row.get("accepted", ()):
            if (row["round"], hospital) not in accepted:
                text = f"round {row['round']}: the reply of {hospital} counted, but is in no log"
                yield Violation("log-lost", text)


def checkpoint_violations(scene: Scene) -> Iterator[Violation]:
    """Checkpoints that cannot be read, and values that are not finite."""
    for path in sorted(scene.folder.checkpoints.glob(PATTERN)):
        try:
            state = load_state(path, scene.run.canonical())
        except MetawardError as error:
            yield Violation("checkpoint-damaged", str(error))
            continue
        vectors = {"theta": state.theta, **state.outer}
        for name, vector in vectors.items():
            if not np.isfinite(vector).all():
                yield Violation("not-finite", f"{path}: {name}")


def ending_violations(scene: Scene) -> Iterator[Violation]:
    """A run that is neither at work nor well ended, or ended without what it should have left."""
    status, reason = scene.folder.status()
    if status in ("failed", "interrupted") and not reason:
        yield Violation("unnamed-cause", f"the run is {status}, and nobody says why")
    if status in ("absent", "running"):
        yield Violation("no-ending", f"the run's status is {status}, though nobody works on it")
    if status != "finished":
        return
    rows = [row["round"] for row in scene.folder.rows() if "accepted" in row]
    if rows[-1:] != [scene.run.server.rounds]:
        text = f"the run finished after round {rows[-1:]} of {scene.run.server.rounds}"
        yield Violation("round-lost", text)
    try:
        scene.folder.result()
        theta = load((scene.folder.path / "theta.safetensors").read_bytes())["theta"]
    except (MetawardError, OSError, KeyError, SafetensorError) as error:
        yield Violation("result-lost", f"{scene.folder.path}: {error}")
        return
    if not np.isfinite(theta).all():
        yield Violation("not-finite", f"{scene.folder.path}: the result's theta")


def causes(scene: Scene) -> Iterator[Violation]:
    """Rejections, absences and failures without one of the fixed words that say why."""
    for line in scene.lines:
        if line["what"] == "reply rejected" and not named(str(line.get("reason", ""))):
            text = f"round {line['round']}: {line['hospital']} was rejected: {line.get('reason')!r}"
            yield Violation("unnamed-cause", text)
        elif line["what"] in ("quorum failed", "run failed") and not line.get("reason"):
            yield Violation("unnamed-cause", json.dumps(line))
    for hospital, books in scene.books.items():
        for refusal in books.refusals:
            if refusal not in REFUSALS:
                yield Violation("unnamed-cause", f"{hospital} refused with {refusal!r}")
    yield from absences(scene)


def named(reason: str) -> bool:
    """Whether this is one of the fixed words with which a reply is rejected."""
    if reason.startswith(("error-", "malformed-")):
        return len(reason.partition("-")[2]) > 0
    return reason in CHECKS | REFUSALS or reason.removeprefix("unsigned-") in REFUSALS


def absences(scene: Scene) -> Iterator[Violation]:
    """Hospitals that were asked, and of which the log says nothing more.

    Where a process died in between, the next one says ``run resumed`` and asks again.
    """
    waiting: dict[str, tuple[str, int]] = {}
    for line in scene.lines:
        what, key = line["what"], (str(line.get("run")), int(line.get("round", 0)))
        if what in ("asked to train", "asked to evaluate"):
            waiting |= dict.fromkeys(line["hospitals"], key)
        elif what in ("reply accepted", "reply rejected"):
            waiting.pop(line["hospital"], None)
        elif what in ("run resumed", "run failed", "run interrupted"):
            waiting.clear()
        elif what in ("checkpoint", "run finished"):
            for hospital, (_, number) in waiting.items():
                text = f"{hospital} was asked in round {number}; nothing says what came of it"
                yield Violation("unnamed-cause", text)
            waiting.clear()


def reference_violations(folder: Folder, other: Folder) -> Iterator[Violation]:
    """Rounds after which theta is not that of a run that met no fault."""
    ours, theirs = thetas(folder), thetas(other)
    same = [
        number for number in sorted(ours.keys() & theirs.keys()) if number < parting(folder, other)
    ]
    if not same:
        raise NothingToCheckError(f"{folder.path} and {other.path} have no round in common")
    for number in same:
        if ours[number] != theirs[number]:
            yield Violation("other-trajectory", f"theta after round {number} is another one")


def thetas(folder: Folder) -> dict[int, bytes]:
    """The bytes of theta after each round that has a checkpoint."""
    paths = sorted(folder.checkpoints.glob(PATTERN))
    states = [load_state(path, folder.config().canonical()) for path in paths]
    return {state.round: state.theta.tobytes() for state in states}


def parting(folder: Folder, other: Folder) -> int:
    """The first round in which other hospitals counted."""
    took = [
        {r["round"]: list(r["accepted"]) for r in f.rows() if "accepted" in r}
        for f in (folder, other)
    ]
    differing = [number for number in took[0] if took[0][number] != took[1].get(number)]
    return min(differing, default=max(took[0], default=0) + 1)


def summary(found: Sequence[Violation]) -> dict[str, int]:
    """How many violations of each name."""
    return dict(Counter(one.name for one in found))
