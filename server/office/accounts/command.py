"""`metaward privacy show | verify` and `metaward ledger init | show | verify`: what was spent."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from metaward.errors import FAILED
from metaward.options import ConfigError
from metaward.privacy.ledger import Ledger
from metaward.privacy.ledger import verify as faults_of
from metaward.privacy.ledger.file import key_path
from metaward.server.arguments import Deltas, Json
from metaward.server.office.accounts import text
from metaward.server.office.accounts.account import account
from metaward.server.office.accounts.check import check
from metaward.server.office.accounts.places import places, unprotected
from metaward.server.terminal import answer

ledger = typer.Typer(help="The hospital's ledger of every use of a record.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="The ledger's file.", metavar="PATH")]
Paths = Annotated[
    list[Path],
    typer.Argument(
        help="Result folders, ledger files, or folders of a deployment.", metavar="PATH..."
    ),
]


class Another(StrEnum):
    """Libraries whose accountants can be asked beside our own."""

    opacus = "opacus"


NO_LEDGER = (
    "no ledger here: in a deployment ledgers lie at the hospitals (/var/lib/metaward/ledger.sqlite "
    "there, unless their node config names another file), so look at each hospital, or name copies "
    "of the files beside the folder; a simulated hospital makes one at its first charge"
)


def show(paths: Paths, delta: Deltas = None, as_json: Json = False) -> None:
    """Print what every hospital has spent and has left, at any delta."""
    named = places(paths)
    accounts = [account(path, delta or ()) for path in named.ledgers]
    warnings = [warning for folder in named.folders for warning in unprotected(folder)]
    if not accounts and not warnings:
        raise ConfigError([NO_LEDGER], ", ".join(map(str, paths)))
    bundles = list(dict.fromkeys(sha for folder in named.folders for sha in folder.bundles))
    content = {"unprotected": warnings, "hospitals": accounts, "bundles": bundles}
    answer(content, text.spending(accounts, warnings, bundles), as_json)


def verify(
    paths: Paths,
    delta: Deltas = None,
    accountant: Annotated[
        Another | None,
        typer.Option(help="Recompute epsilon by this library's own accountants as well."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check chains, budgets and the server's marks; recompute epsilon by a second accountant."""
    checked = check(places(paths), delta or (), opacus=accountant is Another.opacus)
    answer(checked, text.checked(checked), as_json)
    if checked.faults:
        raise typer.Exit(FAILED)


@ledger.command("init")
def ledger_init(
    path: File,
    hospital: Annotated[str, typer.Option(help="The name of the hospital that it is of.")],
    as_json: Json = False,
) -> None:
    """Make a new ledger and its key, once in the hospital's life; none is ever overwritten."""
    try:
        made = Ledger.create(path, hospital)
    except ValueError as error:
        raise ConfigError([str(error)], "--hospital") from error
    file = path.resolve()
    content = {"ledger": made.id, "hospital": hospital, "path": str(file)}
    content["key"] = str(key_path(file))
    answer(content, text.made(**content), as_json)


@ledger.command("show")
def ledger_show(path: File, delta: Deltas = None, as_json: Json = False) -> None:
    """Print what the ledger holds: runs, units, spend, what is left, refusals; no identities."""
    its_account = account(path, delta or ())
    answer(its_account, text.ledger(its_account), as_json)


@ledger.command("verify")
def ledger_verify(path: File, as_json: Json = False) -> None:
    """Check every hash and every table; exit code 1 where anything is wrong."""
    if not path.is_file():
        Ledger.open(path)  # says what is missing, and what to do
    faults = faults_of(path)
    entries = None if faults else Ledger.open(path).mark().sequence
    content = {"path": str(path), "entries": entries, "faults": faults}
    answer(content, text.verified(path, entries, faults), as_json)
    if faults:
        raise typer.Exit(FAILED)
