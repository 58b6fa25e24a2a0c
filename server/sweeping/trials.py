"""From a sweep's file to its trials: each one a whole configuration, checked before any is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from metaward import sim
from metaward.options import ConfigError, compact
from metaward.server import body
from metaward.server.checkpoint import digest
from metaward.server.inputs import inputs_of
from metaward.server.start import check_machine
from metaward.server.sweeping.file import Sweep, load_sweep, run_file
from metaward.sim import Sim
from metaward.yaml_text import place

JUDGED = {
    "server.engine": "inprocess",
    "server.workers": 1,
    "server.metrics_port": 0,
    "server.evaluation.judges": "validation",
    "server.evaluation.baselines": [],
    "server.evaluation.scratch_steps": 0,
}
"""What every trial has: its own learner alone, judged by the hospitals for validation, and no port,
since trials run side by side."""


@dataclass(frozen=True)
class Combination:
    """One value for each varied key; ``number`` counts from 1, ``run`` is the configuration with
    these values, which is otherwise the run's own."""

    number: int
    values: Mapping[str, Any]
    run: Sim


@dataclass(frozen=True)
class SweepTrial:
    """One combination with one seed, as it is run."""

    combination: int
    seed: int
    run: Sim

    @property
    def name(self) -> str:
        """The name of the trial's folder."""
        return f"{self.combination:03d}-seed-{self.seed}"


@dataclass(frozen=True)
class SweepPlan:
    """Everything that a sweep will do; ``base`` is the run that it varies."""

    sweep: Sweep
    base: Sim
    combinations: tuple[Combination, ...]
    trials: tuple[SweepTrial, ...]

    def plain(self) -> dict[str, Any]:
        """What a folder must have been made with so that the sweep can go on in it."""
        digests = {trial.name: digest(trial.run.canonical().encode()) for trial in self.trials}
        return {"keys": list(self.sweep.varied), "trials": digests}


def planned(path: Path) -> SweepPlan:
    """Read a sweep's file and make its trials; nothing is written.

    Raises:
        ConfigError: the file or any trial's configuration has a fault, no hospital of the run is
            set aside for validation, or this machine lacks something.
    """
    sweep = load_sweep(path)
    file = run_file(sweep, path)
    mapping, base = sim.read(file), sim.load(file)
    _require_validation(base, file)
    faults: list[str] = []
    combinations = [
        Combination(number, values, run)
        for number, values in enumerate(expanded(sweep), 1)
        if (run := _built(mapping, {**sweep.set, **values}, faults)) is not None
    ]
    seeds = sweep.seeds or (base.seed,)
    if faults:
        raise ConfigError(list(dict.fromkeys(faults)), str(path))
    trials = tuple(SweepTrial(c.number, s, _judged(c.run, s)) for c in combinations for s in seeds)
    _check_machine(trials)
    return SweepPlan(sweep, base, tuple(combinations), trials)


def expanded(sweep: Sweep) -> list[dict[str, Any]]:
    """The values of the varied keys in every combination: a function of the file alone.

    Each point of the grid is taken with each draw; a combination that comes twice is taken once.
    """
    points = [dict(zip(sweep.grid, values, strict=True)) for values in product(*_grid(sweep))]
    found = [{**point, **drawn} for point in points for drawn in _draws(sweep)]
    return list({compact(values): values for values in found}.values())


def _grid(sweep: Sweep) -> Iterator[list[Any]]:
    yield from sweep.grid.values()


def _draws(sweep: Sweep) -> list[dict[str, Any]]:
    """The drawn values of each draw; a key's do not depend on the other keys."""
    search = sweep.random
    if search is None:
        return [{}]
    columns = []
    for key, draw in search.draws.items():
        generator = np.random.default_rng([search.seed, *key.encode()])
        columns.append([draw.value(generator) for _ in range(search.trials)])
    return [dict(zip(search.keys, values, strict=True)) for values in zip(*columns, strict=True)]


def _built(mapping: Any, values: Mapping[str, Any], faults: list[str]) -> Sim | None:
    """The run with these keys set; None, with lines added to ``faults``, where it has faults."""
    changed = dict(mapping)
    try:
        for key in sorted(values, key=lambda key: key.count(".")):  # whole parts before their keys
            place(changed, key, values[key])
        return sim.parse(changed)
    except ConfigError as error:
        faults += error.faults
        return None


def _judged(run: Sim, seed: int) -> Sim:
    """The run as a trial."""
    mapping = run.mapping()
    for key, value in {**JUDGED, "seed": seed}.items():
        place(mapping, key, value)
    return sim.parse(mapping)


def _require_validation(base: Sim, file: Path) -> None:
    if not any(seat.role == "validation" for seat in base.client.tasks.roster()):
        raise ConfigError(
            [
                "client.tasks.validation: no hospital is set aside for validation, and a sweep "
                "chooses by the scores of such hospitals alone; set it in this file, or in one "
                f"that says extends: {file.name}"
            ],
            str(file),
        )


def _check_machine(trials: tuple[SweepTrial, ...]) -> None:
    """What would end every trial as it starts; records are opened once, with the first seed."""
    for trial in trials:
        check_machine(trial.run)
        body.check(trial.run)
    inputs_of(trials[0].run)
