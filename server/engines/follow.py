"""Following a run that Flower's processes carry out: from the SuperLink's start to a true ending.

The state of the run is read from the result folder, because ``flwr run --stream`` exits with 0
whatever happened. The folder must be on this machine.
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
    """Flower's runtime did not bring the run to its end; the text says why, or what it logged."""


@dataclass(frozen=True)
class Trail:
    """What is watched: the result folder, Flower's log, and the moment a run must have begun by.

    ``look`` is called at every step: it shows progress and tends to processes.
    """

    folder: Folder
    log: Path
    deadline: float
    look: Callable[[], None]


@contextmanager
def true_ending(folder: Folder, *left_over: str) -> Iterator[None]:
    """Leave the folder's status true, whatever ends the block; the last run's files go first.

    A run that finished or failed by its own account keeps that, whatever happens afterwards.
    ``BusyError`` where another process is at work in the folder, which then stays as it is.
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
    """Look on until the folder says how the run ended, or Flower is found dead or late."""
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
    """Is the run under way, but nobody at work on it? Flower itself takes a minute to find out."""
    if folder.status()[0] != "running":
        return False
    try:
        with folder.lock():
            return folder.status()[0] == "running"
    except BusyError:
        return False


def with_log(what: str, log: Path) -> str:
    """``what``, and what Flower complained of lately; the log itself holds all."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    lines = [line for line in COLOURS.sub("", text).splitlines() if not IDLE_TALK.match(line)]
    return "\n".join([f"{what}; the end of {log}, shortened:", *lines[-LAST_LINES:]])


def check_checkout() -> None:
    """``ConfigError`` where there is no folder that Flower could bundle the app from."""
    if not (sim.HERE / "pyproject.toml").is_file():
        raise ConfigError(
            [
                "server.engine: flower bundles the app from its source folder (the one with "
                "pyproject.toml); run from a checkout, or choose inprocess"
            ]
        )


def run_config(run: sim.Sim, folder: Folder) -> str:
    """The whole configuration and the result folder as TOML, whose strings are written as JSON's.

    A file, because ``flwr run`` splits its command line at quotes.
    """
    values = {"sim-json": compact(run.mapping()), "out": str(folder.path.resolve())}
    return "".join(f"{k} = {json.dumps(v, ensure_ascii=False)}\n" for k, v in values.items())
