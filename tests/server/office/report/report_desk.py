"""What the tests of the privacy report share: a small run of phantom hospitals, and its report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from pydantic import TypeAdapter

from metaward import sim
from metaward.privacy.report.document import PrivacyReport, concluded, schema
from metaward.privacy.report.page import page
from metaward.privacy.report.sections import TrainingHospital
from metaward.server.engines import ENGINES
from metaward.server.folder import Folder
from metaward.server.office.report.gather import from_folder
from metaward.server.office.report.write import report
from metaward.server.run import Observer
from metaward.yaml_text import override

PHANTOM: dict[str, Any] = {
    "name": "wards",
    "seed": 3,
    "client": {
        "tasks": {
            "source": "phantom",
            "hospitals": 3,
            "unseen": 1,
            "records": 60,
            "findings": 4,
            "novel": 2,
            "held": 4,
            "ways": 2,
            "shots": 2,
            "queries": 3,
        },
        "model": {"network": "mlp", "hidden": [4]},
        "inner": {"algorithm": "fomaml", "lr": 0.02, "steps": 2, "adapt_steps": 1},
        "tasks_per_round": 2,
        "schedule": "passes",
    },
    "privacy": {"mechanism": "sums", "unit": "record", "clip_query": 0.5},
    "strategies": {"combine": {"rule": "mean"}, "outer": {"optimizer": "sgd", "lr": 0.1}},
    "server": {
        "rounds": 2,
        "workers": 1,
        "evaluation": {"every": 2, "episodes": 1, "final_episodes": 2, "baselines": ["fedavg"]},
    },
}
VALID = Draft202012Validator(schema())


def executed(run: sim.Sim, path: Path, observe: Observer = lambda row: None) -> Folder:
    folder = Folder(path)
    if not folder.exists():
        folder.create(run)
    ENGINES["inprocess"](run, folder, observe)
    return folder


def phantom(*settings: str) -> sim.Sim:
    mapping = sim.parse(PHANTOM).mapping()
    for text in settings:
        override(mapping, text)
    return sim.parse(mapping)


def saved(folder: Folder) -> PrivacyReport:
    """The written report; its verdict must follow from its facts, its page show the same ones."""
    text = (folder.path / "privacy.json").read_text(encoding="utf-8")
    VALID.validate(json.loads(text))
    written = TypeAdapter(PrivacyReport).validate_json(text)
    assert concluded(written) == written
    assert (folder.path / "privacy.html").read_text(encoding="utf-8") == page(written)
    return written


def of_folder(folder: Folder, named: Sequence[Path] = ()) -> PrivacyReport:
    return report(from_folder(folder, named))


def ledger_of(folder: Folder, name: str, learner: str = "fomaml") -> Path:
    return folder.hospitals / f"{folder.id}.{learner}" / f"{name}.sqlite"


def named(report: PrivacyReport, name: str) -> TrainingHospital:
    return next(h for h in report.hospitals if h.name == name)


NO_BASELINES = "server.evaluation.baselines=[]"


def deployed(folder: Folder) -> dict[str, Path]:
    """As if the run had been a deployment: ledgers elsewhere. Returns where they are."""
    shutil.rmtree(folder.hospitals.parent / "elsewhere", ignore_errors=True)
    away = folder.hospitals.rename(folder.path.parent / "elsewhere") / f"{folder.id}.fomaml"
    folder.write_json("run.json", folder.about() | {"simulated": False})
    return {path.stem: path for path in away.glob("*.sqlite")}
