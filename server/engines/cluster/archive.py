"""The files of simulated hospitals on the machine of the run, for hospitals on other machines."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metaward.client import away
from metaward.client.away import Luggage
from metaward.privacy.ledger.file import key_path
from metaward.server.engines.follow import EngineError
from metaward.server.folder import Folder

POLL_SECONDS = 0.1


class Archive:
    """The folder of a run's hospitals (``folder``), whose ``names`` are in the order of the roster,
    and the log of what they say (``log``).

    Ray calls one method at a time.
    """

    def __init__(self, folder: str, names: Sequence[str], log: str) -> None:
        self.folder, self.names, self.log = Path(folder), names, Path(log)

    def fetch(self, run: str, index: int) -> Luggage:
        """What hospital ``index`` has in a run (``folder.id`` and the learner); {} at first."""
        folder, ledger = self.folder / run, self.folder / run / f"{self.names[index]}.sqlite"
        return away.packed(folder, ledger, key_path(ledger), *folder.glob(f"{index}-*"))

    def put(self, run: str, index: int, before: str, after: Luggage) -> bool:
        """Write what the hospital has now; False, and nothing is written, where it no longer has
        what it took away (by the digest ``before``)."""
        if away.digest(self.fetch(run, index)) != before:
            return False
        away.unpack(after, self.folder / run)
        return True

    def note(self, line: str) -> None:
        """Add a line to the hospitals' log."""
        with self.log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


@contextmanager
def at_the_run(folder: Folder, names: Sequence[str], seconds: float) -> Iterator[None]:
    """An archive on this machine, by the name that the hospitals' environment gives it.

    ``EngineError`` where Flower has not joined the cluster within so many seconds.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    deadline = time.monotonic() + seconds
    while not ray.is_initialized():  # by Flower, in another thread of this process
        if time.monotonic() > deadline:
            raise EngineError(f"Flower did not join the Ray cluster within {seconds:g} s")
        time.sleep(POLL_SECONDS)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    name = away.NAME.format(folder.id)
    made = ray.remote(Archive).options(name=name, num_cpus=0, scheduling_strategy=here)
    archive: Any = made.remote(
        str(folder.hospitals.resolve()), names, str(folder.hospital_log.resolve())
    )
    ray.get(archive.__ray_ready__.remote())
    try:
        yield
    finally:
        ray.kill(archive)
