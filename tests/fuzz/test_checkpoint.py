"""Checkpoints: damaged files, and tensors and manifests of other content whose digests agree."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from safetensors.numpy import save

from metaward.server.checkpoint import digest, latest_best, latest_state, save_state
from metaward.server.keep import Best
from metaward.strategies.meta import MetaState
from tests.fuzz.damage import TREES, altered, damaged
from tests.fuzz.harness import Counted, fuzz, inputs
from tests.fuzz.tensors import safetensors

CONFIG = '{"seed":7}'
THETA = np.arange(6, dtype=np.float32)
STATE = MetaState(3, THETA, {"first": THETA, "steps": THETA[:1]})
BEST = Best(2, THETA, {"after": 0.5, "low": 0.4, "high": 0.6})
FILES = ("manifest.json", "state.safetensors")


def read(folder: Path) -> None:
    """What is read can be saved and comes back."""
    state, best = latest_state(folder, CONFIG), latest_best(folder, CONFIG)
    assert state is not None
    again = folder.with_name("again")
    shutil.rmtree(again, ignore_errors=True)
    save_state(again, state, CONFIG, 1, best)
    back = latest_state(again, CONFIG)
    assert back is not None
    assert (back.round, back.theta.tobytes()) == (state.round, state.theta.tobytes())
    assert back.outer.keys() == state.outer.keys()


def written(place: Path) -> tuple[Path, dict[str, bytes]]:
    """The folder of a good checkpoint, and the content of its files."""
    folder = place / "checkpoints"
    made = save_state(folder, STATE, CONFIG, 1, BEST)
    return made, {name: (made / name).read_bytes() for name in FILES}


@inputs(30, 500)
def test_damaged_files(number: int, counted: Counted, tmp_path: Path) -> None:
    made, good = written(tmp_path)

    def damage(content: tuple[str, bytes]) -> None:
        for name in FILES:
            (made / name).write_bytes(good[name])
        (made / content[0]).write_bytes(content[1])
        read(made.parent)

    names = st.sampled_from(FILES)
    drawn = names.flatmap(lambda name: st.tuples(st.just(name), damaged(good[name])))
    deep = [("manifest.json", b"[" * 100_000), ("manifest.json", b'{"round": Infinity}')]
    fuzz(number, drawn, damage, counted, deep)


@inputs(30, 600)
def test_content_that_agrees_with_its_digest(number: int, counted: Counted, tmp_path: Path) -> None:
    made, good = written(tmp_path)

    def write(content: tuple[Any, bytes]) -> None:
        manifest, tensors = content
        if isinstance(manifest, dict) and "state_sha256" in manifest:
            manifest["state_sha256"] = digest(tensors)
        (made / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        (made / "state.safetensors").write_bytes(tensors)
        read(made.parent)

    manifest = json.loads(good["manifest.json"])
    scores = TREES.map(lambda tree: save(with_scores(json.dumps(tree).encode())))
    tensors = safetensors(good["state.safetensors"]) | scores
    drawn = st.tuples(st.just(manifest) | altered(manifest), tensors)
    known = [(manifest, save({"outer.first": THETA})), (manifest, save(with_scores(b"{}")))]
    fuzz(number, drawn, write, counted, known)


def with_scores(text: bytes) -> dict[str, Any]:
    """The tensors of a checkpoint that knows a best round with these scores."""
    return {"theta": THETA, "best.theta": THETA, "best.scores": np.frombuffer(text, np.uint8)}
