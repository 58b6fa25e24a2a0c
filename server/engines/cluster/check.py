"""Before a run on a cluster: is every machine there, with the same code and the same data?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from metaward.json_text import read_json
from metaward.options import ConfigError, compact
from metaward.sections import Data
from metaward.server.engines.cluster.address import address, check_settings
from metaward.server.engines.cluster.machine_report import (
    MachineReport,
    Surveyed,
    machine_report,
)
from metaward.sim import Sim, data_root

LAST_LINES = 5


def check(run: Sim, anew: bool = True) -> list[dict[str, Any]]:
    """The cluster's machines, each with ``address``, ``device`` and how many hospitals work there
    ``at_once``; [] for a run without a cluster.

    ``ConfigError`` where there is no such cluster, where fewer machines are there than
    ``server.flower.machines`` says (not asked of a run that goes on: ``anew`` is False), and for
    each machine that lacks code or data, or has others; it names machine and file.
    """
    where = address(run)
    if where is None:
        return []
    check_settings(run)
    found = surveyed(run, where)
    faults = [*_too_few(run, where, found, anew), *_faults(found, machine_report(_config(run)))]
    if faults:
        raise ConfigError(faults, f"the Ray cluster at {where}")
    return [
        {"address": one.address, "device": one.report["device"], "at_once": one.at_once}
        for one in found
        if one.report
    ]


def surveyed(run: Sim, where: str) -> list[Surveyed]:
    """Every machine that is there; ``ConfigError`` where the cluster cannot be reached."""
    share, own = run.server.flower, "metaward.server.engines.cluster.survey"
    question = {"address": where, "config": _config(run), "cpus": share.cpus, "gpus": share.gpus}
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": where}
    try:
        done = subprocess.run(
            [sys.executable, "-m", own],
            input=json.dumps(question),
            capture_output=True,
            text=True,
            timeout=run.server.flower.startup_timeout,
            env=os.environ | quiet,
            check=False,
        )
        answer = read_json(done.stdout or "{}")
    except subprocess.TimeoutExpired as error:
        raise _unreachable(where, f"no answer within {error.timeout:g} s") from error
    if not isinstance(answer, list):
        raise _unreachable(where, answer.get("fault") or _last_words(done.stderr))
    return [Surveyed(**one) for one in answer]


def _config(run: Sim) -> str:
    """The run as every machine reads it: ``data.root``, where it is set, is the same everywhere,
    and otherwise each machine has its own METAWARD_DATA."""
    if run.data.root:
        run = replace(run, data=Data(str(data_root(run))))
    return compact(run.mapping())


def _unreachable(where: str, why: str) -> ConfigError:
    text = (
        f"cannot be used from this machine ({why}); start it with ray start --head, join the other "
        f"machines and this one with ray start --address={where}, and see ray status"
    )
    return ConfigError([text], f"the Ray cluster at {where}")


def _last_words(log: str) -> str:
    return " ".join(log.splitlines()[-LAST_LINES:]) or "it said nothing"


def _too_few(run: Sim, where: str, found: Sequence[Surveyed], anew: bool) -> Iterator[str]:
    able = [one.address for one in found if one.at_once]
    share, wanted = run.server.flower, (run.server.flower.machines if anew else None) or 1
    if len(able) < wanted:
        yield (
            f"server.flower.machines: {wanted} machines are wanted, and {len(able)} can hold a "
            f"hospital ({', '.join(able) or 'none'}); on each that is missing: ray start "
            f"--address={where}; a hospital takes cpus: {share.cpus}, gpus: {share.gpus:g}"
        )


def _faults(found: Sequence[Surveyed], here: MachineReport) -> Iterator[str]:
    for one in found:
        if one.fault:
            yield f"machine {one.address}: {one.fault}"
        if one.report:
            yield from (
                f"machine {one.address}: {t}" for t in MachineReport(**one.report).differs(here)
            )
