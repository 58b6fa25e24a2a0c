"""Which Ray cluster a run uses, and what the hospitals' processes on its machines are told."""

from __future__ import annotations

import json
import os
from typing import Any

from metaward.client import away
from metaward.client.desk import asked_plugins
from metaward.client.shipping import REGISTRIES
from metaward.options import ConfigError
from metaward.server.folder import Folder
from metaward.sim import Sim, data_root

ADDRESS = "RAY_ADDRESS"
JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Where Ray looks for what the processes of a job are given, as ``ray job submit`` leaves it."""


def address(run: Sim) -> str | None:
    """``host:port`` of the cluster's head: ``server.flower.cluster``, else RAY_ADDRESS, else none,
    and the run stays on this machine. None for the engines that do not use Ray."""
    if run.server.engine != "flower":
        return None
    return run.server.flower.cluster or os.environ.get(ADDRESS) or None


def check_settings(run: Sim) -> None:
    """``ConfigError`` for settings that mean nothing on several machines."""
    faults = []
    if run.server.device != "cpu":
        faults.append(
            f"server.device: {run.server.device!r} is the setting of one machine; on a cluster "
            "each machine has its own: METAWARD_DEVICE=cuda ray start ..., and here cpu"
        )
    registered = {
        f"{r.by}:{name}" for r in REGISTRIES if r.plugins for name in r.plugins.registered
    }
    if own := sorted(registered & set(asked_plugins(run.desk().json()))):
        faults.append(
            f"{', '.join(own)}: parts that a program registers stay on its own machine; on a "
            "cluster use parts of a package that is installed on every machine (docs/python.md)"
        )
    if faults:
        raise ConfigError(faults)


def driver(run: Sim, where: str, folder: Folder) -> dict[str, str]:
    """What the environment of Flower's processes says in addition, so that they join the cluster
    and tell the hospitals' processes that they simulate.

    Nothing is said of data and device, which are each machine's own, unless ``data.root`` is set:
    it then holds everywhere.
    """
    theirs: dict[str, Any] = {
        "METAWARD_SIMULATION": str(folder.hospitals.resolve()),
        "METAWARD_INNER": run.server.inner,
        "METAWARD_CHUNK": str(run.server.chunk),
        away.VARIABLE: folder.id,
        "OMP_NUM_THREADS": "1",
    }
    if run.data.root:
        theirs["METAWARD_DATA"] = str(data_root(run))
    return {
        ADDRESS: where,
        JOB: json.dumps({"runtime_env": {"env_vars": theirs}}),
        away.VARIABLE: folder.id,
    }
