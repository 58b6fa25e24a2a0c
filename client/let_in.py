"""Which bundle of code the hospital's gate let in for a run, from the gate's log.

``metaward gate`` stands between a hospital's SuperNode and the server. It appends each decision to
its log as a line of JSON, before it acts; a line that lets code in names the SHA-256 of the bundle
and Flower's number of the run. A hospital whose node config names that log (``gate-log``) writes
the hash into every charge, so that its ledger says which code used the records. The code that reads
the log is the one that was let in: it can lie about itself, but not change what the gate wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from metaward.client.errors import NodeError
from metaward.json_text import read_json

ADMITTED, BUNDLE, RUN = "admitted", "bundle", "flower_run"
"""What a line says that lets code in, and its keys for the hash and for Flower's run."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


def code_let_in(config: Mapping[str, object], flower_run: int | None) -> str | None:
    """SHA-256 of the bundle that the gate let in last for a run, in 64 hex digits.

    None where the node config names no gate's log, or Flower's run is not known. ``NodeError``
    where the log cannot be read, or has let in nothing for the run.
    """
    named = config.get("gate-log")
    if not named or flower_run is None:
        return None
    path = Path(str(named))
    found = [line[BUNDLE] for line in _admissions(path, flower_run)]
    if not found:
        raise NodeError(
            "gate-log",
            f"gate-log: {path} has let in no code for Flower's run {flower_run}, so this code came "
            "in another way; let the SuperNode reach the server through the gate alone, or correct "
            "the path",
        )
    return str(found[-1])


def _admissions(path: Path, flower_run: int) -> Iterator[Mapping[str, Any]]:
    """The lines that let code in for a run; one that a crash cut short lets in nothing."""
    run = str(flower_run)
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        text = f"gate-log: {path} cannot be read ({error.strerror}); name the file that the gate"
        raise NodeError("gate-log", f"{text} writes, or leave the key out") from error
    for line in lines:
        if run.encode() in line:  # most lines are of other runs, and need not be parsed
            said = _said(line)
            if (said.get("what"), said.get(RUN)) == (ADMITTED, run):
                yield said


def _said(line: bytes) -> Mapping[str, Any]:
    """A line's content; {} where it is not what the gate writes."""
    try:
        said = read_json(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) and _SHA256.fullmatch(str(said.get(BUNDLE))) else {}
