"""The commands as their user types them, from a made-up consortium to a table of predictions."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metaward.server.adapting.adapt import AdaptedRun
from metaward.server.adapting.predict import predictions
from metaward.server.adapting.write import free_place
from tests.server.adapting.conftest import ran
from tests.server.test_cli import metaward

FILES = ["adapt.json", "confusion.png", "model-card.md", "model.onnx", "model.pt2"]
FILES += ["model.safetensors", "reliability.png", "report.html", "report.md"]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda *arguments: metaward(*map(str, arguments), monkeypatch=monkeypatch)


@pytest.fixture
def west(place: Path, tmp_path: Path) -> Path:
    """A copy of the new hospital's folder that a test may change."""
    return Path(shutil.copytree(place / "consortium" / "west", tmp_path / "west"))


def relabel(folder: Path, keep: Any) -> None:
    """Rewrite labels.csv with the lines that ``keep`` returns."""
    with (folder / "labels.csv").open(newline="") as file:
        lines = keep(list(csv.DictReader(file)))
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(lines[0]))
        table.writeheader()
        table.writerows(lines)


def test_what_is_written(written: Path, made: AdaptedRun) -> None:
    assert sorted(path.name for path in written.iterdir()) == FILES
    report = (written / "report.md").read_text()
    rows = ["metric, adapted", "metric, before", "untrained", "from scratch", "nearest centroid"]
    for word in [*rows, "logistic", "AUROC", "ECE, 10 bins", "no confidence interval"]:
        assert word in report
    found = json.loads((written / "adapt.json").read_text())
    assert found["classes"] == dict(zip(made.held.classes, made.held.counts(), strict=True))
    first = found["rows"][0]["scores"]
    assert list(first) == [s.name for s in made.scores]
    assert all(one["low"] <= one["mean"] <= one["high"] for one in first.values())
    assert np.sum(found["confusion"]) == sum(found["reliability"]["counts"]) > 0
    assert "without any protection" in (written / "model-card.md").read_text()


def test_what_was_learned_helps(made: AdaptedRun) -> None:
    name = made.scores[0].name
    scores = {row.name: row.scores[name].mean for row in made.verdict.rows}
    assert scores["metric, adapted"] > scores["from scratch"] + 0.1
    assert scores["metric, adapted"] > scores["metric, untrained"]


def test_adapt_and_predict_for_programs(
    call: Any, place: Path, tmp_path: Path, west: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The hospital has classes of its own, fewer than the run's, and reads them all.
    relabel(west, lambda rows: [r | {"label": "x"} for r in rows[:60]] + rows[60:])
    relabel(west, lambda rows: [r for r in rows if r["label"] in ("x", "nodule", "mass")])
    out, table = tmp_path / "model", tmp_path / "p.csv"
    options = ("--data", west, "--shots", "all", "--steps", 2, "--draws", 2, "--json")
    assert call("adapt", place / "run", *options, "--out", out) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((out / "adapt.json").read_text())
    assert found["shots"] == "all"
    assert found["fitted_to"] == sum(found["classes"].values())
    assert list(found["classes"]) == ["mass", "nodule", "x"]
    relabel(west, lambda rows: [{k: r[k] for k in ("file", "id")} for r in rows])  # no labels
    assert call("predict", out, "--data", west, "--out", table, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    with table.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["id"] for line in lines] == [row["id"] for row in rows]
    assert len(rows) == found["fitted_to"]
    for line, row in zip(lines, rows, strict=True):
        shares = row["probabilities"]
        assert sum(shares.values()) == pytest.approx(1)
        assert line["predicted"] == row["predicted"] == max(shares, key=lambda k: shares[k])
        assert float(line["probability of x"]) == pytest.approx(shares["x"], abs=1e-8)
    assert call("predict", out, "--data", west, "--out", table) == 2
    assert "not written over" in capsys.readouterr().err


def test_training_still_needs_labels(
    call: Any, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(place / "consortium", tmp_path / "c"))
    relabel(folder / "north", lambda rows: [{k: r[k] for k in ("file", "id")} for r in rows])
    assert call("data", "check", folder) == 2
    assert "no column label" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--shots", "few"], ["--shots", "'few'", "all"]),
        (["--shots", "0"], ["--shots", "0 is refused"]),
        (["--shots", "500"], ["class cyst has", "--shots"]),
        (["--draws", "1"], ["--draws", "2 to 1000"]),
        (["--specificity", "1.5"], ["--specificity", "1.5"]),
        (["--steps", "-1"], ["--steps", "-1"]),
    ],
)
def test_bad_wishes_are_named(
    call: Any,
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    words: list[str],
) -> None:
    data = ("--data", place / "consortium" / "west", "--out", tmp_path / "o")
    assert call("adapt", place / "run", *data, *options) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_faults_of_folders_are_named(
    call: Any, place: Path, tmp_path: Path, west: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*words: str, run: Path = place / "run", data: Path = west, out: str = "o") -> None:
        assert call("adapt", run, "--data", data, "--out", tmp_path / out) == 2
        said = capsys.readouterr().err
        assert all(word in said for word in words), said
        assert not (tmp_path / "o").exists()

    refused("holds no run", run=tmp_path)
    unfinished = Path(shutil.copytree(place / "run", tmp_path / "half"))
    (unfinished / "status.json").write_text('{"status": "interrupted", "reason": "", "at": ""}')
    refused("interrupted", "metaward resume", run=unfinished)
    refused("is no folder", data=tmp_path / "nowhere")
    refused("not an empty folder", out="west")
    relabel(west, lambda rows: [r for r in rows if r["label"] == "mass"])
    refused("two classes are needed")
    shutil.rmtree(west)
    west.mkdir()
    np.savez(west / "records.npz", x=np.zeros((4, 1, 9, 9)), y=np.arange(4) % 2)
    refused("x has shape (4, 1, 9, 9)", "[1, 28, 28]")
    (west / "records.npz").unlink()
    (west / "records.csv").write_text("age,label\n1,a\n")
    refused("records.csv", "no columns of a table", "records.npz")


def test_a_class_with_one_record_is_named(
    call: Any, place: Path, tmp_path: Path, west: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    relabel(west, lambda rows: [rows[0] | {"label": "rare"}, *rows[1:]])
    assert call("adapt", place / "run", "--data", west, "--out", tmp_path / "o") == 2
    assert "class rare has 1 record;" in capsys.readouterr().err


def test_a_run_without_classes_is_refused(
    call: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from metaward.server.engines.inprocess import run_inprocess
    from metaward.server.folder import Folder
    from tests.server.small import small

    run = small("server.rounds=1", "server.evaluation.baselines=[]")
    folder = Folder(tmp_path / "run")
    folder.create(run)
    run_inprocess(run, folder, lambda row: None)
    assert call("adapt", folder.path, "--data", tmp_path, "--out", tmp_path / "o") == 2
    assert "have no classes" in capsys.readouterr().err


def test_predict_needs_a_model(
    call: Any, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ("--data", place / "consortium" / "west", "--out", tmp_path / "p.csv")
    assert call("predict", place / "run", *data) == 2
    assert "name a folder that metaward adapt wrote" in capsys.readouterr().err
    assert not (tmp_path / "p.csv").exists()


def test_a_new_folder_is_named_after_the_hospital(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert free_place(tmp_path / "west") == Path("adapted/west")
    (tmp_path / "adapted" / "west").mkdir(parents=True)
    assert free_place(tmp_path / "west") == Path("adapted/west-2")


def test_a_table_is_read_as_its_run_declares(call: Any, tmp_path: Path) -> None:
    result = ran(tmp_path, form="table")
    west, out = tmp_path / "consortium" / "west", tmp_path / "model"
    assert call("adapt", result, "--data", west, "--draws", 2, "--out", out) == 0
    found = predictions(out, west)
    assert set(found.classes) == {"ill", "well"}
    with (west / "records.csv").open(newline="") as file:
        truth = [row["label"] for row in csv.DictReader(file)]
    right = np.mean([row["predicted"] == y for row, y in zip(found.rows(), truth, strict=True)])
    assert right > 0.6
