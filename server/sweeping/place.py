"""The folder of a sweep: who may work in it, and what lies where.

plan.json           the keys that are varied, and the SHA-256 of every trial's configuration
configs/NAME.yaml   the configuration of a trial
trials/NAME/        its result folder; NAME.log beside it is what its process printed
sweep.json          the table; sweep.md the same for people; sweep.png the score over each key
best.yaml           the configuration of the best combination
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from filelock import FileLock, Timeout

from metaward.files import replace_file
from metaward.options import ConfigError
from metaward.server.folder import BusyError, Folder, FolderTakenError
from metaward.server.stored import stored
from metaward.server.sweeping.trials import SweepPlan, SweepTrial
from metaward.sim import Sim

LOCK, PLAN = ".lock", "plan.json"
BEFORE_PLAN = (LOCK, f".{PLAN}.writing")
"""What a sweep that was killed early can have left."""


@dataclass(frozen=True)
class SweepPlace:
    """The folder ``path`` of one sweep."""

    path: Path

    @contextmanager
    def claimed(self, plan: SweepPlan) -> Iterator[None]:
        """Work in the folder, new or left by the same sweep; no other process can meanwhile.

        Raises:
            BusyError: another sweep is working in it.
            FolderTakenError: it holds another sweep, or files of somebody else.
            ConfigError: it cannot be written.
        """
        self._require_ours()
        _make(self.path)
        try:
            with FileLock(self.path / LOCK, timeout=0):
                self._begin(plan)
                yield
        except Timeout as error:
            text = f"{self.path}: another sweep is working in this folder; name another with --out"
            raise BusyError(text) from error

    def trial(self, trial: SweepTrial) -> Folder:
        """The result folder of a trial."""
        return Folder(self.path / "trials" / trial.name)

    def log(self, trial: SweepTrial) -> Path:
        """What a trial's process printed."""
        return self.path / "trials" / f"{trial.name}.log"

    def config(self, trial: SweepTrial) -> Path:
        """The yaml file of a trial."""
        return self.path / "configs" / f"{trial.name}.yaml"

    def _begin(self, plan: SweepPlan) -> None:
        known = self.path / PLAN
        if not known.is_file():
            self._require_ours()
            replace_file(known, (json.dumps(plan.plain(), indent=1) + "\n").encode())
        elif stored(known) != plan.plain():
            raise FolderTakenError(
                f"{self.path} holds a sweep with other trials (plan.json), so the file or its run "
                "has changed since; name another folder with --out"
            )
        for name in ("configs", "trials"):
            (self.path / name).mkdir(exist_ok=True)
        for trial in plan.trials:
            replace_file(self.config(trial), as_yaml(trial.run))

    def _require_ours(self) -> None:
        """``FolderTakenError`` where the folder holds something and no sweep."""
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise FolderTakenError(f"{self.path} is a file; name a folder with --out")
        foreign = [p.name for p in self.path.iterdir() if p.name not in BEFORE_PLAN]
        if foreign and PLAN not in foreign:
            raise FolderTakenError(f"{self.path} holds {min(foreign)} and no sweep; name a new one")


def as_yaml(run: Sim) -> bytes:
    """The whole configuration as a yaml file that ``metaward run`` takes."""
    return yaml.safe_dump(run.mapping(), sort_keys=False, allow_unicode=True).encode()


def _make(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        text = f"cannot be written ({error.strerror or error}); name another folder with --out"
        raise ConfigError([text], str(path)) from error
