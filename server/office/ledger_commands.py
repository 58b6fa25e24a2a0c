"""`metaward ledger init | show | verify`: the hospital's own file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from metaward.options import ConfigError
from metaward.privacy.ledger import Ledger, verify
from metaward.privacy.ledger.file import key_path
from metaward.privacy.report.values import plain_value
from metaward.server.office import text
from metaward.server.office.accounts.account import account, check_deltas
from metaward.server.office.accounts.places import FAILED, plainly

ledger = typer.Typer(help="The hospital's ledger of every use of a record.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="The ledger's file.", metavar="PATH")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Deltas = Annotated[
    list[float] | None, typer.Option("--delta", help="Where epsilon is read off; may be repeated.")
]


@ledger.command()
def init(
    path: File,
    hospital: Annotated[str, typer.Option(help="The name of the hospital that it is of.")],
    as_json: Json = False,
) -> None:
    """Make a new ledger and its key, once in the hospital's life; none is ever overwritten."""
    with plainly():
        try:
            made = Ledger.create(path, hospital)
        except ValueError as error:
            raise ConfigError([str(error)], "--hospital") from error
    facts = {
        "ledger": made.id,
        "hospital": hospital,
        "path": str(path.resolve()),
        "key": str(key_path(path.resolve())),
    }
    print(json.dumps(facts, indent=1) if as_json else text.made(facts))


@ledger.command("show")
def show_(path: File, delta: Deltas = None, as_json: Json = False) -> None:
    """Print what the ledger holds: runs, units, spend, what is left, refusals; no identities."""
    check_deltas(delta or ())
    with plainly():
        found = account(path, delta or ())
    if as_json:
        print(json.dumps(plain_value(found), indent=1))
    else:
        text.say(text.ledger(found))


@ledger.command("verify")
def verify_(path: File, as_json: Json = False) -> None:
    """Check every hash and every table; exit code 1 where anything is wrong."""
    with plainly():
        if not path.is_file():
            Ledger.open(path)  # says what is missing, and what to do
    faults = verify(path)
    entries = None if faults else Ledger.open(path).mark().sequence
    if as_json:
        print(json.dumps({"path": str(path), "entries": entries, "faults": faults}, indent=1))
    else:
        text.say(text.verified(path, entries, faults))
    if faults:
        raise typer.Exit(FAILED)
