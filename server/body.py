"""The body of a network as a file: every run writes its own, and another run can start from it.

The file holds the body's tensors under their names, in their shapes, and says in its metadata whose
records they were trained on and under which privacy, so that the report of a run that starts from
it can name that. A head is not in it: classes differ from run to run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from metaward.client.desk import NETWORK, SOURCE
from metaward.client.inner import Algorithm, Setting
from metaward.client.tasks.preparation import MADE_UP
from metaward.files import replace_file
from metaward.options import ConfigError
from metaward.server.version import code_version
from metaward.sim import Sim

Vector = NDArray[np.float32]
KEY, FORMAT = "server.start", "metaward body 1"


@dataclass(frozen=True)
class Origin:
    """Where a body comes from.

    ``run`` and ``seed`` name the run, ``network`` and ``source`` its parts. ``records`` says whose
    records they are and under which licence, ``made_up`` that they belong to nobody, ``privacy``
    what the run promised them, and ``code`` which version it was.
    """

    run: str
    seed: int
    network: str
    source: str
    records: str
    made_up: bool
    privacy: str
    code: str

    def words(self, sha256: str) -> str:
        """A sentence or two for a report."""
        return (
            f"The body starts as that of run {self.run} (seed {self.seed}, SHA-256 {sha256[:16]}), "
            f"trained on source {self.source}: {self.records} What was promised to these records: "
            f"{self.privacy}"
        )


@dataclass(frozen=True)
class StoredBody:
    """The tensors of a file by name, its origin, and the SHA-256 of its bytes in hex."""

    tensors: Mapping[str, NDArray[np.float32]]
    origin: Origin
    sha256: str


def write(path: Path, run: Sim, setting: Setting, theta: Vector) -> None:
    """Write the body in theta; nothing where the learner's theta holds none."""
    places = dict(_places(run.client.inner, setting))
    if not places:
        return
    tensors = {name: theta[place].reshape(shape) for name, (place, shape) in places.items()}
    source = run.client.tasks
    origin = Origin(
        run=run.name,
        seed=run.seed,
        network=str(NETWORK.plain(run.client.model)["network"]),
        source=str(SOURCE.plain(source)["source"]),
        records=source.preparation.origin,
        made_up=source.preparation.beforehand == MADE_UP,
        privacy=run.privacy.claim,
        code=code_version(),
    )
    about = {"format": FORMAT, "origin": json.dumps(asdict(origin))}
    replace_file(path, save(tensors, about))


def read(path: Path) -> StoredBody:
    """The body in a file; ``ConfigError`` where there is none."""
    try:
        data = path.read_bytes()
        tensors = {name: np.asarray(tensor, np.float32) for name, tensor in load(data).items()}
        with safe_open(path, "numpy") as file:
            about = file.metadata() or {}
        if about.get("format") != FORMAT:
            raise ValueError("it does not say that it is the body of a network")
        origin = TypeAdapter(Origin).validate_json(about["origin"])
        if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
            raise ValueError("it holds values that are not finite")
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        text = f"{KEY}: {str(path)!r} cannot be read ({error}); name the body.safetensors of a run"
        raise ConfigError([text]) from error
    return StoredBody(tensors, origin, hashlib.sha256(data).hexdigest())


def check(run: Sim) -> None:
    """``ConfigError`` where there is no file to start from, or it holds the body of another network
    than the run's."""
    if run.server.start is None:
        return
    setting, learner = run.setting(), run.client.inner
    theta = np.asarray(learner.initial(setting, run.seed).numpy(), np.float32)
    begun(read(Path(run.server.start).expanduser()), learner, setting, theta)


def begun(body: StoredBody, learner: Algorithm, setting: Setting, theta: Vector) -> Vector:
    """theta (dim,) with the body in it; what is not in the body stays.

    ``ConfigError`` where the learner's theta has no body, or one of another shape.
    """
    faults = list(_faults(body, learner, setting))
    if faults:
        raise ConfigError(faults)
    begun = theta.copy()
    for name, (place, _) in _places(learner, setting):
        begun[place] = body.tensors[name].reshape(-1)
    return begun


def _faults(body: StoredBody, learner: Algorithm, setting: Setting) -> Iterator[str]:
    places = dict(_places(learner, setting))
    if not places:
        yield f"{KEY}: this learner's theta holds no body that could start anywhere; remove the key"
        return
    shapes = {name: tuple(tensor.shape) for name, tensor in body.tensors.items()}
    for name in sorted(places.keys() | shapes.keys()):
        here, there = places.get(name, (None, None))[1], shapes.get(name)
        if here != there:
            yield (
                f"{KEY}: {name} has shape {there or 'none'} in the file and {here or 'none'} in "
                f"this run; the file's network is {body.origin.network} for source "
                f"{body.origin.source}: give client.model its options"
            )
            return


def holds_body(learner: Algorithm, setting: Setting) -> bool:
    """Whether the learner's theta holds the body of the network."""
    return bool(dict(_places(learner, setting)))


def _places(
    learner: Algorithm, setting: Setting
) -> Iterator[tuple[str, tuple[slice, tuple[int, ...]]]]:
    """The name, coordinates and shape of each of the body's tensors in the learner's theta."""
    net = setting.network(0)
    shapes = {name: tuple(shape) for name, shape in zip(net.names, net.shapes, strict=True)}
    at = 0
    for layer in learner.layers(setting):
        if layer.name in shapes:
            yield layer.name, (slice(at, at + layer.size), shapes[layer.name])
        at += 0 if layer.local else layer.size
