"""Carrying out trials: each one is a process of its own, as a user would start it."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from metaward.server.engines.processes import Launcher, Process
from metaward.server.folder import Folder
from metaward.server.sweeping.place import SweepPlace
from metaward.server.sweeping.trials import SweepTrial

COMMAND = [sys.executable, "-P", "-m", "metaward"]
POLL_SECONDS, ENDING_SECONDS = 0.05, 10.0
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

Ended = Callable[[SweepTrial], None]


def carry_out(trials: Sequence[SweepTrial], place: SweepPlace, jobs: int, ended: Ended) -> None:
    """Run what is not finished, ``jobs`` trials at a time; ``ended`` is told of each that ends.

    A trial that fails stops no other. When this function is left by an exception, such as that of
    Ctrl-C, or the process is killed, the trials' processes are ended as well.
    """
    waiting = [trial for trial in trials if not finished(place, trial)]
    with ExitStack() as everything:
        running: dict[Process, tuple[SweepTrial, ExitStack]] = {}
        while waiting or running:
            while waiting and len(running) < jobs:
                trial, own = waiting.pop(0), everything.enter_context(ExitStack())
                running[own.enter_context(_started(place, trial))] = trial, own
            time.sleep(POLL_SECONDS)
            for process in [one for one in running if one.poll() is not None]:
                trial, own = running.pop(process)
                own.close()
                ended(trial)


def finished(place: SweepPlace, trial: SweepTrial) -> bool:
    """Whether the trial has a result."""
    return place.trial(trial).status()[0] == "finished"


def last_line(place: SweepPlace, trial: SweepTrial) -> str:
    """The last thing that the process of a trial printed: for one that failed, the reason."""
    path = place.log(trial)
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "its process was killed before it said anything"


@contextmanager
def _started(place: SweepPlace, trial: SweepTrial) -> Iterator[Process]:
    """The process of a trial that begins or goes on, with everything that it starts."""
    folder = place.trial(trial)
    _await_end(folder)
    if folder.path.is_dir() and not folder.exists():
        shutil.rmtree(folder.path)  # its process was killed while it made the folder
    begin = ["run", str(place.config(trial)), "--out", str(folder.path)]
    words = ["resume", str(folder.path)] if folder.exists() else begin
    launcher = Launcher(Path.cwd(), _environment(os.environ), place.log(trial))
    with launcher([*COMMAND, *words]) as process:
        yield process


def _await_end(folder: Folder) -> None:
    """Wait until the process of a sweep that was killed a moment ago has left the folder; where it
    stays, the trial itself says that it is there."""
    if folder.path.is_dir():
        with suppress(Timeout), FileLock(folder.path / ".lock", timeout=ENDING_SECONDS):
            pass


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    return {**own, **ONE_THREAD}
