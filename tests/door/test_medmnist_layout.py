"""The lines of docs/own-data.md that turn files in MedMNIST's layout into a hospital's records."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import metaward as mw
from tests.door.typed_page import section, typed

TITLE = "Files in the layout of MedMNIST"
COLOURS = ("x[:, None]", "np.moveaxis(x, 3, 1)")
"""What the page puts in the place of what, for colours."""
FORMS: dict[str, tuple[tuple[int, ...], list[int], int]] = {
    "grey": ((28, 28), [1, 28, 28], 2),
    "colours": ((28, 28, 3), [3, 28, 28], 9),
    "64 pixels": ((64, 64, 3), [3, 64, 64], 2),
    "volumes": ((28, 28, 28), [1, 28, 28, 28], 2),
    "several findings": ((28, 28), [1, 28, 28], 2),
}
"""Of each: the stored image, ``client.tasks.shape``, and how many labels there are."""


def write(folder: Path, name: str, hospital: str) -> None:
    """A file as a vendor's export has it, and what the page's lines make of it."""
    stored, shape, labels = FORMS[name]
    rng, count = np.random.default_rng(list(hospital.encode())), 12 * labels
    y = (np.arange(count) % labels)[:, None].astype(np.uint8)
    light = 190 * y.reshape(-1, *[1] * len(stored)) // (labels - 1)
    images = rng.integers(0, 60, (count, *stored)) + light
    if name == "several findings":
        y = np.concatenate([y, rng.integers(0, 2, (count, 13), np.uint8)], axis=1)
    np.savez(folder / "lungs.npz", train_images=images.astype(np.uint8), train_labels=y)
    page = section("own-data.md", TITLE)
    lines = re.findall(r"^    (.*)$", page, re.MULTILINE)
    code = textwrap.dedent("\n".join(lines)).replace("north", hospital)
    assert COLOURS[0] in code
    assert f"`{COLOURS[1]}` in the place of `{COLOURS[0]}`" in " ".join(page.split())
    (folder / hospital).mkdir()
    exec(code.replace(*COLOURS) if shape[0] == 3 else code)


def run_file(folder: Path, name: str) -> Path:
    _, shape, labels = FORMS[name]
    tasks: dict[str, Any] = {
        "source": "folder",
        "train": ["north", "south"],
        "unseen": ["west"],
        "ways": 2,
        "shots": 2,
        "queries": 3,
        "shape": shape,
        "classes": [str(k) for k in range(labels)],
    }
    run = {
        "data": {"root": str(folder)},
        "client": {
            "tasks": tasks,
            "model": {"network": "mlp", "hidden": [8]},
            "inner": {"algorithm": "proto_maml", "steps": 1, "adapt_steps": 1, "lr": 1e-4},
        },
        "privacy": {"mechanism": "none"},
        "strategies": {"combine": {"rule": "mean"}, "outer": {"optimizer": "sgd", "lr": 1.0}},
        "server": {"rounds": 1, "workers": 1, "evaluation": {"baselines": []}},
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(run), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", FORMS)
def test_every_form_becomes_records_that_a_run_learns_from(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for hospital in ("north", "south", "west"):
        write(tmp_path, name, hospital)
    run_file(tmp_path, name)
    said = typed(tmp_path, [["data", "check", "."], ["run", "run.yaml", "--out", "result"]])
    assert said.count("in order") == 3
    (row,) = mw.open(tmp_path / "result").table
    assert row["after"] > 0.6, "brighter images are of a later class"


def test_a_model_for_colours_of_64_pixels_predicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for hospital in ("north", "south", "west"):
        write(tmp_path, "64 pixels", hospital)
    run_file(tmp_path, "64 pixels")
    calls = (
        "run run.yaml --out result",
        "adapt result --data west --draws 2 --out adapted",
        "predict adapted --data west",
    )
    typed(tmp_path, [call.split() for call in calls])
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 1 + 24
