"""`metaward privacy report`: what it writes and prints, and what it says to wrong paths."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from jsonschema import Draft202012Validator

from metaward.privacy.report.document import schema
from metaward.server.folder import Folder
from tests.server.office.privacy_desk import Call, caller, written
from tests.server.office.report.report_desk import executed, ledger_of, phantom


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    torch.set_num_threads(1)
    return executed(phantom("server.rounds=1"), tmp_path_factory.mktemp("wards") / "run")


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    return caller(monkeypatch)


def test_the_schema_is_printed_without_any_path(
    call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("privacy", "report", "--schema") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == schema()
    Draft202012Validator.check_schema(printed)


def test_the_report_of_a_folder_is_written_again_and_printed(
    call: Call, capsys: pytest.CaptureFixture[str], folder: Folder, tmp_path: Path
) -> None:
    assert call("privacy", "report", folder.path, "--out", tmp_path / "again", "--json") == 0
    text = capsys.readouterr().out
    Draft202012Validator(schema()).validate(json.loads(text))
    assert (tmp_path / "again" / "privacy.json").read_text(encoding="utf-8") == text
    assert call("privacy", "report", folder.path, "--out", tmp_path / "again") == 0
    assert capsys.readouterr().out.startswith("A deployment would be protected. Every record")


def test_a_ledger_alone_has_a_report_beside_it(
    call: Call, capsys: pytest.CaptureFixture[str], folder: Folder
) -> None:
    ledger = ledger_of(folder, "phantom-01")
    assert call("privacy", "report", ledger) == 0
    assert ledger.with_name("phantom-01.privacy.html").is_file()
    assert "phantom-01.privacy.json" in capsys.readouterr().out


@pytest.mark.parametrize("other", ["unit: patient", "unit: record, noise_multiplier: 3.0"])
def test_a_ledger_of_another_protection_is_not_that_of_the_run(
    call: Call, capsys: pytest.CaptureFixture[str], folder: Folder, tmp_path: Path, other: str
) -> None:
    """Each charge says its mechanism, unit and noise; a configuration that asks for others lies."""
    run = written(phantom(f"privacy={{mechanism: sums, {other}}}"), tmp_path / "other.json")
    ledger = ledger_of(folder, "phantom-01")
    assert call("privacy", "report", ledger, "--config", run) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "was charged for mechanism, unit and noise multipliers ['sums', 'record'" in said


def test_wrong_paths_say_what_to_name(
    call: Call, capsys: pytest.CaptureFixture[str], folder: Folder, tmp_path: Path
) -> None:
    lone = tmp_path / "lone.sqlite"
    lone.write_bytes(ledger_of(folder, "phantom-01").read_bytes())
    for paths, words in (
        ([tmp_path / "nowhere"], "is not there"),
        ([tmp_path], "is a folder without a run"),
        ([lone], "give the run's configuration, --config FILE"),
        ([lone, lone], "is the second of several ledgers"),
    ):
        assert call("privacy", "report", *paths) == 2
        assert words in " ".join(capsys.readouterr().err.split())


def test_a_run_that_never_began_has_nothing_to_report(
    call: Call, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    Folder(tmp_path / "run").create(phantom())
    assert call("privacy", "report", tmp_path / "run") == 2
    assert "its run never began" in capsys.readouterr().err
