"""`metaward privacy report`: the report of a run again, or a hospital's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from metaward import sim
from metaward.options import ConfigError
from metaward.privacy.report.document import PrivacyReport, schema, to_json
from metaward.server.arguments import Json
from metaward.server.folder import Folder
from metaward.server.office.accounts.places import ledgers_of, result_folder, simulated
from metaward.server.office.report.gather import from_folder, from_ledger
from metaward.server.office.report.write import report as report_of
from metaward.server.office.report.write import write
from metaward.server.terminal import line, say

UNCONFIGURED = (
    "a ledger does not say how records were prepared and what was learned: give the run's "
    "configuration, --config FILE (a yaml file, or config.json of the result folder); `metaward "
    "privacy show` tells what was spent without it"
)


def _print_schema(wanted: bool) -> None:
    if wanted:
        print(json.dumps(schema(), indent=1))
        raise typer.Exit


def report(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Name a result folder, and its hospitals' ledgers if you have any; or one ledger.",
            metavar="PATH...",
        ),
    ],
    config: Annotated[
        Path | None,
        typer.Option(help="A ledger alone needs the run's configuration: yaml or config.json."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write into this folder instead of beside what was read.")
    ] = None,
    as_json: Json = False,
    schema_: Annotated[
        bool,
        typer.Option(
            "--schema", callback=_print_schema, is_eager=True, help="Print the schema of the JSON."
        ),
    ] = False,
) -> None:
    """Write privacy.json and privacy.html: what was promised, spent, checked and not covered."""
    first, rest = paths[0], paths[1:]
    folder = result_folder(first, "a result folder, or a ledger file and --config")
    if rest and not folder:
        text = "is the second of several ledgers; name their result folder first, or one ledger"
        raise ConfigError([text], str(rest[0]))
    if folder:
        named = rest or trained_here(folder)
        dossier, place, name = from_folder(folder, named), first, "privacy"
    else:
        dossier = from_ledger(first, sim.load(_config(first, config)))
        place, name = first.parent, f"{first.stem}.privacy"
    made = report_of(dossier)
    place = out or place
    place.mkdir(parents=True, exist_ok=True)
    written = write(made, place, name)
    print(to_json(made), end="") if as_json else _say(made, written)


def _config(ledger: Path, config: Path | None) -> Path:
    """The run's configuration; a simulated hospital's ledger lies in its run's folder."""
    if config is not None:
        return config
    above = ledger.resolve().parents
    if len(above) > 2 and above[1].name == "hospitals" and (above[2] / "config.json").is_file():
        return above[2] / "config.json"
    raise ConfigError([UNCONFIGURED], str(ledger))


def trained_here(folder: Folder) -> list[Path]:
    """The ledgers of training hospitals of a deployment on this machine."""
    roster = folder.config().client.tasks.roster()
    names = {seat.name for seat in roster if seat.role == "train"}
    here = [] if simulated(folder) else ledgers_of(folder)
    return [path for path in here if path.parent.name in names]


def _say(made: PrivacyReport, written: tuple[Path, Path]) -> None:
    verdict = made.verdict
    concerns = (f"- {concern}" for concern in verdict.concerns)
    say(*map(line, (f"{verdict.headline}. {verdict.sentence}", *concerns, "", *map(str, written))))
