"""`metaward tasks show` and `metaward phantom`: the records of hospitals, shown and written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from metaward import sim
from metaward.client.tasks.phantom import Phantom
from metaward.client.tasks.phantom_files import write_phantom
from metaward.options import ConfigError
from metaward.server import show
from metaward.server.arguments import Config, Json, Set
from metaward.server.terminal import say

tasks = typer.Typer(help="Show the records that hospitals hold.", no_args_is_help=True)


@tasks.command("show")
def tasks_show(config: Config = sim.DEFAULT, set_: Set = None, as_json: Json = False) -> None:
    """Print what each hospital holds: role, records, patients, classes, scanner."""
    chosen = sim.load(config, set_ or [])
    rows = show.holdings(chosen)
    print(json.dumps(rows, indent=1)) if as_json else say(show.holdings_table(rows))


def phantom(
    directory: Annotated[Path, typer.Argument(help="The folder for the files.")],
    config: Annotated[
        Path,
        typer.Option(help="A yaml file whose source is phantom.", show_default=sim.DEFAULT.name),
    ] = sim.DEFAULT,
    set_: Set = None,
    overwrite: Annotated[bool, typer.Option(help="Replace files that differ.")] = False,
    as_json: Json = False,
) -> None:
    """Write the phantom hospitals' images to DIRECTORY as .npz files in MedMNIST's layout."""
    chosen = sim.load(config, set_ or [])
    source = chosen.client.tasks
    if not isinstance(source, Phantom):
        raise ConfigError(["client.tasks.source: must be phantom for this command"], str(config))
    paths = [str(p) for p in write_phantom(directory, source, chosen.seed, overwrite=overwrite)]
    print(json.dumps(paths) if as_json else "\n".join(paths))
