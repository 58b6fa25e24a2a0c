"""A finished run as its result folder holds it: the configuration, and every theta that it made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from metaward.errors import InputError
from metaward.options import ConfigError
from metaward.server.baselines import BASELINES, Contender
from metaward.server.checkpoint import latest_best, latest_state
from metaward.server.folder import Folder
from metaward.sim import Sim

Vector = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Finished:
    """A finished run: its folder, its configuration, and the theta (dim,) of its own learner."""

    folder: Folder
    run: Sim
    theta: Vector

    def baselines(self) -> list[str]:
        """The baselines that can be judged: those without training, and those trained here."""
        return [name for name in BASELINES if not self.fault(name)]

    def fault(self, name: str) -> str | None:
        """Why a baseline cannot be judged; None if it can."""
        contenders = BASELINES[name](self.run)
        if not contenders:
            return "has no row in such a run"
        if any(one.trained and self.trained(one) is None for one in contenders):
            return "needs training, and was not trained in this run"
        return None

    def trained(self, contender: Contender) -> Vector | None:
        """The theta (dim,) of a baseline's training: that of its best round where rounds were
        chosen, else the last one. None where it was not trained.

        ``CheckpointError`` where its last checkpoint is damaged.
        """
        checkpoints = self.folder.baseline(contender.key).checkpoints
        config = contender.within(self.run).canonical()
        chosen = latest_best(checkpoints, config) or latest_state(checkpoints, config)
        return chosen.theta if chosen else None


def open_finished(path: Path) -> Finished:
    """The finished run in a folder; ``ConfigError`` where it cannot be judged from here."""
    folder = _finished(path)
    if not folder.about().get("simulated"):
        text = "the run was deployed: its hospitals are not on this machine, so none can be asked"
        raise ConfigError([text], str(path))
    return _opened(folder)


def open_learned(path: Path) -> Finished:
    """The finished run in a folder, simulated or deployed: what it learned needs none of its
    hospitals. ``ConfigError`` where there is no such run."""
    return _opened(_finished(path))


def _finished(path: Path) -> Folder:
    folder = Folder(path)
    if not folder.exists():
        raise ConfigError(["holds no run (no config.json)"], str(path))
    status, reason = folder.status()
    if status != "finished":
        why = f" ({reason})" if reason else ""
        text = f"the run is {status}{why}, not finished; go on with it: metaward resume {path}"
        raise ConfigError([text], str(path))
    return folder


def _opened(folder: Folder) -> Finished:
    run = folder.config()
    return Finished(folder, run, _theta(folder.path / "theta.safetensors", run))


def _theta(path: Path, run: Sim) -> Vector:
    """The own learner's theta; ``InputError`` where the file is missing or holds another one."""
    setting = run.setting()
    expected = tuple(run.client.inner.initial(setting, run.seed).shape)
    try:
        theta = np.asarray(load_file(path)["theta"], np.float32)
        if theta.shape != expected:
            raise ValueError(f"its theta has shape {theta.shape}, the run's has {expected}")
    except FileNotFoundError:
        raise InputError(f"{path} is missing; put a copy back") from None
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise InputError(f"{path} is damaged ({error}); put a copy back") from error
    return theta
