"""docs/tutorial.md, as its reader types it: every command, in an empty folder, on every engine."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

import metaward as mw
from metaward.sim import HERE
from tests.door.typed_page import commands, section, typed

PAGE = "tutorial.md"
TITLES = re.findall(r"^## (.*)$", (HERE / "docs" / PAGE).read_text(encoding="utf-8"), re.MULTILINE)
IMAGES, FLOWER, PROCESSES, TABLE, RECORDINGS = TITLES


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder in which the first part of the page was typed."""
    place = tmp_path_factory.mktemp("reader")
    (place / "said.txt").write_text(typed(place, commands(PAGE, IMAGES)), encoding="utf-8")
    return place


def predicted(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def gains(result: Path) -> bool:
    """Whether the shared initialisation beats the fit from scratch where nobody trained."""
    rows = {row["learner"]: row["after"] for row in mw.open(result).table}
    return rows["metric"] > rows["from scratch"] + 0.05


def test_from_images_to_predictions(folder: Path) -> None:
    assert gains(folder / "results" / "consortium")
    rows = predicted(folder / "predictions.csv")
    assert len(rows) == 240
    truth = {row["id"]: row["label"] for row in predicted(folder / "consortium/west/labels.csv")}
    right = sum(truth[row["id"]] == row["predicted"] for row in rows) / len(rows)
    assert right > 0.5, "of four classes"
    for row in rows:
        assert sum(float(v) for k, v in row.items() if k.startswith("prob")) == pytest.approx(1)


def test_the_commands_say_what_the_page_says(folder: Path) -> None:
    said = (folder / "said.txt").read_text(encoding="utf-8")
    assert "next: metaward privacy plan consortium/run.yaml --records 240" in said
    assert "DOUBTFUL" in said
    assert "8.00" in said
    assert (folder / "results/consortium/report.html").is_file()
    assert "from scratch" in (folder / "adapted/west/report.md").read_text(encoding="utf-8")


@pytest.mark.flower
@pytest.mark.timeout(600)
def test_the_same_on_flowers_runtime(folder: Path) -> None:
    typed(folder, commands(PAGE, FLOWER))
    one, two = (mw.open(folder / "results" / name) for name in ("consortium", "flower"))
    assert (one.theta == two.theta).all()
    assert one.table == two.table


@pytest.mark.flower
@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_same_as_separate_processes(folder: Path) -> None:
    typed(folder, commands(PAGE, PROCESSES))
    assert gains(folder / "results" / "deployed")
    assert (folder / "deployment/hospitals/north/policy.yaml").is_file()
    assert (folder / "adapted/deployed/report.md").is_file()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_table_with_patients(tmp_path: Path) -> None:
    said = typed(tmp_path, commands(PAGE, TABLE))
    assert "Patient-level differential privacy" in said
    rows = predicted(tmp_path / "clinics.csv")
    assert len(rows) == 240
    patients = {row["patient"] for row in predicted(tmp_path / "clinics/west/records.csv")}
    assert len(patients) == 120


@pytest.mark.long
@pytest.mark.timeout(600)
def test_recordings(tmp_path: Path) -> None:
    pytest.importorskip("wfdb")
    typed(tmp_path, commands(PAGE, RECORDINGS))
    assert gains(tmp_path / "results" / "wards")
    assert len(predicted(tmp_path / "beats.csv")) == 240


@pytest.mark.flower
@pytest.mark.long
@pytest.mark.timeout(600)
def test_recordings_on_flowers_runtime(tmp_path: Path) -> None:
    """As the page says: the same result as on the in-process engine."""
    pytest.importorskip("wfdb")
    example, _, run, *_ = commands(PAGE, RECORDINGS)
    on_flower = [*run[:-1], "results/flower", "--engine", "flower"]
    typed(tmp_path, [example, run, on_flower])
    one, two = (mw.open(tmp_path / "results" / name) for name in ("wards", "flower"))
    assert (one.theta == two.theta).all()
    assert one.table == two.table


def test_every_part_of_the_page_is_typed() -> None:
    """All five headings, and no command outside of them."""
    text = (HERE / "docs" / PAGE).read_text(encoding="utf-8")
    shown = text.count("\n    metaward ")
    assert shown == sum(len(commands(PAGE, title)) for title in TITLES) > 20
    assert all("metaward run" in section(PAGE, t) or t == PROCESSES for t in TITLES)
