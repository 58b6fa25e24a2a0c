"""Saving the state, so that a killed run can be resumed bit for bit.

A checkpoint is a folder ``round-000010`` with ``state.safetensors`` (theta, the outer optimiser's
vectors, what the limit of norms remembers, and the best round so far where one is kept) and
``manifest.json`` (round, the configuration's digest, SHA-256 of the tensors). It is written under
another name, synced to disk, then renamed: it is complete or absent. The digest matters because
safetensors loads a file with flipped bits without an error.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from metaward.errors import RunError
from metaward.files import sync_folder, write_synced
from metaward.json_text import read_json
from metaward.server.keep import Best
from metaward.strategies.limits import NOTHING
from metaward.strategies.meta import MetaState

PATTERN = "round-*"


class CheckpointError(RunError):
    """A checkpoint is damaged or belongs to another configuration; the text names it."""


def save_state(
    folder: Path, state: MetaState, config: str, keep: int, best: Best | None = None
) -> Path:
    """Write a checkpoint of ``state`` under ``folder`` and delete all but the last ``keep``."""
    final = folder / _name(state.round)
    temporary = folder / f".writing-{final.name}"
    for unfinished in folder.glob(".writing-*"):  # a process that was killed left it
        shutil.rmtree(unfinished)
    temporary.mkdir(parents=True)
    vectors: dict[str, NDArray[Any]] = {
        "theta": state.theta,
        **{f"outer.{k}": v for k, v in state.outer.items()},
    }
    vectors |= {"norms": state.norms} if len(state.norms) else {}
    vectors |= _best_vectors(best) if best else {}
    # safetensors writes an array's memory, which for a strided view holds another vector
    tensors = save({key: np.ascontiguousarray(vector) for key, vector in vectors.items()})
    manifest = {
        "round": state.round,
        "config_sha256": digest(config.encode()),
        "state_sha256": digest(tensors),
    }
    write_synced(temporary / "state.safetensors", tensors)
    write_synced(temporary / "manifest.json", json.dumps(manifest, indent=1).encode())
    sync_folder(temporary)
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    sync_folder(folder)
    for old in sorted(folder.glob(PATTERN))[:-keep]:
        shutil.rmtree(old)
    return final


def latest_state(folder: Path, config: str) -> MetaState | None:
    """The newest checkpoint; None where there is none. ``CheckpointError`` where it is damaged."""
    newest = _newest(folder)
    return load_state(newest, config) if newest else None


def latest_best(folder: Path, config: str) -> Best | None:
    """The best round that the newest checkpoint knows of; None where it knows none."""
    newest = _newest(folder)
    vectors = _verified(newest, config)[1] if newest else {}
    if newest is None or "best.theta" not in vectors:
        return None
    with _reading(newest):
        known = read_json(vectors["best.scores"].tobytes())
        return Best(int(known["round"]), _vector(vectors["best.theta"]), {**known["scores"]})


def load_state(checkpoint: Path, config: str) -> MetaState:
    """Read and verify one checkpoint folder."""
    number, vectors = _verified(checkpoint, config)
    outer = {k.removeprefix("outer."): v for k, v in vectors.items() if k.startswith("outer.")}
    with _reading(checkpoint):
        norms = np.asarray(vectors.get("norms", NOTHING), np.float64)
        return MetaState(number, _vector(vectors["theta"]), outer, norms)


def _vector(found: NDArray[Any]) -> NDArray[np.float32]:
    if found.ndim != 1 or found.dtype != np.float32:
        raise ValueError(f"a theta is {found.shape} {found.dtype}, not (dim,) float32")
    return found


def _newest(folder: Path) -> Path | None:
    found = sorted(folder.glob(PATTERN)) if folder.is_dir() else []
    return found[-1] if found else None


def _best_vectors(best: Best) -> dict[str, NDArray[Any]]:
    """The best round as tensors, its scores as the bytes of a JSON text, under the same digest."""
    known = json.dumps({"round": best.round, "scores": best.scores}).encode()
    return {"best.theta": best.theta, "best.scores": np.frombuffer(known, np.uint8)}


def _verified(checkpoint: Path, config: str) -> tuple[int, dict[str, NDArray[Any]]]:
    """The round and the tensors of a checkpoint; ``CheckpointError`` if anything is wrong."""
    with _reading(checkpoint):
        manifest = read_json((checkpoint / "manifest.json").read_bytes())
        tensors = (checkpoint / "state.safetensors").read_bytes()
        expected = manifest["state_sha256"], manifest["config_sha256"], int(manifest["round"])
    if digest(tensors) != expected[0]:
        raise CheckpointError(f"{checkpoint}: state.safetensors was altered; {_way_out()}")
    if checkpoint.name != _name(expected[2]):
        raise CheckpointError(f"{checkpoint}: holds another round, {expected[2]}; {_way_out()}")
    if digest(config.encode()) != expected[1]:
        raise CheckpointError(
            f"{checkpoint}: belongs to another configuration; resume needs the unchanged one"
        )
    with _reading(checkpoint):
        return expected[2], load(tensors)


@contextmanager
def _reading(checkpoint: Path) -> Iterator[None]:
    """``CheckpointError`` where a file cannot be read, or holds something else."""
    try:
        yield
    except (ArithmeticError, LookupError, OSError, TypeError, ValueError, SafetensorError) as error:
        text = f"{checkpoint}: unreadable ({error!r:.300}); {_way_out()}"
        raise CheckpointError(text) from error


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _name(round: int) -> str:
    return f"round-{round:06d}"


def _way_out() -> str:
    return "delete that folder to resume from the checkpoint before it"
