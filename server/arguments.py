"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from metaward import sim
from metaward.options import ConfigError


def _deltas(deltas: Sequence[float] | None) -> Sequence[float]:
    wrong = [delta for delta in deltas or () if not 0 < delta < 1]
    if wrong:
        text = f"{wrong[0]:g} is not between 0 and 1; choose one well below 1 / records"
        raise ConfigError([text], "--delta")
    return deltas or ()


Config = Annotated[Path, typer.Argument(help="The run's yaml file.", show_default=sim.DEFAULT.name)]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="Set a key of the file: section.key=value.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Deltas = Annotated[
    list[float] | None,
    typer.Option(
        "--delta", help="Delta at which epsilon is given; can be repeated.", callback=_deltas
    ),
]
Records = Annotated[
    int | None, typer.Option(min=1, help="Records of the smallest training hospital.")
]
Tasks = Annotated[int | None, typer.Option(min=1, help="Disjoint tasks that these records make.")]
