"""`metaward privacy plan | show | verify | audit | report`: before a run, during it, and after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from metaward import sim
from metaward.options import ConfigError
from metaward.privacy.report.values import plain_value
from metaward.server.office import text
from metaward.server.office.accounts.account import account, check_deltas
from metaward.server.office.accounts.check import check
from metaward.server.office.accounts.places import FAILED, found, plainly, unprotected
from metaward.server.office.audit.command import audit
from metaward.server.office.ledger_commands import Deltas, Json
from metaward.server.office.plan.advice import advised
from metaward.server.office.plan.plan import question
from metaward.server.office.report.command import report

privacy = typer.Typer(help="What privacy costs, has cost, and whether it is so.")
privacy.command()(audit)
privacy.command()(report)

Paths = Annotated[
    list[Path], typer.Argument(help="Result folders or ledger files.", metavar="PATH...")
]
NO_BUDGET = (
    "mechanism none has no budget; choose another with --set privacy.mechanism=record (or patient, "
    "task, hospital) --set client.schedule=passes"
)
NO_PATIENTS = (
    "missing: under mechanism patient the signal is that of the patients, however many records "
    "each has; give --patients N, those of the smallest training hospital (`metaward tasks show` "
    "counts them where the data lies)"
)


@privacy.command()
def plan(
    config: Annotated[Path, typer.Argument(help="The run's yaml file.")] = sim.DEFAULT,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value, wins over the file.")
    ] = None,
    epsilon: Annotated[float | None, typer.Option(help="Instead of privacy.epsilon.")] = None,
    delta: Annotated[float | None, typer.Option(help="Instead of privacy.delta.")] = None,
    records: Annotated[
        int | None, typer.Option(min=1, help="Records of the smallest training hospital.")
    ] = None,
    tasks: Annotated[
        int | None, typer.Option(min=1, help="Disjoint tasks that its records make.")
    ] = None,
    hospitals: Annotated[int | None, typer.Option(min=1, help="Training hospitals.")] = None,
    patients: Annotated[
        int | None, typer.Option(min=1, help="Patients of the smallest training hospital.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Before a run: its noise, its epsilon, and whether it can work at all. Opens no data."""
    run = _planned_run(config, set_ or [], {"epsilon": epsilon, "delta": delta})
    if run.privacy.unit == "patient" and patients is None:
        raise ConfigError([NO_PATIENTS], "--patients")
    found = advised(question(run, hospitals, records, tasks, patients))
    if as_json:
        print(json.dumps(plain_value(found), indent=1))
    else:
        text.say(text.plan(found))


@privacy.command("show")
def show_(paths: Paths, delta: Deltas = None, as_json: Json = False) -> None:
    """Print what every hospital has spent and has left, at any delta."""
    check_deltas(delta or ())
    there = found(paths)
    with plainly():
        accounts = [account(path, delta or ()) for path in there.ledgers]
    warnings = [warning for folder in there.folders for warning in unprotected(folder)]
    if not accounts and not warnings:
        raise ConfigError(
            [
                "no ledger here: in a deployment ledgers lie at the hospitals, name their files; "
                "a simulated hospital makes one at its first charge"
            ],
            ", ".join(map(str, paths)),
        )
    if as_json:
        facts = {"unprotected": warnings, "hospitals": plain_value(tuple(accounts))}
        print(json.dumps(facts, indent=1))
    else:
        text.say(text.spending(accounts, warnings))


@privacy.command()
def verify(paths: Paths, delta: Deltas = None, as_json: Json = False) -> None:
    """Check chains, budgets and the server's marks; recompute epsilon by a second accountant."""
    check_deltas(delta or ())
    with plainly():
        done = check(found(paths), delta or ())
    if as_json:
        facts = plain_value(done) | {"accounts": plain_value(tuple(done.accounts))}
        print(json.dumps(facts, indent=1))
    else:
        text.say(text.checked(done))
    if done.faults:
        raise typer.Exit(FAILED)


def _planned_run(config: Path, overrides: list[str], asked: dict[str, float | None]) -> sim.Sim:
    """The configuration; ``--epsilon`` and ``--delta`` are settings of its mechanism."""
    given = {key: value for key, value in asked.items() if value is not None}
    run = sim.load(config, overrides)
    if run.privacy.unit == "none" and given:
        raise ConfigError([NO_BUDGET], f"--{next(iter(given))}")
    return sim.load(config, [*overrides, *(f"privacy.{k}={v!r}" for k, v in given.items())])
