"""Gathering a dossier: from a result folder and its ledgers, or from a hospital's ledger alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metaward.options import ConfigError
from metaward.privacy.ledger import Charged, History, Ledger
from metaward.server import body
from metaward.server.baselines import own
from metaward.server.folder import Folder
from metaward.server.office.accounts.places import OpenedLedger
from metaward.server.office.accounts.places import marks as marks_of
from metaward.server.office.accounts.spending import DELTA
from metaward.server.office.report.dossier import Dossier
from metaward.server.signed import signed_faults
from metaward.server.version import code_version
from metaward.sim import Sim
from metaward.strategies.marks import SeenMark


def from_folder(folder: Folder, named: Sequence[Path] = (), ended: str = "") -> Dossier:
    """That of a result folder and ledgers named beside it; ``ended`` is when the run finished,
    where the folder does not say so yet.

    Raises:
        ConfigError: the run never began, a file of the folder is damaged, or a named ledger is of
            no hospital here.
    """
    run, about, marks = folder.config(), _about(folder), tuple(marks_of(folder))
    rows, status = training_rows(folder), "finished" if ended else folder.status()[0]
    if status == "absent":
        text = f"its run never began, so nothing was used; metaward resume {folder.path} starts it"
        raise ConfigError([text], str(folder.path))
    files = _ledgers(folder, run, marks, named)
    return Dossier(
        run=run,
        id=about["id"],
        simulated=about["simulated"],
        delta=_delta(run),
        hospitals=_training(run),
        ledgers={name: OpenedLedger.open(path) for name, path in files.items()},
        status=status,
        started=about["started"],
        since=ended or folder.since(),
        rounds=max((row["round"] for row in rows), default=0),
        code=", then ".join(about["code"]),
        rows=rows,
        marks=marks,
        starts=about["starts"],
        audit=folder.path / "audit.json",
        start=body.read(folder.start) if folder.start.is_file() else None,
        signed=signed_faults(run, folder)[0] if run.server.seats else None,
        bundles=folder.bundles,
    )


def from_ledger(path: Path, run: Sim) -> Dossier:
    """A hospital's own: the newest run of ``run``'s learner in its ledger.

    Raises:
        LedgerError: it cannot be read.
        ConfigError: it holds no such run, or one under another mechanism, unit or noise.
    """
    history = Ledger.open(path).history()
    charges = _newest(history, run, path)
    first, last = charges[0], charges[-1]
    rounds = max(charge.request.round for charge in charges)
    return Dossier(
        run=run,
        id=last.request.run.removesuffix(f".{own(run).key}"),
        simulated=history.who == "simulation",
        delta=last.budget.delta if last.budget else _delta(run),
        hospitals=(history.hospital,),
        ledgers={history.hospital: OpenedLedger.open(path)},
        status="finished" if rounds >= run.server.rounds else "running",
        started=first.time,
        since=last.time,
        rounds=rounds,
        code=code_version(),
    )


def training_rows(folder: Folder) -> tuple[dict[str, Any], ...]:
    """Those lines of metrics.jsonl that tell of a training round."""
    return tuple(row for row in folder.rows() if "accepted" in row)


def _about(folder: Folder) -> dict[str, Any]:
    """run.json, with what is most likely where the run failed before its server began."""
    simulated = folder.hospitals.is_dir() or folder.hospital_log.is_file()
    likely = {"simulated": simulated, "code": ["not known"], "starts": 1}
    try:
        about = likely | folder.about()
        return about | {"id": str(about["id"]), "started": str(about["started"])}
    except (OSError, ValueError, KeyError) as error:
        text = f"says neither the run's name nor when it began ({error}): it is damaged"
        raise ConfigError([text], str(folder.path / "run.json")) from error


def _delta(run: Sim) -> float:
    """The delta that the run's promise is made at; mechanism none agrees on none."""
    return run.privacy.budget.delta if run.privacy.budget else DELTA


def _training(run: Sim) -> tuple[str, ...]:
    return tuple(seat.name for seat in run.client.tasks.roster() if seat.role == "train")


def _ledgers(
    folder: Folder, run: Sim, marks: Sequence[SeenMark], named: Sequence[Path]
) -> dict[str, Path]:
    """Files by hospital: simulated ones by name, given ones by what the server saw of them."""
    place = folder.hospitals / f"{folder.id}.{own(run).key}"
    expected = {name: place / f"{name}.sqlite" for name in _training(run)}
    files = {name: path for name, path in expected.items() if path.is_file()}
    names = {seen.mark.ledger: seen.hospital for seen in marks}
    for path in named:
        ledger = Ledger.open(path)
        name = names.get(ledger.id, ledger.hospital)
        if name not in expected:
            text = f"is the ledger of {name!r}, which is no training hospital of {folder.path}"
            raise ConfigError([text], str(path))
        files[name] = path
    return files


def _newest(history: History, run: Sim, path: Path) -> list[Charged]:
    """The charges of this learner's last run, if they are what the configuration asks for."""
    key = own(run).key
    keys = [c.request.run for c in history.charges if c.request.run.endswith(f".{key}")]
    if not keys:
        runs = ", ".join(r.run for r in history.runs()) or "none"
        text = f"holds no run of {key}; its runs: {runs}. Name the configuration of one of them"
        raise ConfigError([text], str(path))
    charges = [charge for charge in history.charges if charge.request.run == keys[-1]]
    said, sigma = charges[-1].description, getattr(run.privacy, "noise_multiplier", None)
    paid = [said.protection.mechanism, said.protection.unit, *sorted(set(said.noise.values()))]
    asked = [run.privacy.name, run.privacy.unit.name, *(paid[2:] if sigma is None else [sigma])]
    if paid != asked:
        text = (
            f"was charged for mechanism, unit and noise multipliers {paid}, but the configuration "
            f"has {asked}: it is not that of run {keys[-1]}"
        )
        raise ConfigError([text], str(path))
    return charges
