"""Adapted models in a folder: damaged tensors, and words about them that say anything."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from metaward.client.models import Portable
from metaward.client.models.mlp import Mlp
from metaward.client.tasks.folder_files import RecordForm
from metaward.options import plain
from metaward.server.adapting.saved import TENSORS, Described, ModelOrigin, read_model, tensors_of
from tests.fuzz.harness import Counted, fresh, fuzz, inputs
from tests.fuzz.tensors import header_of, safetensors, with_header
from tests.fuzz.test_body import deep, told

FORM = RecordForm((4,), (("age", 50.0, 10.0),), (("sex", "f", "m"),))
ABOUT = Described(
    classes=("a", "b"),
    form=FORM,
    preparation="none",
    network={"network": "mlp", **plain(Mlp(hidden=(4,)))},
    mixed=False,
    origin=ModelOrigin("0", "run", "none"),
)


@inputs(40, 700)
def test_models(number: int, counted: Counted, tmp_path: Path) -> None:
    module = Portable(Mlp(hidden=(4,)), ABOUT.input_shape, 2)
    good = tensors_of(module, ABOUT)

    def read(content: bytes) -> None:
        fresh(tmp_path / TENSORS, content)
        found, about = read_model(tmp_path)
        outputs = found(torch.zeros(1, *about.input_shape))
        assert outputs.shape == (1, len(about.classes))
        assert found.body[1].weight.dtype == torch.float32
        np.asarray(outputs)

    drawn = safetensors(good) | told(good, "about")
    known = [deep(good, "about"), *(with_about(good, text) for text in ("[]", "null", "3"))]
    wide = plain(ABOUT.form) | {"shape": [10**6, 10**3], "columns": [], "choices": []}
    known += [with_about(good, json.dumps(about_of(good) | {"form": wide}))]
    fuzz(number, drawn, read, counted, known)


def about_of(good: bytes) -> dict[str, object]:
    about: dict[str, object] = json.loads(header_of(good)[0]["__metadata__"]["about"])
    return about


def with_about(good: bytes, text: str) -> bytes:
    """The file with another text about it."""
    header, values = header_of(good)
    return with_header(header | {"__metadata__": {"about": text}}, values)
