"""`metaward run` and `metaward resume`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metaward import sim
from metaward.errors import INTERRUPTED
from metaward.sections import EngineName
from metaward.server import show
from metaward.server.arguments import Config, Json, Set
from metaward.server.folder import Folder
from metaward.server.progress import progress
from metaward.server.start import execute, new_folder, unfinished
from metaward.server.terminal import complain, say


def run(
    config: Config = sim.DEFAULT,
    engine: Annotated[EngineName | None, typer.Option(help="Replaces server.engine.")] = None,
    set_: Set = None,
    out: Annotated[Path | None, typer.Option(help="Result folder without a run.")] = None,
    as_json: Json = False,
) -> None:
    """Meta-train on the training hospitals and evaluate the result on the unseen ones."""
    overrides = list(set_ or []) + ([f"server.engine={engine}"] if engine else [])
    chosen = sim.load(config, overrides)
    _execute(chosen, new_folder(chosen, out), as_json)


def resume(
    folder: Annotated[Path, typer.Argument(help="The run's result folder.")], as_json: Json = False
) -> None:
    """Go on with the interrupted or failed run in FOLDER from its last checkpoint, bit for bit."""
    _execute(*unfinished(folder), as_json)


def _execute(run: sim.Sim, folder: Folder, as_json: bool) -> None:
    try:
        with progress(folder, quiet=as_json) as observe:
            execute(run, folder, observe)
    except KeyboardInterrupt:
        complain(f"interrupted; go on with: metaward resume {folder.path}")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        print((folder.path / "result.json").read_text(encoding="utf-8"))
    else:
        say(show.final(run, folder))
