"""signed.jsonl: what hospitals have signed, one line each, so that neither side can deny it later.

A line holds the statement (``privacy.signing``) and the signature in base64. Lines are only ever
appended: a resumed run adds what it is sent again.
"""

from __future__ import annotations

import json
import os
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from metaward.privacy import Mark
from metaward.privacy.signing import Statement, verify
from metaward.server.folder import Folder
from metaward.sim import Sim
from metaward.strategies.proof import SeatKeys, read_keys

NAME = "signed.jsonl"


def seat_keys(run: Sim, folder: Folder) -> SeatKeys:
    """The keys of a run's seats; what they verify is kept in its folder."""
    path = folder.path / NAME

    def keep(statement: Statement, signature: bytes) -> None:
        line = asdict(statement) | {"signature": b64encode(signature).decode()}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    return SeatKeys(read_keys(run.server.seats), keep)


def signed_faults(run: Sim, folder: Folder) -> tuple[int, list[str]]:
    """How many statements of a run are signed by the keys in its configuration, and what is wrong.

    A run with keys whose file is missing has kept no evidence, which is a fault as well.
    """
    path, keys = folder.path / NAME, read_keys(run.server.seats)
    if not keys:
        return 0, []
    if not path.is_file():
        return 0, [f"{NAME}: missing, though the configuration has keys (server.seats)"]
    count, faults = 0, []
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
            count += 1
    return count, faults


def _lines(path: Path) -> Iterator[bytes]:
    yield from path.read_bytes().splitlines()


def _statement(line: bytes) -> tuple[Statement, bytes]:
    raw: dict[str, Any] = json.loads(line)
    signature = b64decode(raw.pop("signature"), validate=True)
    mark = raw.pop("mark")
    return Statement(**raw, mark=Mark(**mark) if mark else None), signature
