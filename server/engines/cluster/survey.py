"""Has every machine of a Ray cluster looked at. A program of its own, since Ray keeps the process
that it was once started in. As a script:

    python -m metaward.server.engines.cluster.survey < QUESTION > ANSWER

The question is JSON: ``address``, ``config`` (a whole configuration as text), ``cpus`` and ``gpus``
of one hospital. The answer is JSON: a list of ``Surveyed``, or ``{"fault": text}``.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from metaward.json_text import read_json
from metaward.server.engines.cluster.machine_report import Surveyed

LOOK_SECONDS = 300.0
"""The longest that one machine may take to read its data."""


def survey(address: str, config: str, cpus: float, gpus: float) -> list[Surveyed]:
    """Ask all machines at once; ``ConnectionError`` or Ray's own errors without a cluster."""
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}  # as Flower gives its workers
    ray.init(
        address, runtime_env={"env_vars": paths}, log_to_driver=False, logging_level=logging.ERROR
    )
    known: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    nodes = [node for node in known if node["Alive"]]
    nodes.sort(key=lambda node: str(node["NodeManagerAddress"]))
    asked = [
        _asked(node["NodeID"], config, gpus) if _fits(node, cpus, gpus) else None for node in nodes
    ]
    return [
        _surveyed(node["NodeManagerAddress"], _fits(node, cpus, gpus), one)
        for node, one in zip(nodes, asked, strict=True)
    ]


def _fits(node: Mapping[str, Any], cpus: float, gpus: float) -> int:
    """How many hospitals a machine holds, as Flower counts them."""
    has = node["Resources"]
    count = int(has.get("CPU", 0) / cpus)
    return min(count, int(has.get("GPU", 0) / gpus)) if gpus else count


def _asked(node: str, config: str, gpus: float) -> Any:
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    task = ray.remote(_looker()).options(
        num_cpus=0, num_gpus=gpus, scheduling_strategy=there, max_retries=0
    )
    return task.remote(config)


def _looker() -> Callable[[str], dict[str, Any]]:
    """A function that travels by value, so that a machine without metaward can say so."""

    def look(config: str) -> dict[str, Any]:
        from dataclasses import asdict

        try:
            from metaward.server.engines.cluster.machine_report import machine_report
        except ImportError as error:
            return {"missing": f"{type(error).__name__}: {error}"}
        return asdict(machine_report(config))

    return look


def _surveyed(address: str, at_once: int, asked: Any) -> Surveyed:
    if asked is None:
        return Surveyed(address, 0)
    try:
        found = ray.get(asked, timeout=LOOK_SECONDS)
    except Exception as error:  # Ray has dozens: the machine went away, its worker died, ...
        return Surveyed(address, at_once, None, f"{type(error).__name__}: {error}")
    if "missing" in found:
        return Surveyed(address, at_once, None, f"metaward cannot be imported ({found['missing']})")
    return Surveyed(address, at_once, found)


def main() -> None:
    """Answer the question on standard input; whatever Ray prints goes to standard error."""
    answer, question = os.dup(1), read_json(sys.stdin.read())
    os.dup2(2, 1)
    try:
        found: Any = [asdict(one) for one in survey(**question)]
    except Exception as error:  # the other program tells it to the user
        found = {"fault": f"{type(error).__name__}: {error}"}
    with os.fdopen(answer, "w", encoding="utf-8") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main()
