"""`metaward deploy up` on bad input: refused before anything is written or started."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from metaward import sim
from metaward.client.scores import known_scores
from metaward.privacy.policy import Policy
from metaward.server.cli import main
from metaward.server.deploy import layout
from metaward.server.folder import Folder

CONFIG = sim.HERE / "configs" / "deploy.yaml"


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Runs the command in an empty folder; its exit code and what it said."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["metaward", "deploy", "up", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        return int(stop.value.code or 0), " ".join(capsys.readouterr().err.split())

    return run


def test_another_number_of_hospitals_is_refused_with_the_right_one(call: Any) -> None:
    code, said = call("--local", 4, CONFIG)
    assert code == 2
    assert (
        "--local 4: the configuration has 3 hospitals (2 training, 1 unseen); use --local 3" in said
    )
    assert not list(Path.cwd().iterdir())


def test_the_number_is_that_of_the_settings_too(call: Any) -> None:
    code, said = call("--local", 3, CONFIG, "--set", "client.tasks.unseen=2")
    assert code == 2
    assert "use --local 4" in said


def test_hospitals_for_validation_count_too(call: Any) -> None:
    code, said = call("--local", 3, CONFIG, "--set", "client.tasks.validation=2")
    assert code == 2
    assert "5 hospitals (2 training, 1 unseen, 2 for validation); use --local 5" in said


def test_a_baseline_that_every_policy_refuses_is_named_before_anything_starts(call: Any) -> None:
    """Else the run would fail after its training, when the hospitals are asked for it."""
    baselines = "server.evaluation.baselines=[untrained, no_privacy]"
    code, said = call("--local", 3, CONFIG, "--set", baselines)
    assert code == 2
    assert "no_privacy trains on the hospitals' records without any privacy" in said
    assert "--set 'server.evaluation.baselines=[untrained]'" in said
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize("number", ["0", "-1", "two", "2.5"])
def test_a_number_that_is_none_is_refused(call: Any, number: str) -> None:
    code, said = call("--local", number, CONFIG)
    assert code == 2
    assert "--local" in said


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(call: Any, device: str) -> None:
    code, said = call("--local", 3, CONFIG, "--device", device)
    assert code == 2
    assert f"device: '{device}'" in said
    assert not list(Path.cwd().iterdir())


def test_the_number_must_be_given(call: Any) -> None:
    code, said = call(CONFIG)
    assert code == 2
    assert "--local" in said


def test_a_policy_that_is_not_there_is_refused(call: Any) -> None:
    code, said = call("--local", 3, CONFIG, "--policy", "none.yaml", "--dir", "dep")
    assert code == 2
    assert "none.yaml: no such policy file" in said
    assert not Path("dep/hospitals").exists()


def test_a_folder_of_other_files_is_refused(call: Any) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.txt").touch()
    code, said = call("--local", 3, CONFIG, "--dir", "mine", "--out", "result")
    assert code == 2
    assert "holds other files" in said
    assert [p.name for p in Path("mine").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(("status", "words"), [("finished", "nothing to resume"), (None, "no run")])
def test_what_cannot_be_resumed_is_refused(call: Any, status: Any, words: str) -> None:
    folder = Folder(Path("result"))
    if status:
        folder.create(sim.load(CONFIG))
        folder.set_status(status)
    code, said = call("--local", 3, "--resume", "result")
    assert code == 2
    assert words in said


def test_every_local_hospital_starts_with_an_example_that_admits_the_mechanism() -> None:
    unprotected = sim.load(CONFIG, ["privacy={mechanism: none}"])
    allowed = Policy.read(layout.default_policy(unprotected), known_scores())
    assert allowed.mechanisms == allowed.units == ("none",)
    assert allowed.evaluate
    private = replace(unprotected, privacy=Private())  # type: ignore[arg-type]
    assert "none" not in Policy.read(layout.default_policy(private), known_scores()).units


class Private:
    """Any mechanism but none."""
