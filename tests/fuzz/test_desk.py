"""What the server tells a hospital to do: any JSON, and desks with a part changed."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from metaward import sim
from metaward.client.desk import Desk, asked_plugins, read_desk
from tests.fuzz.damage import TREES, altered, texts_of
from tests.fuzz.harness import Counted, fuzz, inputs
from tests.server.small import small

DESKS = [
    small().desk(),
    sim.load(sim.DEFAULT).desk(),
    sim.load(sim.HERE / "configs/beats.yaml").desk(),
]
DEEP = "[" * 100_000


def read(text: str) -> Desk:
    asked_plugins(text)
    desk = read_desk(text)
    assert read_desk(desk.json()) == desk
    return desk


def known(**changes: Any) -> str:
    return json.dumps(json.loads(DESKS[0].json()) | changes)


ADAPTER = {"network": "adapter", "orientations": 4, "grid": 16, "rank": 16}
FOLDER = {
    "source": "folder",
    "train": ["a"],
    "unseen": ["b"],
    "classes": ["x", "y", "z"],
    "shape": [4096] * 3,
}
LARGE = [
    json.dumps(json.loads(DESKS[1].json()) | {"architecture": ADAPTER}),
    json.dumps(json.loads(DESKS[1].json()) | {"source": FOLDER}),
    json.dumps(
        json.loads(DESKS[1].json()) | {"source": FOLDER, "architecture": {"network": "mlp"}}
    ),
    json.dumps(
        json.loads(DESKS[0].json()) | {"architecture": {"network": "mlp", "hidden": [4096] * 99}}
    ),
]
"""Networks and records for which a hospital has no memory."""
KNOWN = [*LARGE, DEEP, known(more=json.loads("[" * 500 + "]" * 500))]


@inputs(60, 1200)
def test_desks(number: int, counted: Counted) -> None:
    goods = [json.loads(desk.json()) for desk in DESKS]
    trees = st.sampled_from(goods).flatmap(altered) | TREES
    fuzz(number, trees.map(json.dumps), read, counted, KNOWN)


@inputs(40, 600)
def test_texts(number: int, counted: Counted) -> None:
    texts = st.sampled_from(DESKS).flatmap(lambda desk: texts_of(desk.json()))
    fuzz(number, texts.map(lambda text: text.decode(errors="replace")), read, counted, KNOWN)
