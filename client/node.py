"""The hospital's own side of a request, read from its node config.

The server names no path and no device, and makes no hospital open a connection. ``partition-id``
says which hospital of the roster this is; ``policy`` and ``ledger`` are the files of
``client.guard``; ``data-root`` is the data folder (else the environment's METAWARD_DATA);
``device`` is where it computes: cpu, cuda or cuda:N (else METAWARD_DEVICE, else cpu); ``inner`` is
how the inner loops of several tasks are computed: auto, loop, batched or fused (else
METAWARD_INNER, else auto), and ``chunk`` the most tasks at once (else METAWARD_CHUNK, else 64);
``memory`` is the folder of ``client.memory`` (in a simulation it is that of the ledgers);
``download`` is true where missing data files may be downloaded; ``signing-key`` is the file of the
Ed25519 key that signs every answer (``client.answering``); ``gate-log`` is the log of the
hospital's gate, which says what code runs (``client.let_in``). In a simulation ``client.sitting``
adds keys of its own.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast, get_args

import torch

from metaward.client.desk import Desk
from metaward.client.errors import DataError, NodeError
from metaward.client.guard import Guard, NodeConfig, open_guard, simulation_folder
from metaward.client.inner.at_once import AUTO, TasksAtOnce, Way
from metaward.client.let_in import code_let_in
from metaward.client.memory import Memory, Stub
from metaward.client.sitting import THE_RUNS_OWN, Sitting, of_config
from metaward.client.tasks.base import Seat
from metaward.privacy.ledger import RequestKey
from metaward.privacy.wire import Request

NOISE = 5  # the random stream of seeded noise; client.work has the others
DEVICE = re.compile(r"cpu|cuda(:(?P<number>\d+))?")


@dataclass(frozen=True)
class Node:
    """One hospital's own side of a request.

    ``root`` is None without a data folder, ``memory`` is None where the learner keeps nothing.
    ``sitting`` says on which tasks it is judged: always the run's own ones at a real hospital.
    """

    index: int
    root: Path | None
    device: str
    guard: Guard
    memory: Memory | None
    sitting: Sitting = THE_RUNS_OWN
    at_once: TasksAtOnce = AUTO


def open_node(
    config: NodeConfig, desk: Desk, request: Request, flower_run: int | None = None
) -> Node:
    """This node, read from its own configuration; ``flower_run`` is Flower's number of the run.

    ``NodeError`` where the machine lacks what is named there, ``DataError`` where the roster has no
    such hospital; ``PolicyError`` or ``LedgerError`` from the guard.
    """
    index = int(str(config["partition-id"]))
    guard = _guard(config, desk, request, index)
    guard = replace(guard, code=code_let_in(config, flower_run))
    memory = _memory(config, desk, request, index, guard)
    sitting = of_config(config) if simulation_folder(config) else THE_RUNS_OWN
    root, device, at_once = _data_root(config), _device(config), _at_once(config)
    return Node(index, root, device, guard, memory, sitting, at_once)


def on_own_terms(desk: Desk, config: NodeConfig) -> Desk:
    """The desk, with the hospital's own word on downloads in place of the server's.

    Missing files are downloaded where the node config says ``download=true``, and nowhere else. In
    a simulation the run's own option holds: the machine is that of the person who wrote it.
    """
    asked, own = getattr(desk.source, "download", None), config.get("download") is True
    if asked is None or asked == own or simulation_folder(config):
        return desk
    return replace(desk, source=replace(desk.source, download=own))  # type: ignore[type-var]


def seat_of(desk: Desk, index: int) -> Seat:
    """The public seat of hospital ``index``; ``DataError`` where the roster has none."""
    seats = desk.source.roster()
    if not 0 <= index < len(seats):
        text = f"partition-id {index} is not a hospital: the roster has 0 to {len(seats) - 1}"
        raise DataError(text)
    return seats[index]


def check_device(name: str) -> None:
    """``NodeError`` where ``name`` is no device, or none that this machine has."""
    known = DEVICE.fullmatch(name)
    if known is None:
        raise NodeError("device-missing", f"device: {name!r} is not cpu, cuda or cuda:N")
    present = torch.cuda.device_count() if name != "cpu" else 0
    if name != "cpu" and int(known["number"] or 0) >= present:
        raise NodeError(
            "device-missing",
            f"device: {name!r}: this machine has {present} CUDA devices that torch can use; "
            "name another one, or cpu",
        )


def _guard(config: NodeConfig, desk: Desk, request: Request, index: int) -> Guard:
    seed = (desk.seed, NOISE, index, request.round, desk.learner_tag)
    name = seat_of(desk, index).name
    charges = request.theta is not None and not request.episodes  # true of training requests
    return open_guard(config, desk.mechanism, request.run, name, seed, charges)


def _data_root(config: NodeConfig) -> Path | None:
    named = config.get("data-root") or os.environ.get("METAWARD_DATA")
    return Path(str(named)) if named else None


def _device(config: NodeConfig) -> str:
    named = _own(config, "device", "cpu")
    check_device(named)
    return named


def _own(config: NodeConfig, name: str, otherwise: str) -> str:
    """The hospital's own word: in its node config, else in its environment."""
    return str(config.get(name) or os.environ.get(f"METAWARD_{name.upper()}") or otherwise)


def _at_once(config: NodeConfig) -> TasksAtOnce:
    way, chunk = _own(config, "inner", AUTO.way), _own(config, "chunk", str(AUTO.chunk))
    if way not in get_args(Way):
        known = ", ".join(get_args(Way))
        raise NodeError("device-missing", f"inner: {way!r} is not one of {known}")
    if not chunk.isdecimal() or int(chunk) < 1:
        raise NodeError("device-missing", f"chunk: {chunk!r} is no number of tasks from 1 on")
    return TasksAtOnce(cast("Way", way), int(chunk))


def _memory(
    config: NodeConfig, desk: Desk, request: Request, index: int, guard: Guard
) -> Memory | None:
    """A folder for this run, hospital and desk; None where nothing is kept, as in evaluation."""
    if not desk.learner.remembers or seat_of(desk, index).role != "train":
        return None
    folder = config.get("memory") or simulation_folder(config)
    if not folder:
        raise NodeError(
            "memory-missing",
            "this run's learner keeps vectors at the hospital between rounds; name a folder of "
            'your own for them in the node config, memory="/path/to/folder", or take no part',
        )

    def sent(stub: Stub) -> bool:
        return guard.stored(RequestKey(request.run, stub.round, "train", stub.request), stub.reply)

    tag = hashlib.sha256(desk.json().encode()).hexdigest()[:16]
    return Memory(Path(str(folder)) / request.run / f"{index}-{tag}", desk.rewind, sent)
