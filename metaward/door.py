"""The functions of ``import metaward``: load, plan, run, resume, open, compare and columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from metaward import sim
from metaward.options import ConfigError
from metaward.result import Result
from metaward.server.comparing.command import compared
from metaward.server.folder import Folder
from metaward.server.office.plan.advice import advised
from metaward.server.office.plan.plan import Planned
from metaward.server.office.plan.question import question
from metaward.server.run import Observer
from metaward.server.start import execute, new_folder, unfinished
from metaward.sim import Sim
from metaward.yaml_text import override, place

Source = str | Path | Mapping[str, Any] | Sim
Overrides = Mapping[str, Any] | Sequence[str]


def load(source: Source | None = None, overrides: Overrides = ()) -> Sim:
    """Read a configuration and check it as a whole.

    Args:
        source: the path of a yaml file, a mapping with the same keys, or a run that was loaded
            before; None means metaward's own sim.yaml.
        overrides: values that win over the source: a mapping {"section.key": value}, or texts
            "section.key=value" as on the command line.

    Returns:
        The run: a frozen dataclass whose fields are the sections of the file. It cannot be
        changed; to change a key, load it again with overrides.

    Raises:
        ConfigError: names every key at fault, its value, and what is allowed.
    """
    mapping, name = _mapping(source)
    if isinstance(overrides, Mapping):
        for key, value in overrides.items():
            place(mapping, key, value)
    else:
        for text in overrides:
            override(mapping, text)
    return sim.parse(mapping, name)


def plan(
    run: Sim,
    *,
    hospitals: int | None = None,
    records: int | None = None,
    tasks: int | None = None,
    patients: int | None = None,
) -> Planned:
    """What a run will cost, and whether it can work; no data is opened.

    Args:
        run: the configuration.
        hospitals: how many hospitals train; None: as many as the configuration has.
        records: how many records the smallest training hospital has; None: what the source says.
        tasks: how many disjoint tasks these make in one pass; None: as many as possible.
        patients: behind them, for unit patient; None: each record its own.

    Returns:
        The plan: ``verdict`` ("NO PRIVACY", "cannot work", "doubtful" or "can work"), ``epsilon``
        at ``delta``, the noise multiplier of each kind of sum (standard deviation of the noise over
        the clip norm), ``notes``, and ``suggestions`` of what would help.

    Raises:
        ConfigError: the configuration does not say how many records a hospital has, or the numbers
            contradict each other.
    """
    return advised(question(run, hospitals, records, tasks, patients))


def run(run: Sim, out: str | Path | None = None, observe: Observer | None = None) -> Result:
    """Meta-train on the training hospitals and judge the result on the unseen ones.

    Args:
        run: the configuration; ``server.engine`` says how it is carried out.
        out: the result folder, which must not hold a run; None: a new one under ``server.out``.
        observe: is called in this process with each new row of metrics (a dict): ``phase``
            (which learner), ``round``, ``of`` (how many), and ``loss``, ``before``, ``after`` and
            others where they are known.

    Returns:
        The result, when the run is finished.

    Raises:
        ConfigError: this machine lacks the data folder or the device.
        FolderTakenError: ``out`` holds a run, or files that a run would write over.
        RunError: too few hospitals answered, or a worker process failed; the hospitals' last log
            lines are added as notes. ``resume`` goes on from the last checkpoint.
    """
    folder = new_folder(run, Path(out) if out else None)
    execute(run, folder, observe or _ignore)
    return Result(folder.path)


def resume(path: str | Path, observe: Observer | None = None) -> Result:
    """Go on with an interrupted or failed run from its last checkpoint, bit for bit.

    Args:
        path: the result folder.
        observe: as for ``run``.

    Raises:
        ConfigError: no run is there, it is finished, or it names a part that is not registered.
        RunError: as for ``run``.
    """
    saved, folder = unfinished(Path(path))
    execute(saved, folder, observe or _ignore)
    return Result(folder.path)


def open(path: str | Path) -> Result:
    """Open the result of an earlier run.

    Args:
        path: the result folder.

    Raises:
        ConfigError: no run is there.
    """
    if not Folder(Path(path)).exists():
        raise ConfigError(["holds no run (no config.json)"], str(path))
    return Result(Path(path))


def compare(results: Sequence[str | Path], out: str | Path | None = None) -> dict[str, Any]:
    """Set runs side by side: what differs in them, and what each of them reached.

    Args:
        results: two or more result folders; runs that are not finished have no scores.
        out: a new folder for tables and a picture; None: nothing is written.

    Returns:
        ``runs`` (a dict for each), ``differing`` (key -> run -> value), and ``pairs``: paired
        differences of every two runs that were judged on the same episodes, or why not.

    Raises:
        ConfigError: fewer than two folders, or one without a run.
        FolderTakenError: ``out`` holds something.
    """
    return compared([Path(one) for one in results], Path(out) if out else None).plain()


def columns(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Turn rows into columns, the form that a plot or a data frame takes.

    Args:
        rows: mappings, for example ``Result.rounds``; a key that a row lacks becomes None.
    """
    table = list(rows)
    keys = dict.fromkeys(key for row in table for key in row)
    return {key: [row.get(key) for row in table] for key in keys}


def _mapping(source: Source | None) -> tuple[Any, str]:
    """A copy of the plain data that can be changed, and its name in error messages."""
    if isinstance(source, Sim):
        return source.mapping(), "configuration"
    if isinstance(source, Mapping):
        return dict(source), "configuration"
    path = sim.DEFAULT if source is None else Path(source)
    return sim.read(path), str(path)


def _ignore(row: Mapping[str, Any]) -> None:
    """The observer of a run that nobody observes."""
