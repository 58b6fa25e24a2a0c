"""The privacy report of a run, written after every run: privacy.json and privacy.html.

``of_folder`` reads a result folder with the ledgers of its simulated hospitals, or ledgers that are
named beside it; ``of_ledger`` reads a hospital's own ledger and the configuration of the run. Every
number comes from the raw charges, not from what the run said about itself.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from metaward.options import ConfigError
from metaward.privacy.ledger import History, Ledger, LedgerError
from metaward.privacy.report.document import PrivacyReport, concluded, to_json
from metaward.privacy.report.inputs import ReportInputs
from metaward.privacy.report.page import page
from metaward.privacy.report.sections import ReportedRun
from metaward.server.baselines import own
from metaward.server.checkpoint import replace_file
from metaward.server.folder import Folder, now
from metaward.server.office.accounts.places import marks as marks_of
from metaward.server.office.accounts.places import simulated
from metaward.server.office.report import whole as parts
from metaward.server.office.report.case import Case, agreed_delta, clean, rounds_of, utc
from metaward.server.office.report.hospital import hospital, read
from metaward.server.office.report.sums import mechanism
from metaward.server.office.report.touches import touches
from metaward.server.version import code_version
from metaward.sim import Sim
from metaward.strategies.marks import SeenMark

log = logging.getLogger("metaward.server")

Ending = Literal["finished", "stopped", "failed", "running"]
ENDINGS: Mapping[str, Ending] = {
    "finished": "finished",
    "failed": "failed",
    "interrupted": "stopped",
    "running": "running",
}


def write(report: PrivacyReport, folder: Path, name: str = "privacy") -> tuple[Path, Path]:
    """The report for programs and for people, each whole or not at all."""
    made = folder / f"{name}.json", folder / f"{name}.html"
    for path, text in zip(made, (to_json(report), page(report)), strict=True):
        replace_file(path, text.encode())
    return made


def of_folder(folder: Folder, named: Sequence[Path] = (), ending: str = "") -> PrivacyReport:
    """The report of a result folder; ``ending`` where its status is not written yet.

    Raises:
        ConfigError: a file of the folder is damaged, or a named ledger is of no hospital here.
    """
    run, about = folder.config(), _about(folder)
    marks = tuple(marks_of(folder))
    status = ending or folder.status()[0]
    case = Case(
        run=run,
        id=about["id"],
        simulated=_is_simulated(folder, about),
        delta=agreed_delta(run),
        hospitals=_training(run),
        ledgers=_ledgers(folder, run, marks, named),
        rows=rounds_of(folder.rows()),
        marks=marks,
        finished=status == "finished",
        starts=about.get("starts", 1),
    )
    facts = _run(case, about["started"], status, now() if ending else folder.since())
    code = ", then ".join(about.get("code", ["not known"]))
    return _report(case, facts, code, folder.path / "audit.json")


def of_ledger(path: Path, run: Sim) -> PrivacyReport:
    """A hospital's own report: the newest run of ``run``'s learner in its ledger.

    Raises:
        LedgerError: it cannot be read.
        ConfigError: it holds no such run, or one with another noise.
    """
    history = Ledger.open(path).history()
    key = _newest(history, run, path)
    mine = [charge for charge in history.charges if charge.request.run == key]
    budget, last = mine[-1].budget, max(charge.request.round for charge in mine)
    case = Case(
        run=run,
        id=key.removesuffix(f".{own(run).key}"),
        simulated=history.who == "simulation",
        delta=budget.delta if budget else agreed_delta(run),
        hospitals=(history.hospital,),
        ledgers={history.hospital: path},
        finished=last >= run.server.rounds,
    )
    facts = _run(
        case, mine[0].time, "finished" if case.finished else "running", mine[-1].time, last
    )
    return _report(case, facts, code_version(), None)


def _report(case: Case, facts: ReportedRun, code: str, audit: Path | None) -> PrivacyReport:
    found = [hospital(case, name) for name in case.hospitals]
    histories = [history for path in case.ledgers.values() if (history := read(path))]
    inputs = ReportInputs(
        schema_version=1,
        run=facts,
        guarantee=parts.guarantee(case),
        hospitals=tuple(one for one, _ in found),
        mechanism=mechanism(case, histories),
        accounting=parts.accounting(case, found),
        touches=touches(case.run),
        evidence=parts.evidence(case.run, code, audit),
        not_covered=parts.gaps(case),
    )
    return concluded(inputs)


def _run(case: Case, started: str, status: str, since: str | None, rounds: int = 0) -> ReportedRun:
    ending = ENDINGS[status]
    return ReportedRun(
        name=case.run.name,
        id=clean(case.id),
        seed=case.run.seed,
        setting="simulation" if case.simulated else "deployment",
        status=ending,
        started=utc(started),
        finished=utc(since) if since and ending != "running" else None,
        rounds=max((row["round"] for row in case.rows), default=rounds),
        rounds_planned=case.run.server.rounds,
        evaluation_hospitals=sum(s.role == "unseen" for s in case.run.client.tasks.roster()),
    )


# ------------------------------------------------------------------------- after a run


def write_finished(folder: Folder) -> None:
    """The report of a run that has just come to its end."""
    write(of_folder(folder, ending="finished"), folder.path)


def write_ended(folder: Folder) -> None:
    """The report of a run that ended badly, where records were used; its own errors are logged."""
    try:
        if _anything(folder):
            write(of_folder(folder), folder.path)
    except Exception:  # what ended the run matters more
        log.exception("the privacy report of %s could not be written", folder.path)


def _anything(folder: Folder) -> bool:
    used = not folder.config().privacy.unit.protected or folder.marks().seen or simulated(folder)
    return bool(used) or bool(rounds_of(folder.rows()))


# ------------------------------------------------------------------------ what is where


def _about(folder: Folder) -> dict[str, Any]:
    try:
        found = folder.about()
        return {"id": str(found["id"]), "started": str(found["started"])} | found
    except (OSError, ValueError, KeyError) as error:
        text = f"says neither the run's name nor when it began ({error}): it is damaged"
        raise ConfigError([text], str(folder.path / "run.json")) from error


def _is_simulated(folder: Folder, about: Mapping[str, Any]) -> bool:
    guessed = folder.hospitals.is_dir() or folder.hospital_log.is_file()
    return bool(about.get("simulated", guessed))


def _training(run: Sim) -> tuple[str, ...]:
    return tuple(seat.name for seat in run.client.tasks.roster() if seat.role == "train")


def _ledgers(
    folder: Folder, run: Sim, marks: Sequence[SeenMark], named: Sequence[Path]
) -> dict[str, Path]:
    """Files by hospital: simulated ones by name, given ones by what the server saw of them."""
    place = folder.hospitals / f"{folder.id}.{own(run).key}"
    files = {name: place / f"{name}.sqlite" for name in _training(run)}
    found = {name: path for name, path in files.items() if path.is_file()}
    names = {seen.mark.ledger: seen.hospital for seen in marks}
    for path in named:
        ledger = Ledger.open(path)
        name = names.get(ledger.id, ledger.hospital)
        if name not in files:
            text = f"is the ledger of {name!r}, which is no training hospital of {folder.path}"
            raise ConfigError([text], str(path))
        found[name] = path
    return found


def _newest(history: History, run: Sim, path: Path) -> str:
    """The last run of this learner, if its noise is that of the configuration."""
    key = own(run).key
    charges = [c for c in history.charges if c.request.run.endswith(f".{key}")]
    if not charges:
        runs = ", ".join(r.run for r in history.runs()) or "none"
        text = f"holds no run of {key}; its runs: {runs}. Name the configuration of one of them"
        raise ConfigError([text], str(path))
    sigma = getattr(run.privacy, "noise_multiplier", None)
    last = [c for c in charges if c.request.run == charges[-1].request.run]
    paid = {sigma for charge in last for sigma in charge.noise_multipliers()}
    if sigma is not None and paid != {sigma}:
        text = (
            f"was charged for noise multipliers {sorted(paid)}, but the configuration has {sigma}"
        )
        raise ConfigError([f"{text}: it is not that of run {last[-1].request.run}"], str(path))
    return last[-1].request.run


__all__ = ["LedgerError", "of_folder", "of_ledger", "write", "write_ended", "write_finished"]
