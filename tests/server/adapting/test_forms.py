"""A model is the same in every form: Python, module, file, torch.export and ONNX."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

import metaward as mw
from metaward.client.inner import ALGORITHMS, Setting
from metaward.client.models import Conv, Mlp
from metaward.client.models.adapter import Adapter
from metaward.errors import InputError
from metaward.server.adapting.adapt import AdaptedRun
from metaward.server.adapting.model import Model, adapted
from metaward.server.adapting.predict import predictions
from metaward.server.adapting.saved import ONNX, read_model, write_exports
from tests.server.adapting.conftest import WISH

SHAPE = (1, 16, 16)
LEARNERS = ("metric", "proto_maml", "proto_anil", "reptile", "fomaml", "maml", "embedding")


def by(name: str) -> Model:
    """A learner's model of three made-up classes, from its start."""
    adapter = {"network": "adapter", "rank": 4} if name == "proto_anil" else None
    run = mw.load(
        overrides={
            "client.tasks": {"source": "folder", "train": ["a"], "unseen": ["b"]}
            | {"classes": ["p", "q", "r"], "shape": list(SHAPE), "ways": 3},
            "client.inner": {"algorithm": name, "adapt_steps": 3},
            "client.model": adapter or {"network": "conv", "width": 8, "depth": 2},
            "client.warm_up": None,
            "privacy": {"mechanism": "none"},
            "client.schedule": "random",
        }
    )
    x = np.random.default_rng(0).normal(size=(12, *SHAPE)).astype(np.float32)
    learner, network = run.client.inner, run.client.model
    assert isinstance(learner, ALGORITHMS[name])
    assert isinstance(network, Adapter if adapter else Conv)
    theta = learner.initial(Setting(network, run.client.tasks.spec()), 0).numpy()
    return adapted(run, theta, x, ["p", "q", "r"] * 4, 3)


@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_becomes_a_module(name: str) -> None:
    model = by(name)
    x = np.random.default_rng(1).normal(size=(5, *SHAPE)).astype(np.float32)
    module = model.module()
    assert not any(p.requires_grad for p in module.parameters())
    with torch.no_grad():
        np.testing.assert_allclose(module(torch.from_numpy(x)), model.outputs(x), atol=1e-5)
    assert np.ptp(model.outputs(x), axis=0).min() > 1e-4, "records must make a difference"


def test_a_predictor_that_is_no_network_is_refused() -> None:
    model = by("metric")
    other = Model(None, SHAPE, Mlp(), model.setting, lambda x: x)
    with pytest.raises(InputError, match="no network"):
        other.module()


def test_the_files_predict_as_python_does(place: Path, written: Path, made: AdaptedRun) -> None:
    west = place / "consortium" / "west"
    rows = made.rows
    mine = mw.open(place / "run").adapt(
        made.held.x[rows], np.array(made.held.classes)[made.held.y[rows]], steps=WISH.steps
    )
    expected = mine.outputs(made.held.x)
    with torch.no_grad():
        module = made.module(torch.tensor(made.held.x))
        np.testing.assert_allclose(module, expected, atol=1e-6)
        exported = torch.export.load(written / "model.pt2").module()
        np.testing.assert_allclose(exported(torch.tensor(made.held.x)), expected, atol=1e-4)
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(written / ONNX)
    for count in (1, 7, len(made.held.x)):
        (found,) = session.run(None, {"records": made.held.x[:count]})
        np.testing.assert_allclose(found, expected[:count], atol=1e-4)
    found = predictions(written, west)
    softmax = torch.softmax(torch.from_numpy(expected).double(), dim=1).numpy()
    np.testing.assert_allclose(found.probabilities, softmax, atol=1e-5)
    assert [row["predicted"] for row in found.rows()] == mine.predict(made.held.x).tolist()


def test_a_file_says_what_it_is(written: Path, made: AdaptedRun) -> None:
    with safe_open(written / "model.safetensors", "pt") as file:
        about = json.loads(file.metadata()["about"])
    assert about["classes"] == list(made.held.classes)
    assert about["form"]["shape"] == [1, 28, 28]
    assert about["origin"]["name"] == "own-data"
    assert "epsilon at most 8" in about["origin"]["privacy"]
    assert read_model(written)[1] == made.about


def test_no_onnx_without_its_packages(
    made: AdaptedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metaward.server.adapting.saved.find_spec", lambda name: None)
    absent = write_exports(tmp_path, made.module, (1, 28, 28))
    assert absent == {ONNX: "onnx is not installed: pip install 'metaward[onnx]'"}
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]


@pytest.mark.long
def test_the_exported_model_needs_no_code_of_ours(written: Path) -> None:
    code = (
        "import sys, torch\n"
        f"m = torch.export.load({str(written / 'model.pt2')!r}).module()\n"
        "print(tuple(m(torch.zeros(3, 1, 28, 28)).shape), 'metaward' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "(3, 4) False"


def test_a_damaged_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="cannot be read"):
        read_model(tmp_path)
