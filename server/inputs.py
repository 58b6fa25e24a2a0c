"""What a run on this machine begins with, opened before it starts and compared when it goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metaward.client.errors import DataError
from metaward.client.tasks.base import Hospital
from metaward.client.work import check_promise, open_hospital
from metaward.errors import MetawardError
from metaward.options import ConfigError
from metaward.privacy.asked import PolicyError
from metaward.sim import Sim, data_root
from metaward.strategies.proof import some

Inputs = dict[str, Any]


def inputs_of(run: Sim) -> Inputs:
    """The SHA-256 of the configuration (``config``) and of each hospital's records (``records``).

    ``ConfigError`` for records that cannot be opened, or that the guarantee says nothing about.
    Where records are made up only the first hospital's are looked at: nothing can be missing, and
    the configuration says what they are.
    """
    root, seats = data_root(run), run.client.tasks.roster()
    digests: dict[str, str] = {}
    faults: dict[str, list[str]] = {}
    for index, seat in enumerate(seats[:1] if _made_up(run) else seats):
        try:
            digests[seat.name] = _digest(_open(run, index, root))
        except (DataError, PolicyError) as error:
            faults.setdefault(str(error), []).append(seat.name)
    if faults:
        raise ConfigError([f"{some(names)}: {text}" for text, names in faults.items()])
    config = hashlib.sha256(run.canonical().encode()).hexdigest()
    return {"config": config, "records": digests}


def changes(begun: Mapping[str, Any], now: Inputs) -> list[str]:
    """What differs between the inputs in a folder's run.json and those that are here now.

    Nothing is said of what the folder does not hold, because an older version did not write it.
    """
    return list(_changes(begun, now))


def _changes(begun: Mapping[str, Any], now: Inputs) -> Iterator[str]:
    if begun.get("config", now["config"]) != now["config"]:
        yield "config.json: it is not the configuration that the run began with; put it back"
    known = begun.get("records", {})
    others = [name for name, one in now["records"].items() if known.get(name, one) != one]
    if others:
        yield (
            f"{some(others)}: the records are not those that the run began with; put the old "
            "files back, or start a new run in another folder"
        )


def _made_up(run: Sim) -> bool:
    """Whether hospitals open without a data folder."""
    try:
        _open(run, 0, None)
    except MetawardError:
        return False
    return True


def _open(run: Sim, index: int, root: Path | None) -> Hospital:
    hospital = open_hospital(run.client.tasks, index, root, run.seed)
    if hospital.seat.role == "train":
        check_promise(run.privacy, hospital)
    return hospital


def _digest(hospital: Hospital) -> str:
    """The SHA-256 of the hospital's own rows: values, labels, names and patients."""
    found = hashlib.sha256()
    for part in (hospital.x, hospital.y, hospital.ids, hospital.patients):
        found.update(np.ascontiguousarray(np.asarray(part)[hospital.rows]).tobytes())
    return found.hexdigest()
