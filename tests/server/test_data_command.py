"""`metaward data` as it is typed: an example to start from, a check that names what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metaward.door import load
from metaward.door import run as carry_out
from tests.server.office.privacy_desk import Call, caller


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    return caller(monkeypatch)


@pytest.mark.parametrize("form", ["images", "table", "arrays", "physionet"])
def test_an_example_is_in_order_and_becomes_a_run(
    form: str, tmp_path: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("data", "example", tmp_path / "d", "--form", form) == 0
    assert f"metaward run {tmp_path / 'd' / 'run.yaml'}" in capsys.readouterr().out
    assert call("data", "check", tmp_path / "d", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["hospital"] for one in told] == ["north", "south", "east", "west"]
    assert all(one["fault"] is None and one["tasks"] > 0 for one in told)
    few = {"server.evaluation.final_episodes": 5, "server.evaluation.episodes": 2}
    run = load(tmp_path / "d" / "run.yaml", {**few, "server.workers": 1})
    assert run.privacy.unit.name == "record"
    table = carry_out(run, tmp_path / "out").table
    assert list(table[0]["hospitals"]) == ["west"]


def test_a_fault_is_named_and_the_other_hospitals_are_read(
    tmp_path: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    call("data", "example", tmp_path / "d")
    (tmp_path / "d" / "south" / "images" / "0003.png").unlink()
    capsys.readouterr()
    assert call("data", "check", tmp_path / "d", "--json") == 2
    told = {one["hospital"]: one for one in json.loads(capsys.readouterr().out)}
    assert told["north"]["fault"] is None
    assert "labels.csv, line 5" in told["south"]["fault"]
    assert call("data", "check", tmp_path / "d") == 2
    assert "0003.png does not exist; the files lie in" in capsys.readouterr().out


def test_one_hospital_checks_its_own_folder(
    tmp_path: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    call("data", "example", tmp_path / "d", "--form", "arrays")
    capsys.readouterr()
    place, config = tmp_path / "d" / "west", ("--config", tmp_path / "d" / "run.yaml")
    assert call("data", "check", place, *config, "--hospital", "west", "--json") == 0
    assert [one["hospital"] for one in json.loads(capsys.readouterr().out)] == ["west"]
    assert call("data", "check", place, *config, "--hospital", "wst") == 2
    assert "'wst' is no hospital of the run: north, south, east, west" in capsys.readouterr().err


def test_a_hospitals_own_folder_needs_no_option_beside_the_runs_file(
    tmp_path: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    call("data", "example", tmp_path / "d", "--form", "arrays")
    capsys.readouterr()
    assert call("data", "check", tmp_path / "d" / "west", "--json") == 0
    assert [one["hospital"] for one in json.loads(capsys.readouterr().out)] == ["west"]
    (tmp_path / "d" / "run.yaml").unlink()
    for place in ("west", "."):
        assert call("data", "check", tmp_path / "d" / place) == 2
        said = capsys.readouterr().err
        assert "holds no run.yaml, and there is none beside it; name the run's yaml" in said
    assert call("data", "check", tmp_path / "e") == 2
    assert "e: no such folder" in capsys.readouterr().err
    (tmp_path / "d" / "run.yaml").touch()
    assert call("data", "check", tmp_path / "d" / "run.yaml") == 2
    said = capsys.readouterr().err
    assert f"run.yaml: is a file; name the folder that holds it: {tmp_path / 'd'}" in said


def test_what_to_type_next_is_said_where_all_is_in_order(
    tmp_path: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "d" / "run.yaml"
    call("data", "example", tmp_path / "d", "--form", "arrays")
    capsys.readouterr()
    assert call("data", "check", tmp_path / "d") == 0
    said = capsys.readouterr().out
    assert f"next: metaward privacy plan {file} --records 240" in said
    words = said.strip().splitlines()[-1].split()
    assert call(*words[2:]) == 0
    assert "epsilon" in capsys.readouterr().out
    (tmp_path / "d" / "south" / "records.npz").unlink()
    assert call("data", "check", tmp_path / "d") == 2
    assert "next:" not in capsys.readouterr().out


def test_the_folder_of_a_runs_file_is_taken_for_it_by_nobody(
    tmp_path: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    call("data", "example", tmp_path / "d", "--form", "arrays")
    capsys.readouterr()
    assert call("run", tmp_path / "d") == 2
    assert f"but a folder; perhaps {tmp_path / 'd' / 'run.yaml'} is" in capsys.readouterr().err


def test_what_hospitals_hold_is_counted_as_for_every_source(
    tmp_path: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    call("data", "example", tmp_path / "d", "--form", "arrays")
    capsys.readouterr()
    assert call("tasks", "show", tmp_path / "d" / "run.yaml", "--json") == 0
    for row in json.loads(capsys.readouterr().out):
        assert row["records"] == sum(row["classes"].values()) == 240
        assert isinstance(row["patients"], int)


def test_what_is_there_is_not_written_over(
    tmp_path: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").write_text("x")
    assert call("data", "example", tmp_path) == 2
    assert "is not an empty folder; name a new one" in capsys.readouterr().err
    assert (tmp_path / "mine").read_text() == "x"


def test_another_source_has_nothing_to_check(
    tmp_path: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("data", "check", tmp_path, "--config", "sim.yaml") == 2
    assert "client.tasks.source: must be folder" in capsys.readouterr().err
