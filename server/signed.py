"""signed.jsonl: what hospitals have signed, one line each, so that neither side can deny it later.

A line holds the statement (``privacy.signing``) and the signature in base64. Lines are only ever
appended: a resumed run adds what it is sent again. Every answer that counted, as metrics.jsonl has
it, must have its line; so a file that was cut is found, but for the answers to the roll call and
the final scores.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from metaward.files import append_lines
from metaward.json_text import read_json
from metaward.privacy import Mark
from metaward.privacy.signing import Statement, verify
from metaward.server.baselines import own
from metaward.server.folder import Folder
from metaward.sim import Sim
from metaward.strategies.proof import SeatKeys, read_keys

NAME = "signed.jsonl"
CountedAnswer = tuple[str, str, int, str]
"""Kind, run, round and hospital of an answer."""


def seat_keys(run: Sim, folder: Folder, simulated: bool = False) -> SeatKeys:
    """The keys of a run's seats; what they verify is kept in its folder.

    Simulated hospitals have no keys: those of a deployment whose result is judged again do not
    sign.
    """
    if simulated:
        return SeatKeys()
    path, lines = folder.path / NAME, list[str]()

    def note(statement: Statement, signature: bytes) -> None:
        line = asdict(statement) | {"signature": b64encode(signature).decode()}
        lines.append(json.dumps(line))

    def keep() -> None:
        append_lines(path, lines)
        lines.clear()

    return SeatKeys(read_keys(run.server.seats), note, keep)


def signed_faults(run: Sim, folder: Folder) -> tuple[int, list[str]]:
    """How many statements of a run are signed by the keys in its configuration, and what is wrong.

    A run with keys whose file is missing has kept no evidence, which is a fault as well.
    """
    path, keys = folder.path / NAME, read_keys(run.server.seats)
    if not keys:
        return 0, []
    if not path.is_file():
        return 0, [f"{NAME}: missing, though the configuration has keys (server.seats)"]
    faults: list[str] = []
    found: list[CountedAnswer] = []
    for number, line in enumerate(_lines(path), 1):
        try:
            statement, signature = _statement(line)
        except (ValueError, KeyError, TypeError):
            faults.append(f"{NAME}: line {number} is no signed statement")
            continue
        key = keys.get(statement.hospital)
        if key is None or not verify(key, statement, signature):
            faults.append(f"{NAME}: line {number} is not signed by {statement.hospital}")
        elif statement.run.partition(".")[0] != folder.id:
            faults.append(f"{NAME}: line {number} was signed for another run")
        else:
            found.append((statement.kind, statement.run, statement.round, statement.hospital))
    missing = sorted(set(_counted(run, folder)) - set(found))
    faults += [
        f"{NAME}: the {kind} of {hospital} in round {number} of {of} counted, but no line signs it"
        for kind, of, number, hospital in missing
    ]
    return len(found), faults


def _counted(run: Sim, folder: Folder) -> Iterator[CountedAnswer]:
    """All answers that counted, as the lines of metrics.jsonl have it."""
    learners = {own(run).key: folder}
    for place in sorted((folder.path / "baselines").glob("*/")):
        learners[place.name] = folder.baseline(place.name)
    for key, at in learners.items():
        for row in at.rows():
            kind, hospitals = _of_row(run, row)
            yield from ((kind, f"{folder.id}.{key}", row["round"], one) for one in hospitals)


def _of_row(run: Sim, row: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The kind of answer that a line tells of, and whose counted."""
    if "accepted" in row:
        return "release", list(row["accepted"])
    roster = run.client.tasks.roster()
    aside = [seat.name for seat in roster if seat.role == "validation"]
    judged = aside if "validation" in row else run.judging()
    return "scores", [one for one in judged if one not in row["rejected"]]


def _lines(path: Path) -> Iterator[bytes]:
    yield from path.read_bytes().splitlines()


def _statement(line: bytes) -> tuple[Statement, bytes]:
    raw: dict[str, Any] = read_json(line)
    signature = b64decode(raw.pop("signature"), validate=True)
    mark = raw.pop("mark")
    return Statement(**raw, mark=Mark(**mark) if mark else None), signature
