"""`metaward privacy show` and `verify`: what was spent, and whether the ledgers are true."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from metaward.privacy.accounting import reported_epsilon
from metaward.privacy.accounting.by_opacus import ByOpacus
from metaward.privacy.event import Budget, Mark, gaussian
from metaward.privacy.ledger import Ledger
from metaward.server.engines.inprocess import run_inprocess
from metaward.server.folder import Folder
from metaward.server.office.accounts import check, spending
from metaward.server.office.accounts import check as checking
from metaward.server.office.accounts.places import Places
from metaward.strategies.marks import SeenMark
from tests.privacy.ledger.ledger_desk import vandal
from tests.server.office.privacy_desk import Call, caller, folder_with, pay, private, see
from tests.server.small import small

OLD, NEW = "a1" * 32, "b2" * 32
"""Hashes of bundles of code."""


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    return caller(monkeypatch)


@pytest.fixture
def made(tmp_path: Path) -> tuple[Folder, Ledger]:
    return folder_with(tmp_path / "result", private())


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real private run of two rounds, with the same learner unprotected beside it."""
    folder = Folder(tmp_path_factory.mktemp("run") / "result")
    run = private("server.rounds=2", "server.evaluation.baselines=[no_privacy, fedavg]")
    folder.create(run)
    run_inprocess(run, folder, lambda row: None)
    return folder.path


def asked(call: Call, capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> Any:
    assert call("privacy", *arguments, "--json") == code
    return json.loads(capsys.readouterr().out)


def faults(call: Call, capsys: pytest.CaptureFixture[str], *paths: object) -> list[str]:
    """The faults that ``verify`` finds; the exit code and the plain text agree with them."""
    code = call("privacy", "verify", *paths)
    printed = capsys.readouterr().out
    found: list[str] = asked(call, capsys, code, "verify", *paths)["faults"]
    assert code == bool(found)
    assert printed.count("FAULT: ") == len(found)
    assert ("No fault: " in printed) == (not found)
    return found


# ------------------------------------------------------------------------------------ show


def test_show_a_run(call: Call, result: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four tasks, two a round: in two rounds every record has paid once, for all its steps."""
    found = asked(call, capsys, 0, "show", result, "--delta", "1e-5", "--delta", "1e-3")
    own = [a for a in found["hospitals"] if a["learner"] == "reptile"]
    assert {a["hospital"] for a in own} == {
        p.stem for p in result.glob("hospitals/*.reptile/*.sqlite")
    }
    assert len(own) > 2
    assert {a["learner"] for a in found["hospitals"]} == {"reptile", "fedavg"}
    assert [a["learner"] for a in found["hospitals"]][: len(own)] == ["reptile"] * len(own)
    for a in own:
        assert a["participations"] == 1
        assert [s["delta"] for s in a["spent"]] == [1e-5, 1e-3]
        assert a["budgets"][0]["epsilon"] == 8.0
        assert a["budgets"][0]["left"] == pytest.approx(8 - a["spent"][0]["epsilon"], abs=1e-9)
        assert a["spent"][0]["epsilon"] == pytest.approx(8.0, rel=1e-6)
        assert a["units"]["record"] == 20 * len(a["runs"]) * a["runs"][0]["charges"]  # 2 x 2 x 5
    assert found["unprotected"] == ["reptile, NO PRIVACY: trained beside the run"]


def test_show_for_people(call: Call, result: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("privacy", "show", result, "--delta", "1e-3") == 0
    printed = capsys.readouterr().out
    for words in ("sine-01", "epsilon at 0.001", "NO PRIVACY", "seeded", "no request was refused"):
        assert words in printed
    assert "protected: record by sums" in printed


def test_show_a_run_without_privacy(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Folder(tmp_path / "open").create(small())
    assert call("privacy", "show", tmp_path / "open") == 0
    printed = capsys.readouterr().out
    assert "N O   P R I V A C Y" in printed
    assert "NO PRIVACY" in printed
    found = asked(call, capsys, 0, "show", tmp_path / "open")
    assert "NO PRIVACY" in found["unprotected"][0]
    assert found["hospitals"] == []


def test_show_names_the_code_that_used_the_records_and_the_code_that_was_shipped(
    call: Call, made: tuple[Folder, Ledger], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, ledger = made
    folder.begin(False, "metaward 1", NEW)
    pay(ledger, 3, run=f"{folder.id}.reptile", code=NEW)
    assert call("privacy", "show", folder.path) == 0
    printed = capsys.readouterr().out
    assert f"code that the server shipped: {NEW}" in printed
    assert printed.count(NEW) == 2
    found = asked(call, capsys, 0, "show", folder.path)
    assert found["bundles"] == [NEW]
    assert [run["code"] for a in found["hospitals"] for run in a["runs"]] == [[], [NEW]]


def test_verify_compares_the_code_of_both_sides(
    call: Call, made: tuple[Folder, Ledger], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of this run alone, and only where both sides know of a bundle."""
    folder, ledger = made
    pay(ledger, 3, names="c", run="another-run.reptile", code=OLD)
    pay(ledger, 4, names="d", run=f"{folder.id}.reptile", code=NEW)
    assert faults(call, capsys, folder.path) == []  # the server knows of none
    folder.begin(False, "metaward 1", NEW)
    assert faults(call, capsys, folder.path) == []
    pay(ledger, 5, names="e", run=f"{folder.id}.fedavg", code=OLD)
    (fault,) = faults(call, capsys, folder.path)
    assert f"bundle of code {OLD}" in fault
    assert f"its server shipped {NEW}" in fault
    folder.begin(False, "metaward 2", OLD)  # resumed with other code, which the server says
    assert faults(call, capsys, folder.path) == []


def test_show_ledger_files(
    call: Call, made: tuple[Folder, Ledger], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Ledger.create(tmp_path / "south.sqlite", "south")
    pay(other, 1, event=gaussian(0.0, 1), budget=None)
    assert call("privacy", "show", made[1].path, other.path) == 0
    printed = capsys.readouterr().out
    assert "NO PRIVACY: used without noise at south." in printed
    assert "4.38" in printed  # mu 1 at delta 1e-5
    assert "unlimited" in printed


@pytest.mark.parametrize("command", ["show", "verify"])
def test_wrong_paths_are_bad_input(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    for path, words in (
        (tmp_path / "nowhere", "is not there; name a result folder, a ledger file"),
        (tmp_path, "no run (config.json) and no ledger"),
    ):
        assert call("privacy", command, path) == 2
        assert words in " ".join(capsys.readouterr().err.split())
    assert call("privacy", command) == 2


def test_show_of_a_run_whose_ledgers_are_elsewhere(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Folder(tmp_path / "result").create(private())
    assert call("privacy", "show", tmp_path / "result") == 2
    assert "in a deployment ledgers lie at the hospitals" in capsys.readouterr().err


# ---------------------------------------------------------------------------------- verify


def test_verify_a_run(call: Call, result: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The no-privacy twin has no ledger to be wrong; it is a note, and the rest is sound."""
    assert faults(call, capsys, result) == []
    found = asked(call, capsys, 0, "verify", result)
    ledgers = len(list(result.glob("hospitals/*/*.sqlite")))
    charges = sum(
        len(Ledger.open(p).history().charges) for p in result.glob("hospitals/*/*.sqlite")
    )
    assert (found["ledgers"], found["marks"]) == (ledgers, charges)
    assert len(found["accounts"]) == ledgers
    for a in found["accounts"]:
        assert 0 < a["epsilon"] <= a["second"] * (1 + 1e-9) <= a["epsilon"] * 1.01 * (1 + 1e-9)
    assert any("NO PRIVACY" in note for note in found["notes"])


def test_verify_ledgers_alone(
    call: Call, made: tuple[Folder, Ledger], capsys: pytest.CaptureFixture[str]
) -> None:
    assert faults(call, capsys, made[1].path) == []
    found = asked(call, capsys, 0, "verify", made[1].path, "--delta", "1e-3")
    assert [(a["delta"], a["epsilon"]) for a in found["accounts"]] == [
        (1e-3, pytest.approx(3.138671, abs=1e-5))
    ]
    assert any("name the result folder" in note for note in found["notes"])


def test_verify_by_opacus_too(
    call: Call,
    made: tuple[Folder, Ledger],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ask = ("verify", made[1].path, "--accountant", "opacus")
    (account,) = asked(call, capsys, 0, *ask)["accounts"]
    theirs = account["opacus"]
    assert theirs["prv"] == pytest.approx(account["epsilon"], rel=0.01, abs=0.02)
    assert theirs["rdp"] >= account["epsilon"]
    assert asked(call, capsys, 0, *ask[:2])["accounts"][0]["opacus"] is None
    other = ByOpacus(rdp=9.0, prv=2.0 * account["epsilon"])
    monkeypatch.setattr(f"{check.__name__}.by_opacus", lambda *_: other)
    (fault,) = asked(call, capsys, 1, *ask)["faults"]
    assert "by ours and" in fault
    assert "by Opacus's accountant" in fault


def test_an_older_copy_is_found_by_the_servers_marks(
    call: Call, made: tuple[Folder, Ledger], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A perfect ledger, only one round too old: nothing but the marks can tell."""
    folder, ledger = made
    shutil.copy(ledger.path, tmp_path / "copy")
    see(folder, 3, pay(ledger, 3))
    assert faults(call, capsys, folder.path) == []
    shutil.copy(tmp_path / "copy", ledger.path)
    (fault,) = faults(call, capsys, folder.path)
    assert "went back: the server saw entry 6 of it in round 3" in fault
    assert faults(call, capsys, ledger.path) == []


def test_a_rewritten_chain_is_found_by_the_servers_marks(
    call: Call, made: tuple[Folder, Ledger], capsys: pytest.CaptureFixture[str]
) -> None:
    """As many rows, another hash: what the server saw is not what stands there now."""
    folder, ledger = made
    seen = Mark(ledger.id, 4, "0" * 64)
    folder.marks().note([SeenMark("sine-01", "run", 9, seen)])
    (fault,) = faults(call, capsys, folder.path)
    assert "entry 4 of it in round 9" in fault


def test_a_missing_ledger_is_a_fault_in_a_simulation(
    call: Call, made: tuple[Folder, Ledger], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = made
    folder.marks().note([SeenMark("sine-02", "run", 1, Mark("feedfeedfeedfeed", 2, "0" * 64))])
    (fault,) = faults(call, capsys, folder.path)
    assert "hospital sine-02: its ledger feedfeedfeedfeed" in fault


def test_verify_a_deployment(
    call: Call, made: tuple[Folder, Ledger], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The ledgers are not in the folder: named beside it they are compared, unnamed nothing is."""
    folder, ledger = made
    there = tmp_path / "north.sqlite"
    shutil.copy(ledger.path, there)
    shutil.copy(f"{ledger.path}.key", f"{there}.key")
    shutil.rmtree(folder.hospitals)
    folder.marks().note([SeenMark("sine-02", "run", 1, Mark("feedfeedfeedfeed", 2, "0" * 64))])
    assert faults(call, capsys, folder.path, there) == []
    found = asked(call, capsys, 0, "verify", folder.path, there)
    assert found["marks"] == 2
    assert any("sine-02" in note for note in found["notes"])
    (fault,) = faults(call, capsys, folder.path)
    assert "none of the ledgers that the server saw is here" in fault


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE entry SET body = CAST(body || ' ' AS BLOB) WHERE seq = 2", "row 2 was changed"),
        ("DELETE FROM total", "table total"),
    ],
)
def test_a_changed_ledger(
    call: Call,
    made: tuple[Folder, Ledger],
    capsys: pytest.CaptureFixture[str],
    statement: str,
    words: str,
) -> None:
    vandal(made[1].path, statement)
    assert any(words in fault for fault in faults(call, capsys, made[0].path))


@pytest.mark.parametrize(("factor", "wrong"), [(0.98, True), (1.02, True), (0.995, False)])
def test_accountants_that_differ_by_more_than_one_percent(
    call: Call,
    made: tuple[Folder, Ledger],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    factor: float,
    wrong: bool,
) -> None:
    def planted(events: Any, delta: float) -> Any:
        found = reported_epsilon(events, delta)
        return replace(found, epsilon=found.epsilon * factor)

    monkeypatch.setattr(spending, "_reported", planted)
    found = faults(call, capsys, made[0].path)
    assert [f for f in found if "by the second" in f] == found
    assert bool(found) == wrong


def test_a_charge_above_its_budget(
    call: Call, made: tuple[Folder, Ledger], capsys: pytest.CaptureFixture[str]
) -> None:
    """4.38 are spent. A later, smaller budget for other records is none of their concern."""
    folder, ledger = made
    see(folder, 3, pay(ledger, 3, "xy", budget=Budget(3.0, 1e-5)))
    assert faults(call, capsys, folder.path) == []
    see(folder, 4, pay(ledger, 4, "xa", budget=Budget(5.0, 1e-5), rule=lambda *_: True))
    (fault,) = faults(call, capsys, folder.path)
    assert "row 8 took a unit above epsilon 5 at delta 1e-05" in fault


def test_use_without_noise_is_a_fault(
    call: Call, made: tuple[Folder, Ledger], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, ledger = made
    see(folder, 3, pay(ledger, 3, "z", gaussian(0.0, 1), budget=None))
    (fault,) = faults(call, capsys, folder.path)
    assert "NO PRIVACY" in fault


def test_a_hospital_that_only_judges_is_no_fault(
    made: tuple[Folder, Ledger], tmp_path: Path
) -> None:
    folder, ledger = made
    see(folder, 3, pay(ledger, 3, "z"))
    judging = Ledger.create(tmp_path / "judging.sqlite", "west").path
    done = checking.check(Places((ledger.path, judging), ()))
    assert done.faults == []
    assert f"{judging}: {checking.NO_CHARGE}" in done.notes


def test_nothing_to_check_is_a_fault(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checking.check(Places((), ())).faults
    unused = Ledger.create(tmp_path / "unused.sqlite", "north").path
    (fault,) = faults(call, capsys, unused)
    assert "no ledger that holds a charge" in fault
    Folder(tmp_path / "open").create(small())
    (fault,) = faults(call, capsys, tmp_path / "open")
    assert "NO PRIVACY" in fault
    Folder(tmp_path / "begun").create(private())
    (fault,) = faults(call, capsys, tmp_path / "begun")
    assert "holds no marks" in fault


def test_lost_marks_are_a_fault(
    call: Call, made: tuple[Folder, Ledger], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = made
    (folder.path / "marks.jsonl").unlink()
    (fault,) = faults(call, capsys, folder.path)
    assert "holds no marks" in fault
    (folder.path / "marks.jsonl").write_text('{"hospital": "sine-0')
    assert call("privacy", "verify", folder.path) == 2
    assert "marks.jsonl: is damaged" in capsys.readouterr().err
