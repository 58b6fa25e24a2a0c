"""signed.jsonl: what hospitals signed is kept, and an altered line is found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from metaward.privacy import Mark
from metaward.privacy.signing import Statement, public_text, sign
from metaward.server.folder import Folder
from metaward.server.signed import NAME, seat_keys, signed_faults
from metaward.sim import Sim
from metaward.strategies.proof import seat_line
from tests.server.small import small


@pytest.fixture
def run() -> Sim:
    made = small()
    names = [seat.name for seat in made.client.tasks.roster()]
    lines = tuple(seat_line(name, public_text(key(name))) for name in names)
    return replace(made, server=replace(made.server, seats=lines))


@pytest.fixture
def folder(run: Sim, tmp_path: Path) -> Folder:
    """A run's folder with one statement of each hospital."""
    made = Folder(tmp_path / "run")
    made.create(run)
    keys = seat_keys(run, made)
    for seat in run.client.tasks.roster():
        mark = Mark("l", 3, "ab") if seat.role == "train" else None
        asked = f"{made.id}.own", 1, "cd", "ef"
        statement = Statement(3, "release", seat.name, *asked, mark)
        keys.note(statement, sign(key(seat.name), statement).signature)
    return made


def key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32, b"x")[:32])


def altered(folder: Folder, **changes: object) -> None:
    path = folder.path / NAME
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps(json.loads(first) | changes), *rest]) + "\n")


def test_what_is_kept_is_verified(run: Sim, folder: Folder) -> None:
    assert signed_faults(run, folder) == (len(run.client.tasks.roster()), [])


@pytest.mark.parametrize(
    "changes",
    [
        {"round": 2},
        {"content": "00"},
        {"request": "00"},
        {"hospital": "nobody"},
        {"mark": {"ledger": "l", "sequence": 4, "head": "ab"}},
        {"mark": None},
        {"kind": "scores"},
    ],
    ids=str,
)
def test_an_altered_line_is_found(run: Sim, folder: Folder, changes: dict[str, object]) -> None:
    altered(folder, **changes)
    count, faults = signed_faults(run, folder)
    assert count == len(run.client.tasks.roster()) - 1
    assert len(faults) == 1
    assert "line 1 is not signed by" in faults[0]


@pytest.mark.parametrize("changes", [{"signature": "!"}, {"mark": 3}, {"extra": 1}], ids=str)
def test_a_damaged_line_is_found(run: Sim, folder: Folder, changes: dict[str, object]) -> None:
    altered(folder, **changes)
    assert signed_faults(run, folder)[1] == [f"{NAME}: line 1 is no signed statement"]


def test_a_statement_of_another_run_is_found(run: Sim, folder: Folder) -> None:
    folder.note({"id": "0" * 16})
    assert all("another run" in fault for fault in signed_faults(run, folder)[1])


def test_missing_evidence_is_a_fault_only_with_keys(run: Sim, folder: Folder) -> None:
    (folder.path / NAME).unlink()
    assert signed_faults(run, folder) == (
        0,
        [f"{NAME}: missing, though the configuration has keys (server.seats)"],
    )
    assert signed_faults(small(), folder) == (0, [])
