"""`metaward sweep`: settings compared at the hospitals for validation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from metaward.errors import FAILED, INTERRUPTED
from metaward.options import ConfigError
from metaward.server.arguments import Json
from metaward.server.sweeping.carry import carry_out, finished, last_line
from metaward.server.sweeping.outcome import SweepOutcome, outcome_of
from metaward.server.sweeping.place import SweepPlace
from metaward.server.sweeping.text import pieces
from metaward.server.sweeping.trials import SweepPlan, SweepTrial, planned
from metaward.server.sweeping.write import BEST, write_sweep
from metaward.server.terminal import answer, complain, safe, tell


def sweep(
    file: Annotated[Path, typer.Argument(help="The sweep's yaml file.", metavar="SWEEP")],
    jobs: Annotated[int | None, typer.Option(help="Trials at a time; replaces jobs.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="The sweep's folder; one that was begun goes on.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare settings by trials that the hospitals for validation judge, and name the best."""
    if jobs is not None and jobs < 1:
        raise ConfigError([f"{jobs} is refused: allowed is 1 or more"], "--jobs")
    plan = planned(file)
    place = SweepPlace(out or Path(plan.base.server.out) / f"sweep-{file.stem}")
    try:
        found = swept(plan, place, jobs or plan.sweep.jobs, _quiet if as_json else tell)
    except KeyboardInterrupt:
        complain(f"interrupted; go on with: metaward sweep {file} --out {place.path}")
        raise typer.Exit(INTERRUPTED) from None
    answer(found.plain(), list(pieces(found, place.path / BEST)), as_json)
    if found.failed:
        complain(f"failed: {len(found.failed)} of {len(plan.trials)} trials have no result")
        raise typer.Exit(FAILED)


def swept(
    plan: SweepPlan, place: SweepPlace, jobs: int, say: Callable[[str], None]
) -> SweepOutcome:
    """Carry out what is missing of a sweep, write its files, and return what it found.

    Raises:
        BusyError: another sweep is working in the folder.
        FolderTakenError: the folder holds something else.
    """
    total, ended = len(plan.trials), sum(finished(place, trial) for trial in plan.trials)

    def note(trial: SweepTrial) -> None:
        nonlocal ended
        ended += 1
        how = "finished" if finished(place, trial) else f"FAILED: {last_line(place, trial)}"
        say(safe(f"{ended} of {total}: {trial.name} {how}"))

    with place.claimed(plan):
        say(f"{total} trials in {place.path}, of which {ended} are finished")
        carry_out(plan.trials, place, jobs, note)
        found = outcome_of(plan, place)
        write_sweep(found, place)
    return found


def _quiet(text: str) -> None:
    """Says nothing."""
