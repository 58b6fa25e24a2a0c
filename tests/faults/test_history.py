"""The checker of histories: a sound one passes, and each planted violation is found."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from metaward.server.checkpoint import digest
from metaward.server.engines import ENGINES
from metaward.server.folder import Folder
from tests.faults.history import NothingToCheckError, violations
from tests.server.small import small

SETTINGS = (
    *("privacy={mechanism: sums, unit: record, epsilon: 6.0}", "client.schedule=passes"),
    *("server.rounds=3", "server.evaluation.baselines=[]", "server.checkpoint.keep=99"),
    *("strategies.hospitals_per_round=4", "server.evaluation.every=3"),
)
HOSPITALS = [f"sine-0{number}" for number in range(1, 5)]


def carried_out(place: Path, *settings: str) -> Folder:
    run, folder = small(*SETTINGS, *settings), Folder(place)
    folder.create(run)
    ENGINES["inprocess"](run, folder, lambda row: None)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return carried_out(tmp_path_factory.mktemp("history") / "run")


@pytest.fixture
def folder(finished: Folder, tmp_path: Path) -> Folder:
    """A copy that a test may spoil."""
    shutil.copytree(finished.path, tmp_path / "run")
    return Folder(tmp_path / "run")


def ledgers(folder: Folder) -> dict[str, Path]:
    found = {path.stem: path for path in folder.hospitals.glob("*/sine-*.sqlite")}
    assert sorted(found) == HOSPITALS
    return found


def names(folder: Folder, reference: Folder | None = None) -> set[str]:
    found = violations(folder.path, ledgers(folder), reference.path if reference else None)
    return {one.name for one in found}


def test_a_run_that_met_no_fault_has_no_violation(finished: Folder) -> None:
    assert violations(finished.path, ledgers(finished), finished.path) == []


def test_a_check_of_nothing_is_an_error(folder: Folder, tmp_path: Path) -> None:
    with pytest.raises(NothingToCheckError):
        violations(tmp_path / "nothing", ledgers(folder))
    with pytest.raises(NothingToCheckError):
        violations(folder.path, {})
    kept = [line for line in folder.trail().lines() if line["what"] == "run started"]
    write_lines(folder, kept)
    with pytest.raises(NothingToCheckError, match="no update"):
        violations(folder.path, ledgers(folder))
    write_lines(folder, [])
    with pytest.raises(NothingToCheckError, match="0 lines"):
        violations(folder.path, ledgers(folder))


# ------------------------------------------------------------------------ what is planted

Change = Callable[[dict[str, Any]], dict[str, Any] | None]
FIRST = HOSPITALS[0]


def write_lines(folder: Folder, lines: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder.path / "audit.jsonl").write_text(text)


def change_lines(folder: Folder, change: Change) -> None:
    changed = [change(line) for line in folder.trail().lines()]
    write_lines(folder, [line for line in changed if line is not None])


def update_of(hospital: str, number: int) -> Callable[[dict[str, Any]], bool]:
    return lambda line: (
        (line.get("hospital"), line.get("round")) == (hospital, number) and ("update" in line)
    )


def another_update(folder: Folder) -> None:
    fits = update_of(FIRST, 2)
    change_lines(folder, lambda line: line | {"update": "0" * 64} if fits(line) else line)


def another_answer(folder: Folder) -> None:
    """The same request, answered a second time with other bytes."""
    lines = list(folder.trail().lines())
    second = next(line for line in lines if update_of(FIRST, 2)(line)) | {"update": "1" * 64}
    write_lines(folder, [*lines[:-1], second, lines[-1]])


def another_request(folder: Folder) -> None:
    def changed(line: dict[str, Any]) -> dict[str, Any]:
        asked = line["what"] == "asked to train" and line["round"] == 2
        return line | {"request": "2" * 64} if asked else line

    change_lines(folder, changed)


def a_reason_in_other_words(folder: Folder) -> None:
    lines = list(folder.trail().lines())
    about = {"at": lines[-1]["at"], "round": 3, "run": "x", "hospital": FIRST}
    write_lines(folder, [*lines, about | {"what": "reply rejected", "reason": "somehow"}])


def an_absence_without_a_word(folder: Folder) -> None:
    change_lines(folder, lambda line: None if update_of(FIRST, 2)(line) else line)


def a_failure_without_a_reason(folder: Folder) -> None:
    folder.set_status("failed")


def still_running(folder: Folder) -> None:
    folder.set_status("running")


def a_lost_round(folder: Folder) -> None:
    rows = [row for row in folder.rows() if row["round"] != 2]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder.path / "metrics.jsonl").write_text(text)


def a_lost_result(folder: Folder) -> None:
    (folder.path / "theta.safetensors").unlink()


def in_checkpoint(folder: Folder, change: Callable[[Any], Any], honest: bool) -> None:
    """Another theta in the checkpoint of round 2; ``honest``: its manifest agrees."""
    at = folder.checkpoints / "round-000002"
    vectors = load((at / "state.safetensors").read_bytes())
    content = save(vectors | {"theta": change(vectors["theta"])})
    (at / "state.safetensors").write_bytes(content)
    if honest:
        manifest = json.loads((at / "manifest.json").read_text())
        manifest["state_sha256"] = digest(content)
        (at / "manifest.json").write_text(json.dumps(manifest))


def a_damaged_checkpoint(folder: Folder) -> None:
    in_checkpoint(folder, lambda theta: theta + 1, honest=False)


def another_theta(folder: Folder) -> None:
    in_checkpoint(folder, lambda theta: theta + np.float32(1e-3), honest=True)


def an_infinite_theta(folder: Folder) -> None:
    in_checkpoint(folder, lambda theta: theta * np.float32(np.inf), honest=True)


def an_infinite_result(folder: Folder) -> None:
    theta = np.array([np.nan], np.float32)
    (folder.path / "theta.safetensors").write_bytes(save({"theta": theta}))


def in_ledger(folder: Folder, *statements: str) -> None:
    """The first hospital's ledger, changed by whoever may write the file."""
    with sqlite3.connect(ledgers(folder)[FIRST]) as db:
        db.executescript("DROP TRIGGER entry_stays; DROP TRIGGER entry_remains;")
        for statement in statements:
            db.execute(statement)
    db.close()


def a_charge_removed(folder: Folder) -> None:
    query = "DELETE FROM entry WHERE kind = 'charge' AND json_extract(body, '$.request.round') = 2"
    in_ledger(folder, query)


def a_ledger_that_is_gone(folder: Folder) -> None:
    path = ledgers(folder)[FIRST]
    path.write_bytes(b"")


def charged_again(folder: Folder) -> None:
    """A second charge of the same request, with hashes that fit: only its count betrays it."""
    from metaward.privacy.ledger import chain

    path = ledgers(folder)[FIRST]
    with sqlite3.connect(path) as db:
        rows = list(chain.rows(db))
        first = next(row for row in rows if row.kind == "charge").content() | {"new": []}
        chain.append(db, "charge", first)
    db.close()


def an_older_ledger(folder: Folder) -> None:
    """A copy from before the last round: every row that it has is sound."""
    in_ledger(
        folder,
        "DELETE FROM entry WHERE seq > (SELECT max(seq) - 2 FROM entry)",
        "DELETE FROM request WHERE charge > (SELECT max(seq) FROM entry)",
    )


PLANTED: list[tuple[Callable[[Folder], None], str]] = [
    (another_update, "other-bytes"),
    (another_answer, "answered-twice"),
    (another_request, "not-charged"),
    (another_request, "other-trajectory"),
    (a_reason_in_other_words, "unnamed-cause"),
    (an_absence_without_a_word, "unnamed-cause"),
    (an_absence_without_a_word, "log-lost"),
    (a_failure_without_a_reason, "unnamed-cause"),
    (still_running, "no-ending"),
    (a_lost_round, "round-lost"),
    (a_lost_result, "result-lost"),
    (a_damaged_checkpoint, "checkpoint-damaged"),
    (another_theta, "other-trajectory"),
    (an_infinite_theta, "not-finite"),
    (an_infinite_result, "not-finite"),
    (a_charge_removed, "chain-broken"),
    (a_charge_removed, "not-charged"),
    (a_ledger_that_is_gone, "chain-broken"),
    (a_ledger_that_is_gone, "not-charged"),
    (charged_again, "charged-twice"),
    (an_older_ledger, "ledger-set-back"),
    (an_older_ledger, "not-charged"),
]


@pytest.mark.parametrize(
    ("plant", "name"), PLANTED, ids=[f"{plant.__name__}-{name}" for plant, name in PLANTED]
)
def test_a_planted_violation_is_found(
    plant: Callable[[Folder], None], name: str, folder: Folder
) -> None:
    plant(folder)
    assert name in names(folder)


def test_another_trajectory_than_the_references_is_found(folder: Folder, finished: Folder) -> None:
    another_theta(folder)
    assert "other-trajectory" in names(folder, finished)


def test_a_reference_without_a_common_round_is_an_error(folder: Folder, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder.path, other)
    shutil.rmtree(other / "checkpoints")
    with pytest.raises(NothingToCheckError, match="in common"):
        violations(folder.path, ledgers(folder), other)
