"""Following a run that Flower's processes carry out, from the SuperLink's start to its end.

The state of the run is read from the result folder, because ``flwr run --stream`` exits with 0
whatever happens. The folder must be on this machine.
"""

from __future__ import annotations

import json
import re
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from metaward import sim
from metaward.errors import RunError
from metaward.options import ConfigError, compact
from metaward.server.engines.processes import Process
from metaward.server.folder import BusyError, Folder

POLL_SECONDS = 0.25
HEALTH_SECONDS = 2.0
LAST_LINES = 15
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
IDLE_TALK = re.compile(r"\s|$|INFO|\S+Z INFO|Traceback|The above exception|For more information")


class EngineError(RunError):
    """Flower's runtime did not finish the run; the text says why, or what Flower logged."""


@dataclass(frozen=True)
class Trail:
    """What is watched: the result folder, Flower's log, and the latest time for a run to begin.

    ``look`` is called at every step: it shows progress and restarts processes.
    """

    folder: Folder
    log: Path
    deadline: float
    look: Callable[[], None]


@contextmanager
def true_ending(folder: Folder, *left_over: str) -> Iterator[None]:
    """Delete files left by an earlier start; leave the right status, whatever ends the block.

    A run that has written that it finished or failed keeps this status, whatever happens later.
    ``BusyError`` where another process is working in the folder, which then stays as it is.
    """
    with folder.lock():  # held by the ServerApp from its start on
        for name in ("status.json", *left_over):
            (folder.path / name).unlink(missing_ok=True)
    try:
        yield
    except BaseException as error:
        if folder.status()[0] == "finished":
            raise
        if isinstance(error, KeyboardInterrupt):
            folder.set_status("interrupted", "stopped by the user")
        elif folder.status()[0] != "failed":
            folder.set_status("failed", f"{type(error).__name__}: {error}")
        raise


def await_superlink(
    link: Process, url: str, log: Path, deadline: float, trust: ssl.SSLContext | None = None
) -> None:
    """Wait until the SuperLink answers; ``EngineError`` where it dies or is late."""
    handlers = [urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)]
    opener = urllib.request.build_opener(*handlers)
    while link.poll() is None and time.monotonic() < deadline:
        try:
            with opener.open(f"{url}/health", timeout=HEALTH_SECONDS):
                return
        except OSError:
            time.sleep(POLL_SECONDS)
    raise EngineError(with_log("Flower's SuperLink did not start", log))


def follow(watched: Sequence[Process], trail: Trail) -> None:
    """Wait until the folder says how the run ended, or Flower is dead or late."""
    folder = trail.folder
    while True:
        ended = any(process.poll() is not None for process in watched)
        killed = deserted(folder)
        trail.look()
        status, reason = folder.status()
        if status == "finished":
            return
        if status == "failed":
            raise EngineError(reason)
        if killed:
            raise EngineError(with_log("the process at work on the run was killed", trail.log))
        if ended:
            raise EngineError(with_log("Flower ended the run without a result", trail.log))
        if status == "absent" and time.monotonic() > trail.deadline:
            raise EngineError(with_log("the run did not begin in time", trail.log))
        time.sleep(POLL_SECONDS)


def deserted(folder: Folder) -> bool:
    """Whether the process of a running run is dead; Flower itself takes a minute to notice."""
    if folder.status()[0] != "running":
        return False
    try:
        with folder.lock():
            return folder.status()[0] == "running"
    except BusyError:
        return False


def with_log(what: str, log: Path) -> str:
    """``what``, and the last complaints in Flower's log; the log itself has everything."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    lines = [line for line in COLOURS.sub("", text).splitlines() if not IDLE_TALK.match(line)]
    return "\n".join([f"{what}; the end of {log}, shortened:", *lines[-LAST_LINES:]])


def check_checkout() -> None:
    """``ConfigError`` where there is no source folder from which Flower can bundle the app."""
    if not (sim.HERE / "pyproject.toml").is_file():
        raise ConfigError(
            [
                "server.engine: flower bundles the app from its source folder (the one with "
                "pyproject.toml); run from a checkout, or choose inprocess"
            ]
        )


def run_config(run: sim.Sim, folder: Folder) -> str:
    """The whole configuration and the result folder as TOML, with strings in JSON's form.

    They go into a file, because ``flwr run`` splits its command line at quotes.
    """
    values = {"sim-json": compact(run.mapping()), "out": str(folder.path.resolve())}
    return "".join(f"{k} = {json.dumps(v, ensure_ascii=False)}\n" for k, v in values.items())
