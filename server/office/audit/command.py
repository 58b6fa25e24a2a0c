"""`metaward privacy audit`: attack a run's own mechanism and compare with what it claims."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from metaward import sim
from metaward.client.audit import SECONDS, audit_run
from metaward.options import ConfigError
from metaward.privacy.audit import AuditReport
from metaward.privacy.noise import SystemNoise
from metaward.privacy.report.values import plain_value
from metaward.server.folder import Folder, now
from metaward.server.office import text
from metaward.server.office.accounts.places import FAILED, plainly
from metaward.server.office.audit import text as audit_text
from metaward.server.office.plan.plan import first_share, question
from metaward.server.office.report import write as privacy_report
from metaward.server.office.report.case import utc
from metaward.sim import Sim

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def audit(
    path: Annotated[
        Path, typer.Argument(help="The run's yaml file, or its result folder.", metavar="PATH")
    ] = sim.DEFAULT,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value, wins over the file.")
    ] = None,
    records: Annotated[
        int | None, typer.Option(min=1, help="Records of the smallest training hospital.")
    ] = None,
    tasks: Annotated[
        int | None, typer.Option(min=1, help="Disjoint tasks that its records make.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=1, max=86400, help="For the attack; its checks come on top.")
    ] = SECONDS,
    seed: Annotated[int, typer.Option(min=0, help="Of made-up records, not of the noise.")] = 0,
    as_json: Json = False,
) -> None:
    """Attack the mechanism on made-up records; a lower bound on what it gives away, and checks.

    No hospital's data are opened. In a result folder the outcome is kept for the privacy report.
    """
    folder = Folder(path)
    run = _run(path, folder, set_ or [])
    times = participations(run, records, tasks)
    try:
        found = audit_run(
            run.desk(), lambda _: SystemNoise(), times, seed, seconds, run.server.device
        )
    except ValueError as error:
        raise ConfigError([f"{error}"], str(path)) from error
    kept = keep(folder, found) if folder.exists() else ()
    if as_json:
        print(json.dumps(plain_value(found), indent=1))
    else:
        text.say(audit_text.audited(found, run, times, kept))
    if not found.sound:
        raise typer.Exit(FAILED)


def participations(run: Sim, records: int | None, tasks: int | None) -> int:
    """In how many rounds a unit takes part, as the plan has it.

    In every one where neither the configuration nor the caller says how many records there are:
    that is the most, and needs the most noise.
    """
    if run.privacy.unit == "none":
        raise ConfigError([audit_text.NOTHING], "privacy.mechanism")
    if (records, tasks, run.client.tasks.declared_records()) == (None, None, None):
        return run.server.rounds
    return first_share(question(run, None, records, tasks)).participations


def keep(folder: Folder, found: AuditReport) -> tuple[Path, ...]:
    """Leave ``audit.json`` in the folder, as the report reads it, and write the report anew."""
    facts: dict[str, Any] = {
        "at": utc(now()),
        "mu_lower": found.mu_lower,
        "mu_claimed": found.claimed_mu,
        "confidence": found.confidence,
        "faults": [fault.text for fault in found.faults],
    }
    folder.write_json("audit.json", plain_value(facts))
    with plainly():
        written = privacy_report.write(privacy_report.of_folder(folder), folder.path)
    return (folder.path / "audit.json", *written)


def _run(path: Path, folder: Folder, overrides: list[str]) -> Sim:
    if not path.is_dir():
        return sim.load(path, overrides)
    if not folder.exists():
        words = "is a folder without a run (no config.json); name a yaml file or a result folder"
        raise ConfigError([words], str(path))
    if overrides:
        words = "cannot change a run that is over; name a yaml file to audit other settings"
        raise ConfigError([words], "--set")
    return folder.config()


__all__ = ["audit"]
