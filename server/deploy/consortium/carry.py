"""A run at a consortium's own server: submitted to its SuperLink, and followed to its end."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from metaward import sim
from metaward.files import replace_file
from metaward.server.deploy.commands import environment, submission
from metaward.server.deploy.consortium.live import CONNECTION, ServerSite
from metaward.server.engines.follow import Trail, follow, run_config, true_ending
from metaward.server.engines.processes import Launcher
from metaward.server.engines.progress import Progress
from metaward.server.folder import Folder
from metaward.server.run import Observer


@dataclass(frozen=True)
class Carried:
    """The server that carries a run out, and the run's folder on the server's machine."""

    server: ServerSite
    folder: Folder

    def carry_out(self, run: sim.Sim, observe: Observer) -> None:
        """Submit the run and follow it; ``EngineError`` where it does not finish.

        The folder's status is right afterwards, as with every engine.
        """
        with true_ending(self.folder):
            progress = Progress(self.folder, observe)
            config = self.server.machine.state / "run.toml"
            replace_file(config, run_config(run, self.folder).encode())
            log = self.folder.path / "flower.log"
            deadline = time.monotonic() + run.server.flower.startup_timeout
            launcher = Launcher(self.server.home, environment(self.server.home), log)
            with launcher(submission(config, CONNECTION)) as stream:
                follow((stream,), Trail(self.folder, log, deadline, progress.show))


def default_config(folder: Path) -> Path:
    """The configuration that the consortium was founded with."""
    return folder / "run.yaml"
