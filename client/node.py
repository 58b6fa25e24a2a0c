"""What is the hospital's own when a request comes: it is read from its node config.

The server names no path and no device. ``partition-id`` says which hospital of the roster this is;
``policy`` and ``ledger`` are the files of ``client.guard``; ``data-root`` is the data folder (else
the environment's METAWARD_DATA); ``device`` is where it computes: cpu, cuda or cuda:N (else
METAWARD_DEVICE, else cpu).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import torch

from metaward.client.desk import Desk
from metaward.client.errors import DataError, NodeError
from metaward.client.guard import Guard, NodeConfig, open_guard
from metaward.client.tasks.base import Seat
from metaward.privacy.wire import Request

NOISE = 5  # the random stream of seeded noise, beside those of client.work
DEVICE = re.compile(r"cpu|cuda(:(?P<number>\d+))?")


@dataclass(frozen=True)
class Node:
    """One hospital's own side of a request; ``root`` None: it has no data folder."""

    index: int
    root: Path | None
    device: str
    guard: Guard


def open_node(config: NodeConfig, desk: Desk, request: Request) -> Node:
    """This node as its own configuration has it.

    ``NodeError`` where the machine lacks what is named there, ``DataError`` where the roster has no
    such hospital; ``PolicyError`` or ``LedgerError`` from the guard.
    """
    index = int(str(config["partition-id"]))
    guard = _guard(config, desk, request, index)
    return Node(index, _data_root(config), _device(config), guard)


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
    charges = request.theta is not None and not request.episodes  # as training requests are
    return open_guard(config, desk.mechanism, request.run, name, seed, charges)


def _data_root(config: NodeConfig) -> Path | None:
    named = config.get("data-root") or os.environ.get("METAWARD_DATA")
    return Path(str(named)) if named else None


def _device(config: NodeConfig) -> str:
    named = str(config.get("device") or os.environ.get("METAWARD_DEVICE") or "cpu")
    check_device(named)
    return named
