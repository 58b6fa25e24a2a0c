"""The commands by which a consortium is founded, changed and run: ``metaward deploy init``, ..."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from metaward import sim
from metaward.options import ConfigError
from metaward.privacy.signing import read_public_key
from metaward.server import body
from metaward.server.arguments import Config, Json, Set
from metaward.server.deploy.command import print_result
from metaward.server.deploy.command import resumed as _resumed
from metaward.server.deploy.consortium import office as actions
from metaward.server.deploy.consortium.bundled import bundle_hash
from metaward.server.deploy.consortium.carry import Carried, default_config
from metaward.server.deploy.consortium.live import ServerSite
from metaward.server.deploy.consortium.members import Consortium, Ports, read_consortium
from metaward.server.deploy.consortium.places import Office
from metaward.server.deploy.up import check_baselines
from metaward.server.folder import Folder as Result
from metaward.server.folder import claimed
from metaward.server.progress import progress
from metaward.server.terminal import answer, line, table, tell
from metaward.server.version import code_version

Folder = Annotated[Path, typer.Argument(help="The consortium's folder.", metavar="DIR")]
Name = Annotated[str, typer.Argument(help="The hospital.", metavar="NAME")]


def init(
    folder: Folder,
    config: Config = sim.DEFAULT,
    set_: Set = None,
    host: Annotated[
        list[str] | None,
        typer.Option(help="A name or address of the server; the first is the one hospitals use."),
    ] = None,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="The port that hospitals reach.")
    ] = Ports().outside,
    prefix: Annotated[
        Path, typer.Option(help="On every machine, the folder above etc/ and var/.")
    ] = Path("/"),
    programs: Annotated[
        Path, typer.Option(help="On every machine, the folder of the installed commands.")
    ] = Path("/opt/metaward/bin"),
    guard: Annotated[
        bool,
        typer.Option("--guard/--no-guard", help="Give each hospital a guard (docs/deployment.md)."),
    ] = True,
) -> None:
    """Found a consortium: keys and certificates, and a parcel for the server and every hospital."""
    if not host:
        raise ConfigError(["name the server as hospitals reach it: --host links.example.org"])
    run = sim.load(config, set_ or [])
    founded = Consortium(
        run.name, tuple(host), Ports(port), str(prefix), str(programs), guard=guard
    )
    made = actions.found(_office(folder), run, founded)
    tell(
        f"{folder} is the office of {made.name}: keep it off the network, for its keys let "
        "hospitals in\n"
        f"parcels/server.tar.gz goes to the server, parcels/NAME.tar.gz to each of "
        f"{len(made.members)} hospitals, by a channel that nobody else reads\n"
        f"next: metaward deploy approve {folder}"
    )


def add(folder: Folder, config: Config = sim.DEFAULT, set_: Set = None) -> None:
    """Let in the hospitals that a configuration has after those of the consortium."""
    _, new = actions.add(_office(folder), sim.load(config, set_ or []))
    names = ", ".join(new) or "nobody; all its hospitals are in already"
    tell(f"new: {names}\nnext: metaward deploy register {folder}")


def renew(
    folder: Folder,
    name: Annotated[
        str | None, typer.Argument(help="The hospital whose keys are made anew.", metavar="NAME")
    ] = None,
    server: Annotated[
        bool, typer.Option("--server", help="Make the server's certificate anew.")
    ] = False,
    host: Annotated[
        list[str] | None, typer.Option(help="With --server: other names and addresses.")
    ] = None,
    node_key: Annotated[
        Path | None, typer.Option(help="Public half of a SuperNode key that the hospital made.")
    ] = None,
    seat_key: Annotated[
        Path | None, typer.Option(help="Public half of a signing key that the hospital made.")
    ] = None,
) -> None:
    """New keys for a hospital, whose old ones count no longer, or a new server certificate."""
    if server == (name is not None):
        raise ConfigError(["name either a hospital or --server"])
    if server:
        actions.renew_server(_office(folder), host or ())
        tell("parcels/server.tar.gz has the new certificate; install it and reload the gate")
        return
    if (node_key is None) != (seat_key is None):
        raise ConfigError(["--node-key and --seat-key go together"])
    own = [_public(path) for path in (node_key, seat_key) if path is not None]
    if own:
        _check_seat_key(own[1], seat_key)
    actions.renew(_office(folder), str(name), *own)
    tell(f"parcels/{name}.tar.gz is new; next, at the server: metaward deploy register {folder}")


def revoke(folder: Folder, name: Name) -> None:
    """Turn a hospital out: its keys count no longer."""
    actions.revoke(_office(folder), name)
    tell(f"{name} is out; next, at the server: metaward deploy register {folder}")


def approve(
    folder: Folder,
    sha256: Annotated[
        str | None, typer.Option(help="The bundle's SHA-256; else that of this checkout.")
    ] = None,
    withdraw: Annotated[
        str | None, typer.Option(help="Take the bundle with this SHA-256 off the list.")
    ] = None,
) -> None:
    """Sign a bundle of code, so that hospitals run it; read the code before."""
    office = _office(folder)
    if withdraw:
        actions.withdraw(office, withdraw)
        tell(f"{withdraw} is off {office.bundles}; give the file to every hospital")
        return
    found = sha256 or bundle_hash()
    actions.approve(office, found, code_version())
    tell(f"{found} is on {office.bundles}; give the file to every hospital")


def register(folder: Folder) -> None:
    """At the server: let in the keys that count, and turn out all others."""
    with tempfile.TemporaryDirectory(prefix="metaward-") as keys:
        new, gone = ServerSite(read_consortium(folder)).register(Path(keys))
    tell(f"let in: {', '.join(new) or 'nobody new'}; keys turned out: {gone}")


def status(folder: Folder, as_json: Json = False) -> None:
    """At the server: which hospitals are there, and since when."""
    nodes = ServerSite(read_consortium(folder)).nodes()
    rows = [(node.name, node.status, node.since) for node in nodes]
    there = sum(node.status == "online" for node in nodes)
    summary = f"{there} of {len(nodes)} hospitals are there"
    answer(nodes, [table(["hospital", "SuperNode", "since"], rows), line(summary)], as_json)


def carry_out(
    folder: Folder,
    config: Annotated[
        Path | None, typer.Option(help="The run's yaml file; else the consortium's run.yaml.")
    ] = None,
    set_: Set = None,
    out: Annotated[Path | None, typer.Option(help="Result folder without a run.")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the run in this result folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """At the server: carry out a run with the consortium's hospitals, and follow it."""
    server = ServerSite(read_consortium(folder))
    run, result = _resumed(resume) if resume else _begun(server, folder, config, set_ or [], out)
    with progress(result, quiet=as_json) as observe:
        Carried(server, result).carry_out(run, observe)
    print_result(run, result, as_json)


def _begun(
    server: ServerSite, folder: Path, config: Path | None, settings: list[str], out: Path | None
) -> tuple[sim.Sim, Result]:
    """A new run of the consortium's hospitals; nothing is written if the configuration is wrong."""
    seats = json.dumps(server.consortium.seats(), ensure_ascii=False)
    run = sim.load(config or default_config(folder), [*settings, f"server.seats={seats}"])
    names = [seat.name for seat in run.client.tasks.roster()]
    ours = [member.name for member in server.consortium.members]
    if names != ours:
        text = f"its hospitals are {', '.join(names[:10])}; the consortium's {', '.join(ours[:10])}"
        raise ConfigError([text], str(config or default_config(folder)))
    check_baselines(run)
    body.check(run)
    return run, claimed(run, out)


def _office(folder: Path) -> Office:
    return Office(folder.expanduser().resolve())


def _check_seat_key(text: str, path: Path | None) -> None:
    try:
        read_public_key(text)
    except ValueError as error:
        raise ConfigError([str(error)], str(path)) from error


def _public(path: Path) -> str:
    if not path.is_file():
        raise ConfigError(["no such file"], str(path))
    return " ".join(path.read_text(encoding="utf-8").split()[:2])
