"""The privacy report of a run, written after every run: privacy.json and privacy.html.

Every number comes from the raw charges in the ledgers, not from what the run said about itself.
"""

from __future__ import annotations

import logging
from pathlib import Path

from pydantic import TypeAdapter

from metaward.files import replace_file
from metaward.options import ConfigError, compact
from metaward.privacy.report import promise
from metaward.privacy.report.document import PrivacyReport, concluded, to_json
from metaward.privacy.report.inputs import ReportInputs
from metaward.privacy.report.page import page
from metaward.privacy.report.sections import Audit, Evidence, ReportedRun
from metaward.privacy.report.values import Ending
from metaward.server.checkpoint import digest
from metaward.server.folder import Folder
from metaward.server.office.accounts.places import simulated
from metaward.server.office.report.accounting import accounting
from metaward.server.office.report.dossier import Dossier, clean, utc
from metaward.server.office.report.gather import from_folder, training_rows
from metaward.server.office.report.hospital import hospital
from metaward.server.office.report.mechanism import mechanism
from metaward.server.office.report.touches import beside, touches
from metaward.sim import Sim

log = logging.getLogger("metaward.server")

ENDINGS: dict[str, Ending] = {
    "finished": "finished",
    "failed": "failed",
    "interrupted": "stopped",
    "running": "running",
}


def report(dossier: Dossier) -> PrivacyReport:
    """The report that a dossier makes; ``ConfigError`` where its audit is damaged."""
    accounts = [hospital(dossier, name) for name in dossier.hospitals]
    inputs = ReportInputs(
        schema_version=1,
        run=_run(dossier),
        guarantee=promise.guarantee(dossier.run.privacy.unit, dossier.delta),
        hospitals=tuple(section for section, _ in accounts),
        mechanism=mechanism(dossier),
        accounting=accounting(dossier, accounts),
        touches=touches(dossier.run, dossier.start),
        evidence=_evidence(dossier),
        not_covered=(*promise.NOT_COVERED, *beside(dossier.run)),
    )
    return concluded(inputs)


def write(report: PrivacyReport, folder: Path, name: str = "privacy") -> tuple[Path, Path]:
    """The report for programs and for people, each whole or not at all."""
    paths = folder / f"{name}.json", folder / f"{name}.html"
    for path, text in zip(paths, (to_json(report), page(report)), strict=True):
        replace_file(path, text.encode())
    return paths


def write_finished(folder: Folder, ended: str) -> None:
    """The report of a run that has just come to its end, at the time ``ended``."""
    write(report(from_folder(folder, ended=ended)), folder.path)


def write_ended(folder: Folder) -> None:
    """The report of a run that ended badly, where records were used; its own errors are logged."""
    try:
        if _anything(folder):
            write(report(from_folder(folder)), folder.path)
    except Exception:  # what ended the run matters more
        log.exception("the privacy report of %s could not be written", folder.path)


def _anything(folder: Folder) -> bool:
    used = not folder.config().privacy.unit.protected or folder.marks().seen or simulated(folder)
    return bool(used or training_rows(folder))


def _run(dossier: Dossier) -> ReportedRun:
    run, ending = dossier.run, ENDINGS[dossier.status]
    return ReportedRun(
        name=run.name,
        id=clean(dossier.id),
        seed=run.seed,
        setting="simulation" if dossier.simulated else "deployment",
        status=ending,
        started=utc(dossier.started),
        finished=utc(dossier.since) if dossier.since and ending != "running" else None,
        rounds=dossier.rounds,
        rounds_planned=run.server.rounds,
        evaluation_hospitals=evaluated(run),
        signed_answers=dossier.signed,
    )


def evaluated(run: Sim) -> int:
    """How many hospitals give scores: those that judge the result, and those for validation."""
    roster = run.client.tasks.roster()
    return len({*run.judging(), *(seat.name for seat in roster if seat.role == "validation")})


def _evidence(dossier: Dossier) -> Evidence:
    """The configuration's fingerprint is that of result.json."""
    sha256 = digest(compact(dossier.run.mapping()).encode())
    return Evidence(_audit(dossier.audit), sha256, dossier.code[:200], dossier.bundles)


def _audit(path: Path | None) -> Audit | None:
    """What `metaward privacy audit` has left in the folder; ``ConfigError`` where it is damaged."""
    if path is None or not path.is_file():
        return None
    try:
        return TypeAdapter(Audit).validate_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        text = f"is not an audit ({error}); remove it, or make it anew: metaward privacy audit"
        raise ConfigError([text], str(path)) from error
