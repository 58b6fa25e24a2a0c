"""The engine that runs the same apps on Flower's own simulation runtime, as ``flwr run`` does.

A private SuperLink is started on a free loopback port with a private Flower home; ``flwr run``
hands it this app; hospitals are simulated SuperNodes in Ray workers, of this machine or of a
cluster that is there already (``engines.cluster``). SuperLink, this machine's Ray and the home are
removed when ``run_flower`` returns or raises, and when this process is killed.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from flwr.common.constant import ErrorCode

from metaward import sim
from metaward.client import shipping
from metaward.options import ConfigError
from metaward.server.engines.cluster.address import ADDRESS, address, driver
from metaward.server.engines.follow import (
    EngineError,
    Trail,
    await_superlink,
    check_checkout,
    follow,
    run_config,
    true_ending,
)
from metaward.server.engines.processes import Launcher, free_port
from metaward.server.engines.progress import Progress
from metaward.server.folder import Folder
from metaward.server.run import Observer

LOG, PLUGINS = "flower.log", "plugins"
WORKER_DIED = f"error-{ErrorCode.UNKNOWN}"
MEANING = (
    f"{WORKER_DIED} means that a Ray worker died (out of memory?), and Flower replaces none; "
    "metaward resume goes on from the last checkpoint"
)


def run_flower(run: sim.Sim, folder: Folder, observe: Observer) -> None:
    """Run a configuration on Flower's simulation runtime; ``EngineError`` where it fails.

    The folder's status is right afterwards: finished, failed with the reason, or interrupted.
    ``flower.log`` stays in the folder unless the run finished.
    """
    check(run)
    with true_ending(folder, LOG):
        execute(run, folder, Progress(folder, watchful(observe)))
    (folder.path / LOG).unlink()


def watchful(observe: Observer) -> Observer:
    """An observer that stops the run when a Ray worker has died.

    Flower never replaces one: all work given to it later fails, round after round.
    """

    def see(row: Mapping[str, Any]) -> None:
        observe(row)
        lost = [who for who, why in row.get("rejected", {}).items() if why == WORKER_DIED]
        if lost:
            raise EngineError(f"round {row['round']}: {', '.join(lost)} ({WORKER_DIED}); {MEANING}")

    return see


def check(run: sim.Sim) -> None:
    """``ConfigError`` for what this engine cannot do but others can."""
    if run.server.device != "cpu" and not run.server.flower.gpus:
        raise ConfigError(
            [
                f"server.flower.gpus: 0.0 hides the GPU from hospitals, but server.device is "
                f"{run.server.device!r}; give a hospital a share of it, for example 0.5"
            ]
        )
    present = torch.cuda.device_count()
    if run.server.flower.gpus > present:
        instead = "server.flower.gpus=0" + (" and server.device=cpu" if not present else "")
        raise ConfigError(
            [
                f"server.flower.gpus: {run.server.flower.gpus:g} asks for a share of GPUs for each "
                f"hospital, but this machine has {present} that torch can use, so that no worker "
                f"could start; set {instead}, or run where there are GPUs"
            ]
        )
    check_checkout()


def execute(run: sim.Sim, folder: Folder, progress: Progress) -> None:
    """Start a SuperLink, submit the run, and follow it to its end."""
    log, port = folder.path / LOG, free_port()
    trail = Trail(folder, log, time.monotonic() + run.server.flower.startup_timeout, progress.show)
    with private_home() as home:
        (home / "config.toml").write_text(connection(port), encoding="utf-8")
        shipping.write(home / PLUGINS)
        (home / "run.toml").write_text(run_config(run, folder), encoding="utf-8")
        # An empty folder, because Ray's workers look for modules there before the bundle.
        launch = Launcher(home / "empty", environment(run, folder, home), log, doomed=home)
        with launch(superlink(port)) as link:
            await_superlink(link, f"http://127.0.0.1:{port}", log, trail.deadline)
            with launch(submission(run, home)) as stream, explained():
                follow((link, stream), trail)


@contextmanager
def explained() -> Iterator[None]:
    """Explain the code of a dead Ray worker if a run failed because of one."""
    try:
        yield
    except EngineError as error:
        if WORKER_DIED in str(error) and MEANING not in str(error):
            raise EngineError(f"{error}; {MEANING}") from error
        raise


# ------------------------------------------------------------------- what Flower is given


def superlink(port: int) -> list[str]:
    """The command of a SuperLink for simulations, on loopback."""
    options = ["--insecure", "--simulation", "--isolation", "subprocess"]
    options += ["--disable-runtime-dependency-installation"]
    return ["flower-superlink", *options, "--host", "127.0.0.1", "--port", str(port)]


def submission(run: sim.Sim, home: Path) -> list[str]:
    """The ``flwr run`` command: a SuperNode per hospital, ``server.workers`` of them at a time."""
    share = run.server.flower
    federation = {
        "num-supernodes": len(run.client.tasks.roster()),
        "client-resources-num-cpus": share.cpus,
        "client-resources-num-gpus": share.gpus,
    }
    if address(run) is None:  # Ray takes no such word where it joins a cluster
        federation["init-args-num-cpus"] = share.cpus * run.server.workers
    pairs = " ".join(f"{key}={value}" for key, value in federation.items())
    command = ["flwr", "run", str(sim.HERE), "private", "--stream"]
    return [*command, "--run-config", str(home / "run.toml"), "--federation-config", pairs]


def connection(port: int) -> str:
    """Flower's own configuration: where the private SuperLink listens."""
    where = f'address = "127.0.0.1:{port}"\ninsecure = true\n'
    return f'[superlink]\ndefault = "private"\n\n[superlink.private]\n{where}'


def environment(run: sim.Sim, folder: Folder, home: Path) -> dict[str, str]:
    """This process's environment, kept offline, with a private home and the hospitals' settings."""
    root, where = sim.data_root(run), address(run)
    kept = {key: text for key, text in os.environ.items() if key != ADDRESS}
    of_one = {shipping.VARIABLE: str(home / PLUGINS), "RAY_TMPDIR": str(home)}
    return {
        **kept,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_prestart_worker_first_driver": "0",  # idle processes that no hospital would use
        "OMP_NUM_THREADS": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        "METAWARD_DATA": str(root) if root else "",
        "METAWARD_DEVICE": run.server.device,
        "METAWARD_INNER": run.server.inner,
        "METAWARD_CHUNK": str(run.server.chunk),
        "METAWARD_SIMULATION": str(folder.hospitals.resolve()),
        "METAWARD_HOSPITAL_LOG": str(folder.hospital_log.resolve()),
        **(driver(run, where, folder) if where else of_one),
    }


@contextmanager
def private_home() -> Iterator[Path]:
    """A new folder, deleted afterwards (by the warden if this process is killed).

    It is in /tmp, like Ray's own, even if TMPDIR is set: a Unix socket's path has at most some 100
    characters.
    """
    with tempfile.TemporaryDirectory(prefix="metaward-", dir="/tmp") as name:
        (Path(name) / "empty").mkdir()
        yield Path(name)
