"""`metaward data`: what a hospital's own folder holds, and a folder to start from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer

from metaward import sim
from metaward.client.errors import DataError
from metaward.client.schedule import deal
from metaward.client.tasks.folder import OwnFiles
from metaward.errors import BAD_INPUT
from metaward.options import ConfigError
from metaward.server.arguments import Json
from metaward.server.example import write_example
from metaward.server.terminal import BAD, FAINT, GOOD, Piece, answer, line, table
from metaward.sim import Sim

data = typer.Typer(
    help="A hospital's own files: check them, or write an example.", no_args_is_help=True
)
Form = Literal["images", "table", "arrays", "physionet"]
"""The names of ``FORMS``."""
RUN = "run.yaml"


@dataclass(frozen=True)
class Holding:
    """What one hospital's folder holds: ``tasks`` are the disjoint ones that its records make,
    ``left_out`` says what became no record and why, and ``fault`` what is wrong, with file and
    line."""

    hospital: str
    role: str
    records: int = 0
    patients: int = 0
    classes: str = ""
    tasks: int = 0
    left_out: str = ""
    fault: str | None = None


@data.command()
def check(
    directory: Annotated[Path, typer.Argument(help="A hospital's folder, or one that holds all.")],
    config: Annotated[
        Path | None,
        typer.Option(help="The run's yaml file; else run.yaml in DIRECTORY, or beside it."),
    ] = None,
    hospital: Annotated[
        str | None, typer.Option(help="DIRECTORY is that of this hospital alone.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read what hospitals hold, and say what is wrong in which file and line. Nothing is sent."""
    file = config or beside(directory)
    if not config and file.parent != directory:
        hospital = hospital or directory.resolve().name
    found = list(checked(sim.load(file), directory, hospital))
    answer(found, [*_shown(found), *_next(found, file)], as_json)
    if any(one.fault for one in found):
        raise typer.Exit(BAD_INPUT)


@data.command()
def example(
    directory: Annotated[Path, typer.Argument(help="A new folder.")],
    form: Annotated[Form, typer.Option(help="The kind of records.")] = "images",
) -> None:
    """Write four made-up hospitals and a run.yaml into DIRECTORY; print what to type next."""
    file = write_example(directory, form)
    print(f"metaward data check {directory}\nmetaward run {file}")


def beside(directory: Path) -> Path:
    """The yaml file that goes with a folder: in it, or beside it where it is one hospital's own.

    ``ConfigError`` where there is none.
    """
    places = [directory / RUN, directory.resolve().parent / RUN]
    if directory.is_file():
        raise ConfigError(
            [f"is a file; name the folder that holds it: {directory.parent}"], str(directory)
        )
    if not directory.is_dir():
        raise ConfigError(["no such folder"], str(directory))
    for place in places:
        if place.is_file():
            return place
    raise ConfigError(
        [f"holds no {RUN}, and there is none beside it; name the run's yaml file with --config"],
        str(directory),
    )


def checked(run: Sim, directory: Path, hospital: str | None) -> Iterator[Holding]:
    """Each hospital of the roster, or the one named; ``ConfigError`` where the source reads no
    folder, or the roster has no such hospital."""
    source = run.client.tasks
    if not isinstance(source, OwnFiles):
        raise ConfigError(["client.tasks.source: must be folder for this command"])
    names = [seat.name for seat in source.roster()]
    if hospital is not None and hospital not in names:
        raise ConfigError([f"{hospital!r} is no hospital of the run: {', '.join(names)}"])
    for index, name in enumerate(names):
        if hospital in (None, name):
            yield _checked(run, source, index, directory)


def _checked(run: Sim, source: OwnFiles, index: int, directory: Path) -> Holding:
    seat = source.roster()[index]
    try:
        found = source.hospital(index, directory, run.seed)
    except DataError as error:
        return Holding(seat.name, seat.role, fault=str(error))
    tasks = deal(found, run.privacy.unit, np.random.default_rng(run.seed))
    return Holding(
        seat.name,
        seat.role,
        len(found.rows),
        len(np.unique(found.patients)),
        found.note["of each class"],
        len(tasks),
        found.note.get("left out", ""),
    )


def _next(found: list[Holding], file: Path) -> list[Piece]:
    """The plan to type next, with the records of the smallest training hospital, where all train
    and none is wrong."""
    records = [one.records for one in found if one.role == "train"]
    if not records or len(found) == 1 or any(one.fault for one in found):
        return []
    return [line(f"next: metaward privacy plan {file} --records {min(records)}", FAINT)]


def _shown(found: list[Holding]) -> list[Piece]:
    """A line for each hospital; below them, unbroken, what was left out and what is wrong."""
    columns = ("hospital", "role", "records", "patients", "of each class", "tasks", "")
    rows = [
        (
            *(one.hospital, one.role, one.records, one.patients, one.classes, one.tasks),
            line("wrong", BAD) if one.fault else line("in order", GOOD),
        )
        for one in found
    ]
    lacking = [line(f"{one.hospital}: left out: {one.left_out}") for one in found if one.left_out]
    faults = [line(f"{one.hospital}: {one.fault}", BAD) for one in found if one.fault]
    return [table(columns, rows, right=("records", "patients", "tasks")), *lacking, *faults]
