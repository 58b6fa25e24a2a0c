"""`metaward privacy audit` as it is typed: what it finds, prints, keeps and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metaward.client.tasks.sine import Sine
from metaward.privacy.noise import Noise, noisy
from metaward.server.folder import Folder
from metaward.server.office.audit.command import participations
from tests.server.office.plan.plan_desk import CROWDED, run_with
from tests.server.office.privacy_desk import Call, caller, private, written

QUICK = ("--seconds", 2)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    return caller(monkeypatch)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return written(private("server.rounds=2"), tmp_path / "run.yaml")


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_a_sound_mechanism_is_called_sound(
    call: Call, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("privacy", "audit", config, *QUICK) == 0
    words = printed(capsys)
    assert "SOUND. No check found a fault." in words
    assert "mechanism sums, unit record, with learner reptile" in words
    assert "from the operating system" in words
    assert "share of the claim" in words
    assert "FAULT" not in words


def test_no_data_are_opened(
    call: Call, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def forbidden(*_: Any) -> Any:
        raise AssertionError("an audit opened a hospital")

    monkeypatch.setattr(Sine, "hospital", forbidden)
    assert call("privacy", "audit", config, *QUICK) == 0
    assert "SOUND" in printed(capsys)


def test_half_the_noise_is_a_fault(
    call: Call, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def half(total: np.ndarray, clip: float, sigma: float, noise: Noise) -> np.ndarray:
        return noisy(total, clip, sigma / 2, noise)

    for module in ("mechanisms.noisy_sums", "optimizer"):
        monkeypatch.setattr(f"metaward.privacy.{module}.noisy", half)
    assert call("privacy", "audit", config, *QUICK) == 1
    words = printed(capsys)
    assert "FAULT (noise-too-small)" in words
    assert "NOT SOUND." in words


def test_json_holds_the_report(
    call: Call, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("privacy", "audit", config, *QUICK, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert 0 < found["mu_lower"] < found["claimed_mu"]
    assert found["claimed_epsilon"] == pytest.approx(8.0, rel=1e-3)
    assert (found["unit"], found["secret"], found["faults"]) == ("record", True, [])
    assert {"sensitivity", "layers", "correlations", "gaussian_p"} <= found.keys()


def test_an_audit_of_a_run_becomes_evidence_in_its_report(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Folder(tmp_path / "result")
    config = written(private("server.rounds=2"), tmp_path / "run.yaml")
    assert call("run", config, "--out", folder.path) == 0
    before = json.loads((folder.path / "privacy.json").read_text())
    assert before["evidence"]["audit"] is None
    capsys.readouterr()
    assert call("privacy", "audit", folder.path, *QUICK) == 0
    assert "audit.json" in printed(capsys)
    after = json.loads((folder.path / "privacy.json").read_text())
    audit = after["evidence"]["audit"]
    assert 0 < audit["mu_lower"] < audit["mu_claimed"]
    assert audit["faults"] == []
    assert before["hospitals"] == after["hospitals"]
    assert call("privacy", "audit", folder.path, "--set", "seed=3") == 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("privacy={mechanism: none}",), "nothing to attack; choose another"),
        (("privacy.sampling_rate=0.5",), "audit the same mechanism with sampling_rate 1"),
        (("privacy.epsilom=1",), "did you mean epsilon"),
    ],
)
def test_what_cannot_be_audited(
    call: Call,
    config: Path,
    settings: tuple[str, ...],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = [part for text in settings for part in ("--set", text)]
    assert call("privacy", "audit", config, *options) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_wrong_paths_and_numbers(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("privacy", "audit", tmp_path) == 2
    assert "a folder without a run" in capsys.readouterr().err
    assert call("privacy", "audit", tmp_path / "none.yaml") == 2
    assert "is not there; name a yaml file or a result folder" in capsys.readouterr().err
    assert call("privacy", "audit", "--seconds", 0) == 2


def test_participations_are_the_plans() -> None:
    """4 tasks, 2 a round: a pass takes two rounds, so three in six rounds; not said, all six."""
    run = private()
    assert participations(run, None, None) == 3
    assert participations(run, 120, 1) == 6
    crowded = run_with(
        CROWDED, "privacy={mechanism: sums, unit: record}", "client.tasks_per_round=100"
    )
    assert participations(crowded, None, None) == crowded.server.rounds
