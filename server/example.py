"""A federation of made-up hospitals as files, for a first try of source ``folder``.

It shows what a hospital's folder must look like, and the yaml file that goes with it.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from metaward.client.tasks.base import Hospital
from metaward.client.tasks.beats import NAMES as BEATS
from metaward.client.tasks.beats import RATE, Beats
from metaward.client.tasks.ecg import SAMPLES
from metaward.client.tasks.folder_files import ARRAYS, IMAGES, LABELS, TABLE
from metaward.client.tasks.phantom import NAMES as FINDINGS
from metaward.client.tasks.phantom import Phantom
from metaward.options import ConfigError
from metaward.server.example_recordings import RHYTHM, SYMBOLS, write_recordings

HOSPITALS = ("north", "south", "east", "west")
"""The last one takes no part in training."""
RECORDS, KINDS, SEED = 240, 4, 1


def write_example(folder: Path, form: str) -> Path:
    """Write four hospitals and ``run.yaml`` into a new or empty folder; the path of the yaml file.

    ``ConfigError`` where there is anything in the folder.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(["is not an empty folder; name a new one"], str(folder))
    tasks, network = FORMS[form](folder)
    file = folder / "run.yaml"
    file.write_text(_run(folder, tasks, network), encoding="utf-8")
    return file


def _images(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Grey PNG files in images/, and labels.csv with file, label, patient and id."""
    source = Phantom(
        hospitals=4, unseen=0, records=RECORDS, findings=KINDS, novel=0, held=KINDS, skew=0
    )
    for index, place in _places(folder):
        hospital = source.hospital(index, None, SEED)
        (place / IMAGES).mkdir()
        rows = []
        for number, image in enumerate(hospital.x):
            name = f"{number:04d}.png"
            Image.fromarray(image).save(place / IMAGES / name)
            rows.append([name, FINDINGS[hospital.y[number]], *_names(hospital, number)])
        _write(place / LABELS, ["file", "label", "patient", "id"], rows)
    tasks = {"classes": list(FINDINGS[:KINDS]), "shape": [1, 28, 28]}
    return tasks, {"network": "scatter"}


def _arrays(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """records.npz with heartbeats x (n, 1, 128) in millivolts, y, patient and id."""
    source = Beats(hospitals=4, unseen=0, records=RECORDS, patients=12, held=KINDS, skew=0)
    held: set[str] = set()
    for index, place in _places(folder):
        hospital = source.hospital(index, None, SEED)
        patients, ids = zip(*(_names(hospital, k) for k in range(RECORDS)), strict=True)
        labels = np.array(BEATS)[hospital.y]
        held |= set(labels.tolist())
        x = (hospital.x[:, None] / 200).astype(np.float32)
        np.savez(place / ARRAYS, x=x, y=labels, patient=np.array(patients), id=np.array(ids))
    tasks = {"classes": sorted(held), "shape": [1, 128]}
    return tasks, {"network": "scatter", "grid": 8}


def _table(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """records.csv: two visits of made-up patients with age, pressure, sugar, sex; ill or well."""
    for index, place in _places(folder):
        rng = np.random.default_rng([SEED, index])
        visits = np.arange(RECORDS) // 2
        age, sex = rng.normal(55, 12, RECORDS)[visits], rng.integers(2, size=RECORDS)[visits]
        pressure = 95 + 0.5 * age + rng.normal(0, 14, RECORDS)
        sugar = 90 + 0.3 * age + 6 * sex + rng.normal(0, 15, RECORDS)
        risk = (age - 55) / 12 + (pressure - 122) / 18 + (sugar - 110) / 18 + index / 4
        ill = risk + rng.normal(0, 1, RECORDS) > 0
        rows = [
            [f"p{visits[k]}", *numbers, "fm"[sex[k]], "ill" if ill[k] else "well"]
            for k, numbers in enumerate(zip(*map(_whole, (age, pressure, sugar)), strict=True))
        ]
        _write(place / TABLE, ["patient", "age", "pressure", "sugar", "sex", "label"], rows)
    tasks = {
        "classes": ["well", "ill"],
        "columns": [["age", 55, 10], ["pressure", 120, 20], ["sugar", 100, 20]],
        "choices": [["sex", "f", "m"]],
        "ways": 2,
    }
    return tasks, {"network": "mlp", "hidden": []}


def _physionet(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """RECORDS, and for each patient a recording of one lead (*.hea, *.dat, *.atr)."""
    for index, place in _places(folder):
        write_recordings(place, RECORDS, 12, np.random.default_rng([SEED, index]))
    recording = {"rate": float(RATE), "ignore": [RHYTHM], "units": "mV"}
    tasks = {"classes": list(SYMBOLS), "shape": [1, SAMPLES], "recording": recording}
    return tasks, {"network": "scatter", "grid": 8}


FORMS: dict[str, Callable[[Path], tuple[dict[str, Any], dict[str, Any]]]] = {
    "images": _images,
    "table": _table,
    "arrays": _arrays,
    "physionet": _physionet,
}


def _places(folder: Path) -> Iterable[tuple[int, Path]]:
    """Each hospital's new folder."""
    for index, name in enumerate(HOSPITALS):
        place = folder / name
        place.mkdir(parents=True)
        yield index, place


def _names(hospital: Hospital, row: int) -> tuple[str, str]:
    """Patient and id, without the name of the hospital."""
    return str(hospital.patients[row]).split("/")[1], str(hospital.ids[row]).split("/")[1]


def _whole(values: NDArray[np.float64]) -> list[str]:
    return [f"{value:.0f}" for value in values]


def _write(path: Path, names: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([names, *rows])


def _run(folder: Path, tasks: dict[str, Any], network: dict[str, Any]) -> str:
    """The yaml file: one round of the metric under record-level privacy."""
    *train, unseen = HOSPITALS
    source = {"source": "folder", "train": train, "unseen": [unseen], **tasks}
    run = {
        "name": "own-data",
        "seed": SEED,
        "data": {"root": str(folder.resolve())},
        "client": {
            "tasks": {**source, "shots": 5, "queries": 10},
            "model": network,
            "inner": {"algorithm": "metric", "lr": 0.01, "adapt_steps": 10, "shrink": 1.0},
            "tasks_per_round": 1000,
            "schedule": "passes",
        },
        "privacy": {"mechanism": "sums", "unit": "record", "epsilon": 8.0, "delta": 1e-5}
        | {"clip_norm": 4.0, "clip_features": 8.0},
        "strategies": {
            "combine": {"rule": "mean"},
            "outer": {"optimizer": "sgd", "lr": 1.0},
        },
        "server": {
            "rounds": 1,
            "workers": 1,
            "evaluation": {"every": 1, "baselines": ["no_privacy", "untrained", "scratch"]},
        },
    }
    text = yaml.safe_dump(run, sort_keys=False, default_flow_style=None, width=110)
    return (
        f"# Made by `metaward data example`: {', '.join(train)} train, {unseen} is unseen.\n{text}"
    )
