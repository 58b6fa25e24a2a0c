"""Policies of a hospital: damaged files, and plain data with a part changed."""

from __future__ import annotations

import math
from pathlib import Path

import yaml
from hypothesis import strategies as st

from metaward import sim
from metaward.options import plain
from metaward.privacy.policy import Policy
from tests.fuzz.damage import altered, texts_of
from tests.fuzz.harness import Counted, fuzz, inputs
from tests.fuzz.test_sim import KNOWN

SCORES = ("accuracy", "mse", "auroc")
FILES = {path: path.read_text() for path in sorted((sim.HERE / "policies").glob("*.yaml"))}


def read(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    policy = Policy.read(path, SCORES)
    path.write_text(yaml.safe_dump(plain(policy)))
    assert Policy.read(path, SCORES) == policy
    budget = policy.budget()
    assert budget is None or math.isfinite(budget.epsilon)


@inputs(60, 1000)
def test_policies(number: int, counted: Counted, tmp_path: Path) -> None:
    mappings = [yaml.safe_load(text) for text in FILES.values()]
    trees = (
        st.sampled_from(mappings)
        .flatmap(altered)
        .map(yaml.safe_dump)
        .map(lambda text: text.encode(errors="replace"))
    )
    texts = st.sampled_from([*FILES.values()]).flatmap(texts_of)
    fuzz(number, trees | texts, lambda text: read(text, tmp_path / "policy.yaml"), counted, KNOWN)
