"""The ledgers and server's marks behind the paths that a user names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console

from metaward.options import ConfigError
from metaward.privacy.ledger import LedgerError
from metaward.server.baselines import BASELINES
from metaward.server.folder import Folder
from metaward.strategies.marks import SeenMark

FAILED = 1
DAMAGED = {"ledger-damaged", "ledger-busy"}


@dataclass(frozen=True)
class Found:
    """Ledger files, and the result folders among the paths."""

    ledgers: tuple[Path, ...]
    folders: tuple[Folder, ...]


def found(paths: Sequence[Path]) -> Found:
    """What the paths name; ``ConfigError`` where one is neither a result folder nor a file."""
    ledgers: list[Path] = []
    folders: list[Folder] = []
    for path in paths:
        folder = Folder(path)
        if path.is_dir() and folder.exists():
            folders.append(folder)
            ledgers += simulated(folder)
        elif path.is_file():
            ledgers.append(path)
        else:
            raise ConfigError([_neither(path)], str(path))
    return Found(tuple(dict.fromkeys(ledgers)), tuple(folders))


def simulated(folder: Folder) -> list[Path]:
    """The ledgers of simulated hospitals, those of the run's own learner first."""
    files = folder.hospitals.glob("*/*.sqlite")
    return sorted(files, key=lambda file: (folder.baseline(learner(file)).path.is_dir(), file))


def learner(path: Path) -> str:
    """Which learner of a simulated run a ledger served; "" for a ledger of a real hospital."""
    return path.parent.name.partition(".")[2] if path.parent.parent.name == "hospitals" else ""


def unprotected(folder: Folder) -> list[str]:
    """What was trained without any protection, as the run itself or beside it."""
    run = folder.config()
    if run.privacy.unit == "none":
        return [run.privacy.claim]
    contenders = [c for name in run.server.evaluation.baselines for c in BASELINES[name](run)]
    return [f"{c.name}: trained beside the run" for c in contenders if c.trained and not c.private]


def marks(folder: Folder) -> list[SeenMark]:
    """What the server saw of the hospitals' ledgers, for every learner of the run.

    ``ConfigError`` where a file of marks cannot be read.
    """
    seen: list[SeenMark] = []
    for place in (folder, *(folder.baseline(p.name) for p in _baselines(folder))):
        try:
            seen += place.marks().seen
        except (ValueError, KeyError, TypeError) as error:
            path = place.path / "marks.jsonl"
            raise ConfigError([f"is damaged: {error}"], str(path)) from error
    return seen


def _baselines(folder: Folder) -> list[Path]:
    return sorted(p for p in (folder.path / "baselines").glob("*") if p.is_dir())


def _neither(path: Path) -> str:
    if path.is_dir():
        return "is a folder without a run (no config.json); name a result folder or a ledger file"
    return "is not there; name a result folder or a ledger file"


@contextmanager
def plainly() -> Iterator[None]:
    """A ledger's complaint as the command's own: 2 for a wrong path, 1 for a damaged ledger."""
    try:
        yield
    except LedgerError as error:
        if error.code not in DAMAGED:
            raise ConfigError([str(error)], "ledger") from error
        text = f"failed: {error}; `metaward ledger verify` looks closer"
        Console(stderr=True, highlight=False, soft_wrap=True).print(text, style="red", markup=False)
        raise typer.Exit(FAILED) from None
