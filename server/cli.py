"""The command `metaward`."""

from __future__ import annotations

import io
import json
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import click
import typer

from metaward import sim
from metaward.client.tasks.phantom import Phantom
from metaward.client.tasks.phantom_files import write_phantom
from metaward.errors import BAD_INPUT, INTERRUPTED, MetawardError
from metaward.options import ConfigError
from metaward.sections import EngineName
from metaward.server import show
from metaward.server.adapting.command import adapt, predict
from metaward.server.arguments import Config, Json, Set
from metaward.server.comparing.command import compare
from metaward.server.data import data
from metaward.server.deploy.command import deploy
from metaward.server.evaluations.command import WithLists, evaluate
from metaward.server.folder import Folder
from metaward.server.office.commands import ledger, privacy
from metaward.server.page.command import report
from metaward.server.progress import progress
from metaward.server.start import execute, new_folder, unfinished
from metaward.server.sweeping.command import sweep
from metaward.server.terminal import complain, say
from metaward.server.tree import tree
from metaward.server.version import code_version

cli = typer.Typer(
    help="Federated meta-learning for hospitals.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    suggest_commands=False,  # click suggests them already
)
tasks = typer.Typer(help="Show the records that hospitals hold.", no_args_is_help=True)


def _say_version(wanted: bool) -> None:
    if wanted:
        print(code_version())
        raise typer.Exit


@cli.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Federated meta-learning for hospitals."""


@cli.command()
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


@cli.command()
def resume(
    folder: Annotated[Path, typer.Argument(help="The run's result folder.")], as_json: Json = False
) -> None:
    """Go on with the interrupted or failed run in FOLDER from its last checkpoint, bit for bit."""
    _execute(*unfinished(folder), as_json)


@tasks.command("show")
def tasks_show(config: Config = sim.DEFAULT, set_: Set = None, as_json: Json = False) -> None:
    """Print what each hospital holds: role, records, patients, classes, scanner."""
    chosen = sim.load(config, set_ or [])
    rows = show.holdings(chosen)
    print(json.dumps(rows, indent=1)) if as_json else say(show.holdings_table(rows))


@cli.command()
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


cli.command()(report)
cli.command(cls=WithLists)(evaluate)
cli.command()(compare)
cli.command()(sweep)
cli.command()(adapt)
cli.command()(predict)
for name, group in {
    "tasks": tasks,
    "data": data,
    "privacy": privacy,
    "ledger": ledger,
    "deploy": deploy,
}.items():
    cli.add_typer(group, name=name)


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


def main() -> NoReturn:
    """Run the command, with an exit code for programs.

    0: it finished; 1: it failed, for the reason printed; 2: bad input, nothing was started; 130: it
    was interrupted.
    """
    for ending in (signal.SIGTERM, signal.SIGHUP):  # as schedulers and closed terminals end it
        if signal.getsignal(ending) is signal.SIG_DFL:  # nohup asks for something else
            signal.signal(ending, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):  # a name that it cannot spell loses no finished run
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = tree(cli)(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except MetawardError as error:
        for note in getattr(error, "__notes__", ()):
            complain(note)
        complain(f"{'error' if error.exit_code == BAD_INPUT else 'failed'}: {error}")
        sys.exit(error.exit_code)
    sys.exit(code)
