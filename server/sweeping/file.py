"""The type of a sweep's yaml file, and its reader: which keys of which run are varied, and how."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from metaward.client.desk import Positive, Seed
from metaward.options import ConfigError, build, show
from metaward.sections import Natural
from metaward.server.sweeping.draws import DRAW, Draw
from metaward.server.sweeping.keys import key_faults
from metaward.sim import HERE, shipped
from metaward.yaml_text import read_yaml


@dataclass(frozen=True)
class RandomSearch:
    """Values of several keys that are drawn together."""

    trials: Positive
    """How many draws there are; each one goes with every point of the grid."""
    keys: Annotated[Mapping[str, Any], Field(min_length=1)]
    """section.key: {draw: uniform, log_uniform, integer or choice, with its options}."""
    seed: Natural = 0
    """Which draws: the same seed gives the same values, and more trials begin with them."""

    def __post_init__(self) -> None:
        faults: list[str] = []
        for key, given in self.keys.items():
            DRAW.build(given, f"keys.{key}", faults)
        if faults:
            raise ValueError("; ".join(faults))

    @property
    def draws(self) -> dict[str, Draw]:
        """How each key is drawn."""
        return {key: DRAW.build(given, key, []) for key, given in self.keys.items()}


@dataclass(frozen=True)
class Sweep:
    """A whole and valid sweep file."""

    run: Annotated[str, Field(min_length=1)]
    """The configuration that is varied: a yaml file, relative to this one."""
    set: Mapping[str, Any] = field(default_factory=dict)
    """section.key: the value that it has in all trials."""
    grid: Mapping[str, Any] = field(default_factory=dict)
    """section.key: [values]; every value is tried with every value of the other keys."""
    random: RandomSearch | None = None
    """Keys whose values are drawn; null: none."""
    seeds: tuple[Seed, ...] = ()
    """Each combination is run with each of these seeds; none: with the run's own."""
    jobs: Positive = 2
    """Trials at a time, one core each."""

    def __post_init__(self) -> None:
        faults = list(_faults(self))
        if faults:
            raise ValueError("; ".join(faults))

    @property
    def varied(self) -> tuple[str, ...]:
        """The keys that differ between trials, in the order of the file."""
        return (*self.grid, *(self.random.keys if self.random else ()))


def load_sweep(path: Path) -> Sweep:
    """Read a sweep's yaml file; ``ConfigError`` names every fault."""
    path = shipped(path)
    if not path.is_file():
        raise ConfigError(["no such file; name a sweep's yaml file"], str(path))
    faults: list[str] = []
    sweep: Sweep | None = build(Sweep, read_yaml(path.read_bytes(), str(path)), "", faults)
    if sweep is None:
        raise ConfigError(faults, str(path))
    return sweep


def run_file(sweep: Sweep, path: Path) -> Path:
    """The yaml file of the run that the sweep in ``path`` varies; the repository's own files are
    found from everywhere, as by ``extends``."""
    beside = shipped(path).parent / sweep.run
    return next((p for p in (beside, HERE / sweep.run) if p.is_file()), beside)


def _faults(sweep: Sweep) -> Iterator[str]:
    if not sweep.varied:
        yield "grid: nothing is varied; name a key in grid or in random.keys"
    keys = (*sweep.set, *sweep.varied)
    twice = [key for key in dict.fromkeys(keys) if keys.count(key) > 1]
    yield from (f"{key}: is named more than once among set, grid and random" for key in twice)
    yield from key_faults(dict.fromkeys(keys))
    for key, values in sweep.grid.items():
        if not isinstance(values, list) or not values:
            yield f"grid.{key}: {show(values)} is refused: must be a list of values, as in [a, b]"
        elif any(value in values[:place] for place, value in enumerate(values)):
            yield f"grid.{key}: {show(values)} is refused: a value is there twice"
    if len(set(sweep.seeds)) < len(sweep.seeds):
        yield f"seeds: {show(list(sweep.seeds))} is refused: a seed is there twice"
