"""The command ``metaward deploy``: a federation of separate processes on one machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from metaward import sim
from metaward.client.node import check_device
from metaward.errors import INTERRUPTED
from metaward.options import ConfigError
from metaward.server import body, show
from metaward.server.arguments import Config, Json, Set
from metaward.server.deploy.again import next_words
from metaward.server.deploy.layout import Site, check_policy, default_policy, refuse_names, seats
from metaward.server.deploy.up import (
    Deployment,
    check_baselines,
    check_size,
    deployment,
)
from metaward.server.engines import EngineError
from metaward.server.engines.follow import true_ending
from metaward.server.folder import Folder, claimed
from metaward.server.progress import progress
from metaward.server.terminal import say, tell

deploy = typer.Typer(help="Run a real deployment of Flower.", no_args_is_help=True)


@deploy.callback()
def group() -> None:
    """Run a real deployment of Flower: SuperLink and SuperNodes, TLS, node authentication."""


@deploy.command("up")
def up(
    local: Annotated[int, typer.Option(min=1, help="How many hospitals the configuration has.")],
    config: Config = sim.DEFAULT,
    directory: Annotated[
        Path, typer.Option("--dir", help="Folder of keys, policies, ledgers and logs.")
    ] = Path("deployment"),
    set_: Set = None,
    policy: Annotated[
        Path | None,
        typer.Option(help="The policy of each new hospital; others keep theirs."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Result folder without a run.")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the run in this result folder.")
    ] = None,
    device: Annotated[
        str,
        typer.Option(help="Device of these hospitals: cpu, cuda or cuda:N."),
    ] = "cpu",
    guard: Annotated[
        bool,
        typer.Option("--guard/--no-guard", help="Give each hospital a guard (docs/deployment.md)."),
    ] = True,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep serving after the run, until Ctrl-C.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Start a SuperLink and a SuperNode for each hospital on loopback, and carry out a run."""
    check_device(device)
    if policy is not None:
        check_policy(policy)
    site = Site(directory.expanduser().resolve(), device)
    run, folder = resumed(resume) if resume else begun(config, set_ or [], out, local, site)
    check_size(run, local)
    if not as_json:
        tell(f"starting a SuperLink and {local} SuperNodes in {site.root}")
    allowed = policy or default_policy(run)
    with told(site, folder), deployment(run, site, allowed, guard=guard) as live:
        site.remember(folder)
        with progress(folder, quiet=as_json) as observe:
            live.carry_out(run, folder, observe)
        print_result(run, folder, as_json)
        if keep:
            serve(live, run, folder)


def begun(
    config: Path, settings: list[str], out: Path | None, local: int, site: Site
) -> tuple[sim.Sim, Folder]:
    """A new run and its folder; nothing is written if the configuration is wrong."""
    run = sim.load(config, settings)
    check_size(run, local)
    check_baselines(run)
    body.check(run)
    if not run.server.seats:
        refuse_names(
            [str(site.root), *(names := [seat.name for seat in run.client.tasks.roster()])]
        )
        run = replace(run, server=replace(run.server, seats=seats(site, names)))
    return run, claimed(run, out)


def resumed(path: Path) -> tuple[sim.Sim, Folder]:
    """An interrupted or failed run with its configuration."""
    folder = Folder(path)
    if not folder.exists():
        raise ConfigError(["holds no run (no config.json)"], str(path))
    if folder.status()[0] == "finished":
        raise ConfigError(["this run is finished; there is nothing to resume"], str(path))
    return folder.config(), folder


@contextmanager
def told(site: Site, folder: Folder) -> Iterator[None]:
    """Leave the right status, and say on every failure where the logs are and how to go on."""
    try:
        with true_ending(folder):
            yield
    except KeyboardInterrupt:
        tell(f"interrupted; {further(site, folder)}")
        raise typer.Exit(INTERRUPTED) from None
    except EngineError as error:
        raise EngineError(f"{error}\n{further(site, folder)}") from error


def further(site: Site, folder: Folder) -> str:
    """Where the logs are, and how to go on with a run that has not finished."""
    logs = f"the logs of all processes are in {site.logs}"
    if folder.status()[0] == "finished":
        return f"{logs}; the run itself has finished: {folder.path}"
    return f"{logs}; go on with --resume {folder.path} when the cause is gone"


def print_result(run: sim.Sim, folder: Folder, as_json: bool) -> None:
    """Print the final table, or the result file for programs."""
    if as_json:
        print((folder.path / "result.json").read_text(encoding="utf-8"), flush=True)
    else:
        say(show.final(run, folder))


def serve(live: Deployment, run: sim.Sim, folder: Folder) -> None:
    """Say what can be done next, and wait for Ctrl-C, which is no failure here."""
    tell(
        f"The federation goes on serving; Ctrl-C ends it. "
        f"Hospitals: {', '.join(node.name for node in live.nodes)}; logs: {live.site.logs}\n"
        f"{next_words(live.site, run, folder)}"
    )
    with suppress(KeyboardInterrupt):
        live.keep()
