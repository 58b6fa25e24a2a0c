"""Ledgers and the server's marks, from the paths that a user names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from metaward.options import ConfigError
from metaward.privacy.event import Mark
from metaward.privacy.ledger import History, Ledger, LedgerError, verify
from metaward.server.baselines import opponents
from metaward.server.folder import Folder
from metaward.server.office.accounts.site import WANTED, within
from metaward.strategies.marks import SeenMark


@dataclass(frozen=True)
class OpenedLedger:
    """A ledger's faults and content; ``ledger`` and ``history`` are None where it is unreadable."""

    path: Path
    faults: tuple[str, ...]
    ledger: Ledger | None
    history: History | None

    @staticmethod
    def open(path: Path) -> OpenedLedger:
        """Check all of the ledger at ``path`` and read what can be read."""
        faults = tuple(verify(path))
        try:
            ledger = Ledger.open(path)
            return OpenedLedger(path, faults, ledger, ledger.history())
        except (LedgerError, KeyError, TypeError, ValueError):  # rows that no ledger writes
            return OpenedLedger(path, faults or ("it cannot be read",), None, None)

    def holds(self, mark: Mark) -> bool:
        """Whether the ledger still holds the entry that the server saw."""
        try:
            return self.ledger is not None and self.ledger.holds(mark)
        except LedgerError:
            return False


@dataclass(frozen=True)
class Places:
    """Ledger files, and the result folders among the paths."""

    ledgers: tuple[Path, ...]
    folders: tuple[Folder, ...]


def places(paths: Sequence[Path]) -> Places:
    """What the paths name: result folders, ledger files, or folders of a site in which such lie.

    ``ConfigError`` where one is nothing of the kind; it says where was looked.
    """
    ledgers: dict[Path, Path] = {}
    runs: dict[Path, Folder] = {}
    for path in paths:
        files, folders = _at(path)
        runs |= {run.path.resolve(): run for run in folders}
        files += [file for run in folders for file in ledgers_of(run)]
        ledgers |= {file.resolve(): file for file in files}
    return Places(tuple(ledgers.values()), tuple(runs.values()))


def _at(path: Path) -> tuple[list[Path], list[Folder]]:
    """The ledger files and the runs at a path."""
    if Folder(path).exists():
        return [], [Folder(path)]
    if path.is_dir():
        return within(path)
    if not path.is_file():
        raise ConfigError([f"is not there; name {WANTED}"], str(path))
    return [path], []


def result_folder(path: Path, otherwise: str) -> Folder | None:
    """The result folder at the path; None for a file.

    ``ConfigError`` where it is neither; ``otherwise`` says what may be named.
    """
    folder = Folder(path)
    if folder.exists():
        return folder
    if path.is_file():
        return None
    fault = "is a folder without a run (no config.json)" if path.is_dir() else "is not there"
    raise ConfigError([f"{fault}; name {otherwise}"], str(path))


def simulated(folder: Folder) -> list[Path]:
    """The ledgers of simulated hospitals, those of the run's own learner first."""
    files = folder.hospitals.glob("*/*.sqlite")
    return sorted(files, key=lambda file: (folder.baseline(learner(file)).path.is_dir(), file))


def ledgers_of(folder: Folder) -> list[Path]:
    """The ledgers of a run's hospitals that are on this machine: simulated ones, or those of the
    deployment here (``metaward deploy up --local``) that carried it out."""
    if found := simulated(folder):
        return found
    site = folder.about().get("deployment")
    return sorted(Path(site).glob("hospitals/*/ledger.sqlite")) if site else []


def learner(path: Path) -> str:
    """Which learner of a simulated run a ledger served; "" for a ledger of a real hospital."""
    return path.parent.name.partition(".")[2] if path.parent.parent.name == "hospitals" else ""


def unprotected(folder: Folder) -> list[str]:
    """What was trained without protection: the run itself, or baselines beside it."""
    run = folder.config()
    if not run.privacy.unit.protected:
        return [run.privacy.claim]
    return [
        f"{baseline.name}: trained beside the run"
        for baseline in opponents(run)
        if baseline.trained and not baseline.private
    ]


def all_marks(folder: Folder) -> list[SeenMark]:
    """What the server saw of the hospitals' ledgers, for every learner of the run."""
    baselines = sorted(p.name for p in (folder.path / "baselines").glob("*") if p.is_dir())
    return [seen for f in (folder, *map(folder.baseline, baselines)) for seen in marks(f)]


def marks(folder: Folder) -> list[SeenMark]:
    """What the server saw for one learner; ``ConfigError`` where the file cannot be read."""
    return folder.marks().seen
