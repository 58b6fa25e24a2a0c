"""`metaward privacy report`: the report of a run again, or a hospital's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from metaward import sim
from metaward.options import ConfigError
from metaward.privacy.report.document import PrivacyReport, schema, to_json
from metaward.server.folder import Folder
from metaward.server.office import text
from metaward.server.office.accounts.places import plainly
from metaward.server.office.ledger_commands import Json
from metaward.server.office.report import write as privacy_report


def _print_schema(wanted: bool) -> None:
    if wanted:
        print(json.dumps(schema(), indent=1))
        raise typer.Exit


def report(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="A result folder, and ledgers of its hospitals if they are here; or one ledger.",
            metavar="PATH...",
        ),
    ],
    config: Annotated[
        Path | None, typer.Option(help="Of the run, for a ledger alone: yaml or config.json.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where the files go; else beside what was read.")
    ] = None,
    as_json: Json = False,
    schema_: Annotated[
        bool,
        typer.Option(
            "--schema", callback=_print_schema, is_eager=True, help="Print the JSON's schema."
        ),
    ] = False,
) -> None:
    """Write privacy.json and privacy.html: what was promised, spent, checked and not covered."""
    first, rest = paths[0], paths[1:]
    folder = Folder(first)
    with plainly():
        if folder.exists():
            made, place, name = privacy_report.of_folder(folder, rest), first, "privacy"
        else:
            made = privacy_report.of_ledger(_one(paths), sim.load(_config(first, config)))
            place, name = first.parent, f"{first.stem}.privacy"
    place = out or place
    place.mkdir(parents=True, exist_ok=True)
    written = privacy_report.write(made, place, name)
    print(to_json(made), end="") if as_json else _say(made, written)


def _one(paths: list[Path]) -> Path:
    """A single ledger file; several ledgers have no common run without their folder."""
    missing = next((path for path in paths if not path.exists()), None)
    if missing is not None:
        text_ = "is not there; name a result folder, or a ledger file and --config"
        raise ConfigError([text_], str(missing))
    if paths[0].is_dir():
        text_ = "is a folder without a run (no config.json); name a result folder or a ledger file"
        raise ConfigError([text_], str(paths[0]))
    if len(paths) > 1:
        text_ = "is the second of several ledgers; name their result folder first, or one ledger"
        raise ConfigError([text_], str(paths[1]))
    return paths[0]


def _config(ledger: Path, config: Path | None) -> Path:
    """The run's configuration; a simulated hospital's ledger lies in its run's folder."""
    places = ledger.resolve().parents
    beside = places[2] / "config.json" if len(places) > 2 else ledger
    if config is None and places[1].name == "hospitals" and beside.is_file():
        return beside
    if config is None:
        text_ = (
            "a ledger does not say by which mechanism its sums were noised: give the run's "
            "configuration, --config FILE (a yaml file, or config.json of the result folder); "
            "`metaward privacy show` tells what was spent without it"
        )
        raise ConfigError([text_], str(ledger))
    return config


def _say(made: PrivacyReport, written: tuple[Path, Path]) -> None:
    verdict = made.verdict
    lines = [f"{verdict.headline}. {verdict.sentence}", *(f"- {c}" for c in verdict.concerns)]
    lines += ["", *(str(path) for path in written)]
    text.say([Text("\n".join(lines))])


__all__ = ["report"]
