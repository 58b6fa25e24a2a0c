"""Rows of metrics handed on to programs that draw them while a run goes on.

A new one is a function here and an entry of ``EVENTS``. Weights & Biases or MLflow need none: from
Python any function can observe a run (docs/python.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from metaward.options import ConfigError
from metaward.server.folder import Folder
from metaward.server.run import Observer
from metaward.sim import Sim

NUMBERING = ("phase", "round", "of")
"""What a row is about, beside what it says."""


@contextmanager
def tensorboard(place: Path) -> Iterator[Observer]:
    """Event files for TensorBoard in the folder ``place``: each number of a row under its phase.

    A resumed run replaces what it does again.
    """
    from torch.utils.tensorboard import SummaryWriter

    opened = ExitStack()
    writers: list[Any] = []

    def observe(row: Mapping[str, Any]) -> None:
        if not writers:
            writer = SummaryWriter(str(place), purge_step=row["round"])
            writers.append(opened.enter_context(writer))
        for name, value in numbers(row).items():
            writers[0].add_scalar(f"{row['phase']}/{name}", value, row["round"])

    with opened:
        yield observe


EVENTS: dict[str, Callable[[Path], AbstractContextManager[Observer]]] = {"tensorboard": tensorboard}


def numbers(row: Mapping[str, Any], above: str = "") -> dict[str, float]:
    """The numbers of a row of metrics by name; those of a mapping in it as ``name/key``.

    Args:
        row: as ``observe`` gets it. Its phase, its round and how many there are left out: a
            tracker takes the round as the step.
        above: what stands before each name.
    """
    found: dict[str, float] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            found |= numbers(value, f"{above}{key}/")
        elif type(value) in (int, float) and key not in NUMBERING:
            found[f"{above}{key}"] = value
    return found


def check(run: Sim) -> None:
    """``ConfigError`` where the package that a run's events need is not installed."""
    missing = [name for name in run.server.events if find_spec(name) is None]
    if missing:
        text = f"{missing[0]} is not installed: pip install 'metaward[{missing[0]}]'"
        raise ConfigError([f"server.events: {text}"])


@contextmanager
def observing(run: Sim, folder: Folder, observe: Observer) -> Iterator[Observer]:
    """``observe``, and after it everything that ``server.events`` names."""
    with ExitStack() as opened:
        others = [
            opened.enter_context(EVENTS[name](folder.path / "events" / name))
            for name in run.server.events
        ]

        def everyone(row: Mapping[str, Any]) -> None:
            for one in (observe, *others):
                one(row)

        yield everyone
