"""`metaward privacy audit`: attack a run's own mechanism and compare with what it claims."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metaward import sim
from metaward.client.audit import SECONDS, audit_run
from metaward.errors import FAILED
from metaward.json_text import plain_value
from metaward.options import ConfigError
from metaward.privacy.audit import AuditReport
from metaward.privacy.noise import SystemNoise
from metaward.privacy.report.sections import Audit
from metaward.server.arguments import Json, Records, Set, Tasks
from metaward.server.folder import Folder, now
from metaward.server.office.accounts.places import result_folder
from metaward.server.office.audit import text
from metaward.server.office.plan.question import another_mechanism, question
from metaward.server.office.report.dossier import utc
from metaward.server.office.report.gather import from_folder
from metaward.server.office.report.write import report as report_of
from metaward.server.office.report.write import write
from metaward.server.terminal import answer
from metaward.sim import Sim


def audit(
    path: Annotated[
        Path, typer.Argument(help="Name the run's yaml file or its result folder.", metavar="PATH")
    ] = sim.DEFAULT,
    set_: Set = None,
    records: Records = None,
    tasks: Tasks = None,
    seconds: Annotated[
        float,
        typer.Option(
            min=1, max=86400, help="Give the attack this many seconds; its checks come on top."
        ),
    ] = SECONDS,
    seed: Annotated[
        int, typer.Option(min=0, help="Make the records up from this seed; the noise has none.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Attack the mechanism on made-up records; a lower bound on what it gives away, and checks.

    No hospital's data are opened. In a result folder the outcome is kept for the privacy report.
    """
    folder = result_folder(path, "a yaml file or a result folder")
    if folder and set_:
        over = "cannot change a run that is over; name a yaml file to audit other settings"
        raise ConfigError([over], "--set")
    run = folder.config() if folder else sim.load(path, set_ or [])
    times = participations(run, records, tasks)
    try:
        report = audit_run(
            run.desk(), lambda _: SystemNoise(), times, seed, seconds, run.server.device
        )
    except ValueError as error:
        raise ConfigError([f"{error}"], str(path)) from error
    kept = keep(folder, report) if folder else ()
    answer(report, text.audited(report, run, times, kept), as_json)
    if not report.sound:
        raise typer.Exit(FAILED)


def participations(run: Sim, records: int | None, tasks: int | None) -> int:
    """In how many rounds a unit takes part, as the plan has it.

    In every one where neither the configuration nor the caller says how many records there are:
    that is the most, and needs the most noise.
    """
    if not run.privacy.unit.protected:
        nothing = f"none protects nothing, so there is nothing to attack; {another_mechanism()}"
        raise ConfigError([nothing], "privacy.mechanism")
    if (records, tasks, run.client.tasks.declared_records()) == (None, None, None):
        return run.server.rounds
    return question(run, None, records, tasks).first_round()[1]


def keep(folder: Folder, report: AuditReport) -> tuple[Path, ...]:
    """Leave ``audit.json`` in the folder, as the report reads it, and write the report anew."""
    faults = tuple(fault.text for fault in report.faults)
    kept = Audit(utc(now()), report.mu_lower, report.claimed_mu, report.confidence, faults)
    folder.write_json("audit.json", plain_value(kept))
    written = write(report_of(from_folder(folder)), folder.path)
    return (folder.path / "audit.json", *written)
