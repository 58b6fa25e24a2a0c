"""Runs and ledgers in the folders of a site, wherever its own settings say that they lie.

A user names a folder at hand: that of ``metaward deploy up --local``, ``/etc/metaward`` of a
hospital or a server, what changes there (``/var/lib/metaward``), or a folder of results.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from metaward.json_text import read_json
from metaward.options import ConfigError
from metaward.server.folder import Folder
from metaward.yaml_text import read_yaml

RUNS = "runs.jsonl"
"""The file in which a deployment on one machine writes down its result folders."""
LEDGERS = ("ledger.sqlite", "hospitals/*/ledger.sqlite")
RESULTS = ("*/config.json", "results/*/config.json")
WANTED = "a result folder, a ledger file, or the folder of a deployment"


def within(path: Path) -> tuple[list[Path], list[Folder]]:
    """The ledger files and the runs in a folder, and in those that its settings name.

    ``ConfigError`` where there are none; it says where they were looked for.
    """
    ledgers, runs, looked = dict[Path, None](), dict[Path, Folder](), list[Path]()
    for place in (path, *_named_by(path)):
        looked.append(place)
        ledgers |= dict.fromkeys(_listed(place, LEDGERS))
        runs |= {one.parent.resolve(): Folder(one.parent) for one in _listed(place, RESULTS)}
    runs |= {run.path.resolve(): run for run in map(Folder, _noted(path / RUNS)) if run.exists()}
    if not ledgers and not runs:
        places = " and ".join(map(str, looked))
        text = f"no run (config.json) and no ledger ({' or '.join(LEDGERS)}) is in {places}"
        raise ConfigError([f"{text}; name {WANTED}"], str(path))
    return list(ledgers), list(runs.values())


def _named_by(path: Path) -> Iterator[Path]:
    """Where the settings of a hospital (gate.yaml) or a server (consortium.yaml) have the rest."""
    gate, consortium = _settings(path / "gate.yaml"), _settings(path / "consortium.yaml")
    if "folder" in gate:  # that of the gate, beside the ledger
        yield (path / str(gate["folder"])).parent
    if "prefix" in consortium:
        yield Path(str(consortium["prefix"])) / "var" / "lib" / "metaward"


def _settings(path: Path) -> dict[str, Any]:
    said = read_yaml(path.read_bytes(), str(path)) if path.is_file() else {}
    return said if isinstance(said, dict) else {}


def _listed(place: Path, patterns: tuple[str, ...]) -> list[Path]:
    """The files in a folder; ``ConfigError`` where nobody but its owner may look into it."""
    try:
        if place.is_dir():
            list(place.iterdir())  # a search leaves out what it may not see, without a word
        return sorted(file for pattern in patterns for file in place.glob(pattern))
    except PermissionError as error:
        text = f"cannot be looked into ({error.strerror}); run this as its owner"
        raise ConfigError([text], str(place)) from error


def _noted(path: Path) -> Iterator[Path]:
    """The result folders that are written down; a line that a crash cut short names none."""
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            said = read_json(line)
        except ValueError:
            continue
        if isinstance(said, dict) and isinstance(said.get("result"), str):
            yield Path(said["result"])
