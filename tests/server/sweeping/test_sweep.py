"""A sweep as its user starts it: killed and resumed, interrupted, twice at once, with a failure."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from metaward import sim
from metaward.server.folder import BusyError, Folder, FolderTakenError
from metaward.server.sweeping.command import swept
from metaward.server.sweeping.place import SweepPlace
from metaward.server.sweeping.trials import planned
from tests.server.office.privacy_desk import PRIVATE
from tests.server.sweeping.desk import carry_here, quiet, read, start, sweep_file
from tests.server.test_cli import metaward

GRID = {"strategies.max_norm": [1e-12, 1000.0]}
"""The first value rejects every update, so that its trial fails."""
ROUNDS = "server.rounds=40"


def wait_for(happens: Callable[[], bool], seconds: float = 100.0) -> None:
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def processes_of(out: Path) -> list[int]:
    """Live processes that name a folder in their command."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if any(str(out) in word for word in words) and process.pid != os.getpid():
            found.append(process.pid)
    return found


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    return sweep_file(folder, ROUNDS, grid=GRID)


@pytest.fixture(scope="module")
def whole(file: Path) -> Path:
    """A whole sweep, which finds a trial's folder half made; what it printed is in two files."""
    out, printed, errors = file.parent / "whole", io.StringIO(), io.StringIO()
    with SweepPlace(out).claimed(planned(file)):
        (out / "trials" / "002-seed-1").mkdir()
        (out / "trials" / "002-seed-1" / "run.json").write_text("{}")
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(errors),
    ):
        words = ("sweep", str(file), "--out", str(out), "--jobs", "1")
        code = metaward(*words, monkeypatch=patch)
    (out / "printed").write_text(printed.getvalue())
    (out / "errors").write_text(errors.getvalue())
    assert code == 1, errors.getvalue()
    return out


def test_a_failing_trial_is_named_and_stops_no_other(whole: Path) -> None:
    found = read(whole)
    first, last = found["rows"]
    assert (first["combination"], last["combination"]) == (2, 1)
    assert first["trials"][0]["failed"] is None
    assert "failed: round 1" in last["trials"][0]["failed"]
    assert "mean" not in last
    assert found["best"] == 2
    errors = (whole / "errors").read_text()
    assert "1 of 2: 001-seed-1 FAILED: failed: round 1" in errors
    assert "1 of 2 trials have no result" in errors
    assert "Traceback" not in errors


def test_the_best_configuration_is_a_run(whole: Path) -> None:
    best = sim.load(whole / "best.yaml")
    assert best == sim.load(whole.parent / "run.yaml", ["strategies.max_norm=1000.0"])
    assert best.server.evaluation.judges == "unseen"
    assert f"metaward run {whole / 'best.yaml'}" in (whole / "printed").read_text()


def test_every_file_is_there_and_no_unseen_hospital_was_asked(whole: Path) -> None:
    page = (whole / "sweep.md").read_text()
    assert "strategies.max_norm" in page
    assert "NO PRIVACY" in page
    assert (whole / "sweep.png").read_bytes()[1:4] == b"PNG"
    hospitals = read(whole)["rows"][0]["trials"][0]["hospitals"]
    assert set(hospitals) == {"validation-01", "validation-02"}


def test_killed_and_started_again_it_gives_the_same(tmp_path: Path) -> None:
    """Under privacy, so that what was paid is compared as well."""
    file = sweep_file(tmp_path, *PRIVATE, "server.rounds=10", grid={"client.inner.lr": [0.02]})
    process = start(file, "--out", tmp_path / "killed")
    trial = Folder(tmp_path / "killed" / "trials" / "001-seed-1")
    wait_for(lambda: any(row["round"] >= 2 for row in trial.rows()))
    plan, place = planned(file), SweepPlace(tmp_path / "killed")
    with pytest.raises(BusyError, match="another sweep is working in this folder"):
        swept(plan, place, 1, quiet)
    process.kill()
    process.communicate()
    wait_for(lambda: not processes_of(place.path), 20.0)
    assert trial.status()[0] == "running"
    swept(plan, place, 1, quiet)
    assert trial.about()["starts"] == 2, "the trial went on"
    whole = SweepPlace(tmp_path / "whole")
    carry_here(plan, whole)
    swept(plan, whole, 1, quiet)
    assert read(place.path) == read(whole.path)
    assert read(place.path)["privacy"]["together"] > 0


@pytest.mark.long
def test_ctrl_c_ends_the_trials_and_says_how_to_go_on(file: Path) -> None:
    out = file.parent / "stopped"
    process = start(file, "--out", out)
    wait_for(lambda: (out / "trials" / "001-seed-1" / "config.json").is_file())
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert f"go on with: metaward sweep {file} --out {out}" in errors
    assert not processes_of(out)


def test_another_sweep_or_other_files_are_not_touched(
    file: Path, whole: Path, tmp_path: Path
) -> None:
    other = planned(sweep_file(tmp_path, ROUNDS, grid=GRID, seeds=[2]))
    with pytest.raises(FolderTakenError, match="holds a sweep with other trials"):
        swept(other, SweepPlace(whole), 1, quiet)
    with pytest.raises(FolderTakenError, match=r"holds run\.yaml and no sweep"):
        swept(other, SweepPlace(tmp_path), 1, quiet)
    with pytest.raises(FolderTakenError, match="is a file"):
        swept(other, SweepPlace(tmp_path / "run.yaml"), 1, quiet)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.yaml", "sweep.yaml"]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"grid": {"client.inner.lrr": [0.1]}}, "did you mean lr?"),
        ({"run": "nothing.yaml"}, "nothing.yaml: no such file"),
    ],
)
def test_bad_input_starts_nothing(
    tmp_path: Path,
    keys: dict[str, Any],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, out = sweep_file(tmp_path, **keys), tmp_path / "out"
    assert metaward("sweep", str(path), "--out", str(out), monkeypatch=monkeypatch) == 2
    assert words in capsys.readouterr().err
    assert metaward("sweep", str(path), "--jobs", "0", monkeypatch=monkeypatch) == 2
    assert not out.exists()


def test_a_plan_is_plain_data(file: Path) -> None:
    plain = planned(file).plain()
    assert json.loads(json.dumps(plain)) == plain
    assert list(plain["trials"]) == ["001-seed-1", "002-seed-1"]
