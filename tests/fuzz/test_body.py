"""Bodies to start from, adapted models, thetas of finished runs: damaged files of tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from metaward.server import body
from metaward.server.evaluations.finished import _theta
from tests.fuzz.damage import altered
from tests.fuzz.harness import Counted, fuzz, inputs
from tests.fuzz.tensors import header_of, safetensors, with_header
from tests.server.small import small


@st.composite
def told(draw: st.DrawFn, good: bytes, key: str) -> bytes:
    """The file with another text under a key of its metadata."""
    header, values = header_of(good)
    tree = draw(altered(json.loads(header["__metadata__"][key])))
    header["__metadata__"][key] = json.dumps(tree)
    return with_header(header, values)


def deep(good: bytes, key: str) -> bytes:
    header, values = header_of(good)
    return with_header(
        header | {"__metadata__": {**header["__metadata__"], key: "[" * 9999}}, values
    )


@inputs(30, 700)
def test_bodies(number: int, counted: Counted, tmp_path: Path) -> None:
    run, path = small(), tmp_path / "body.safetensors"
    setting, learner = run.setting(), run.client.inner
    theta = np.asarray(learner.initial(setting, 1).numpy())
    body.write(path, run, setting, theta)
    good = path.read_bytes()

    def read(content: bytes) -> None:
        path.write_bytes(content)
        begun = body.begun(body.read(path), learner, setting, theta)
        assert begun.shape == theta.shape
        assert np.isfinite(begun).all()

    drawn = safetensors(good) | told(good, "origin")
    fuzz(number, drawn, read, counted, [deep(good, "origin")])


@inputs(10, 300)
def test_thetas(number: int, counted: Counted, tmp_path: Path) -> None:
    from safetensors.numpy import save

    run: Any = small()
    theta = np.asarray(run.client.inner.initial(run.setting(), run.seed).numpy())
    path = tmp_path / "theta.safetensors"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        assert _theta(path, run).dtype == np.float32

    fuzz(number, safetensors(save({"theta": theta})), read, counted)
