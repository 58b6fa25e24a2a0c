"""signed.jsonl: what hospitals signed is kept, and an altered line is found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from metaward.privacy import Mark
from metaward.privacy.signing import Statement, public_text, sign
from metaward.server.baselines import own
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
    keys.kept()
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


def counted(folder: Folder, *hospitals: str) -> None:
    folder.add({"round": 1, "accepted": list(hospitals), "rejected": {}})


def test_an_answer_that_counted_and_is_not_there_is_found(run: Sim, folder: Folder) -> None:
    first, second = (seat.name for seat in run.client.tasks.roster()[:2])
    path, learner = folder.path / NAME, own(run).key
    path.write_text(path.read_text().replace(".own", f".{learner}"))
    for seat in (first, second):
        statement = Statement(3, "release", seat, f"{folder.id}.{learner}", 1, "cd", "ef", None)
        keys = seat_keys(run, folder)
        keys.note(statement, sign(key(seat), statement).signature)
        keys.kept()
    counted(folder, first, second)
    assert not [fault for fault in signed_faults(run, folder)[1] if "no line" in fault]
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert [fault for fault in signed_faults(run, folder)[1] if "no line" in fault] == [
        f"{NAME}: the release of {second} in round 1 of {folder.id}.{learner} counted, but no line "
        "signs it"
    ]


def test_scores_that_counted_must_be_signed_as_well(run: Sim, folder: Folder) -> None:
    silent, *others = run.judging()
    folder.add({"round": 2, "rejected": {silent: "no-reply"}, "before": 1.0})
    faults = signed_faults(run, folder)[1]
    assert len(faults) == len(others) == 1
    assert f"the scores of {others[0]} in round 2" in faults[0]


def test_a_line_that_a_crash_cut_does_not_spoil_the_next(run: Sim, folder: Folder) -> None:
    path = folder.path / NAME
    path.write_text(path.read_text()[:-20])
    name = run.client.tasks.roster()[0].name
    statement = Statement(3, "release", name, f"{folder.id}.own", 2, "cd", "ef", None)
    keys = seat_keys(run, folder)
    keys.note(statement, sign(key(name), statement).signature)
    keys.kept()
    count, faults = signed_faults(run, folder)
    assert count == len(run.client.tasks.roster())
    assert faults == [f"{NAME}: line {count} is no signed statement"]


def test_simulated_hospitals_need_not_sign(run: Sim, folder: Folder) -> None:
    """A deployment's result can be judged again in a simulation."""
    assert seat_keys(run, folder)
    assert not seat_keys(run, folder, simulated=True)


def test_a_key_of_a_seat_can_be_exchanged(run: Sim) -> None:
    assert run.canonical() == small().canonical()
