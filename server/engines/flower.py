"""The same apps on Flower's own simulation runtime: what ``flwr run`` does, kept to one run.

A private SuperLink is started on a free loopback port with a private Flower home; ``flwr run``
hands it this app; hospitals are simulated SuperNodes in Ray workers. How the run stands is read
from the result folder, because ``flwr run --stream`` exits with 0 whatever happened. SuperLink, Ray
and the home are gone when ``run_flower`` returns or raises, and when this process is killed.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flwr.common.constant import ErrorCode

import sim
from options import ConfigError
from privacy.wire import compact
from server.engines import warden
from server.engines.progress import Progress
from server.folder import BusyError, Folder
from server.run import Observer

POLL_SECONDS = 0.25
HEALTH_SECONDS = 2.0
LOG, LAST_LINES = "flower.log", 15
WORKER_DIED = f"error-{ErrorCode.UNKNOWN}"
MEANING = (
    f"{WORKER_DIED} means that a Ray worker died (out of memory?), and Flower replaces none; "
    "metaward resume goes on from the last checkpoint"
)
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
IDLE_TALK = re.compile(r"\s|$|INFO|\S+Z INFO|Traceback|The above exception|For more information")
Process = subprocess.Popen[bytes]


class EngineError(RuntimeError):
    """Flower's runtime did not bring the run to its end; the text says why, or what it logged."""


def run_flower(run: sim.Sim, folder: Folder, observe: Observer) -> None:
    """Run a configuration on Flower's simulation runtime; ``EngineError`` where it fails.

    The folder's status is true afterwards: finished, failed with the reason, or interrupted.
    ``flower.log`` stays in the folder unless the run finished.
    """
    check(run)
    with folder.lock():  # held by the ServerApp from its start on
        for left_over in (LOG, "status.json"):
            (folder.path / left_over).unlink(missing_ok=True)
    try:
        execute(run, folder, Progress(folder, watchful(observe)))
    except KeyboardInterrupt:
        folder.set_status("interrupted", "stopped by the user")
        raise
    except BaseException as error:
        if folder.status()[0] != "failed":
            folder.set_status("failed", f"{type(error).__name__}: {error}")
        raise
    (folder.path / LOG).unlink()


def watchful(observe: Observer) -> Observer:
    """An observer that stops the run when a Ray worker has died.

    Flower never replaces one: whatever it is given later fails, round after round.
    """

    def see(row: Mapping[str, Any]) -> None:
        observe(row)
        lost = [who for who, why in row.get("rejected", {}).items() if why == WORKER_DIED]
        if lost:
            raise EngineError(f"round {row['round']}: {', '.join(lost)} ({WORKER_DIED}); {MEANING}")

    return see


def check(run: sim.Sim) -> None:
    """Refuse what only this engine cannot do; ``ConfigError``."""
    if run.server.device != "cpu" and not run.server.flower.gpus:
        raise ConfigError(
            [
                f"server.flower.gpus: 0.0 hides the GPU from hospitals, but server.device is "
                f"{run.server.device!r}; give a hospital a share of it, for example 0.5"
            ]
        )
    if not (sim.HERE / "pyproject.toml").is_file():
        raise ConfigError(
            [
                "server.engine: flower bundles the app from its source folder (the one with "
                "pyproject.toml); run from a checkout, or choose inprocess"
            ]
        )


def execute(run: sim.Sim, folder: Folder, progress: Progress) -> None:
    """Start a SuperLink, submit the run, and follow it to its end."""
    deadline = time.monotonic() + run.server.flower.startup_timeout
    port = free_port()
    with private_home() as home:
        (home / "config.toml").write_text(connection(port), encoding="utf-8")
        (home / "run.toml").write_text(run_config(run, folder), encoding="utf-8")
        guard = Guard(home, environment(run, folder, home), folder.path / LOG)
        with guard(superlink(port)) as link:
            await_superlink(link, port, folder, deadline)
            with guard(submission(run, home)) as stream:
                follow((link, stream), folder, deadline, progress)


def await_superlink(link: Process, port: int, folder: Folder, deadline: float) -> None:
    """Wait until the SuperLink answers; ``EngineError`` where it dies or is late."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while link.poll() is None and time.monotonic() < deadline:
        try:
            with opener.open(f"http://127.0.0.1:{port}/health", timeout=HEALTH_SECONDS):
                return
        except OSError:
            time.sleep(POLL_SECONDS)
    raise EngineError(_with_log("Flower's SuperLink did not start", folder))


def follow(watched: Sequence[Process], folder: Folder, deadline: float, progress: Progress) -> None:
    """Show progress until the folder says how the run ended, or Flower is found dead or late."""
    while True:
        ended = any(process.poll() is not None for process in watched)
        killed = deserted(folder)
        progress.show()
        status, reason = folder.status()
        if status == "finished":
            return
        if status == "failed":
            raise EngineError(f"{reason}; {MEANING}" if WORKER_DIED in reason else reason)
        if killed:
            raise EngineError(_with_log("the simulation's process was killed", folder))
        if ended:
            raise EngineError(_with_log("Flower ended the run without a result", folder))
        if status == "absent" and time.monotonic() > deadline:
            raise EngineError(_with_log("the run did not begin in time", folder))
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


# ------------------------------------------------------------------- what Flower is given


def superlink(port: int) -> list[str]:
    """The command of a SuperLink for simulations, on loopback."""
    options = ["--insecure", "--simulation", "--isolation", "subprocess"]
    options += ["--disable-runtime-dependency-installation"]
    return ["flower-superlink", *options, "--host", "127.0.0.1", "--port", str(port)]


def submission(run: sim.Sim, home: Path) -> list[str]:
    """The ``flwr run`` command: one SuperNode a hospital, ``server.workers`` of them at a time."""
    share = run.server.flower
    federation = {
        "num-supernodes": len(run.client.tasks.roster()),
        "client-resources-num-cpus": share.cpus,
        "client-resources-num-gpus": share.gpus,
        "init-args-num-cpus": share.cpus * run.server.workers,
    }
    pairs = " ".join(f"{key}={value}" for key, value in federation.items())
    command = ["flwr", "run", str(sim.HERE), "private", "--stream"]
    return [*command, "--run-config", str(home / "run.toml"), "--federation-config", pairs]


def connection(port: int) -> str:
    """Flower's own configuration: where the private SuperLink listens."""
    where = f'address = "127.0.0.1:{port}"\ninsecure = true\n'
    return f'[superlink]\ndefault = "private"\n\n[superlink.private]\n{where}'


def run_config(run: sim.Sim, folder: Folder) -> str:
    """The whole configuration and the result folder as TOML, whose strings are written as JSON's.

    A file, because ``flwr run`` splits what stands on its command line at quotes.
    """
    values = {"sim-json": compact(run.mapping()), "out": str(folder.path.resolve())}
    return "".join(f"{k} = {json.dumps(v, ensure_ascii=False)}\n" for k, v in values.items())


def environment(run: sim.Sim, folder: Folder, home: Path) -> dict[str, str]:
    """Ours, with a private home for Flower and Ray, no talk outside, and the hospitals' data."""
    root = sim.data_root(run)
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_prestart_worker_first_driver": "0",  # idle processes that no hospital would use
        "RAY_TMPDIR": str(home),
        "OMP_NUM_THREADS": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        "METAWARD_DATA": str(root) if root else "",
        "METAWARD_SIMULATION": str(folder.hospitals.resolve()),
        "METAWARD_HOSPITAL_LOG": str(folder.hospital_log.resolve()),
    }


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# --------------------------------------------------------------------- processes and logs


@contextmanager
def private_home() -> Iterator[Path]:
    """A new folder, deleted afterwards (by the warden, should this process be killed).

    In /tmp like Ray's own, whatever TMPDIR says: a Unix socket's path holds some 100 characters.
    """
    with tempfile.TemporaryDirectory(prefix="metaward-", dir="/tmp") as name:
        (Path(name) / "empty").mkdir()
        yield Path(name)


@dataclass(frozen=True)
class Guard:
    """Starts commands under wardens, with one environment and one log."""

    home: Path
    env: Mapping[str, str]
    log: Path

    @contextmanager
    def __call__(self, command: Sequence[str]) -> Iterator[Process]:
        """A command in an empty folder, ended on leaving with everything it started.

        Empty, because Ray's workers look for modules in that folder before the bundle.
        """
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-I", str(warden.__file__), str(self.home), *command],
                cwd=self.home / "empty",
                env=self.env,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches this process alone
            )
        assert process.stdin is not None
        try:
            yield process
        finally:
            process.stdin.close()
            process.wait()


def _with_log(what: str, folder: Folder) -> str:
    """``what``, and what Flower complained of lately; the log itself holds all."""
    log = folder.path / LOG
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    lines = [line for line in COLOURS.sub("", text).splitlines() if not IDLE_TALK.match(line)]
    return "\n".join([f"{what}; the end of {log}, shortened:", *lines[-LAST_LINES:]])
