"""A Ray cluster of several machines, each a network namespace with a folder of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.server.deploy.machines import Host, machines

BIN = Path(sys.executable).parent
PORT = "6379"
SMALL = ["--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats", "--block"]
AGENTS = [
    *("--dashboard-agent-grpc-port=52001", "--dashboard-agent-listen-port=52002"),
    *("--runtime-env-agent-port=52003", "--metrics-export-port=52004"),
]
"""Fixed ports: a raylet dies where its agents take more than 15 s to tell it theirs."""
TRIES, SECONDS = 3, 100.0


@dataclass
class RayCluster:
    """``hosts[0]`` is the head; ``data`` is the data folder of each machine, as it sees it."""

    hosts: list[Host]
    folder: Path
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"{self.hosts[0].address}:{PORT}"

    @property
    def data(self) -> Path:
        return self.hosts[0].place / "data"

    def start(self, host: Host) -> None:
        """Bring a machine into the cluster; Ray gives up on a slow machine, so try again."""
        for _ in range(TRIES):
            if self._started(host):
                return
            self.stop(host)
        raise AssertionError(self.log(host)[-3000:])

    def _started(self, host: Host) -> bool:
        head = ["--head", f"--port={PORT}", "--include-dashboard=false"]
        head += [f"--temp-dir={host.place}/ray"]
        place = head if host is self.hosts[0] else [f"--address={self.address}"]
        command = [str(BIN / "ray"), "start", f"--node-ip-address={host.address}", *SMALL, *AGENTS]
        with (self.folder / f"{host.address}.log").open("wb") as log:
            process = subprocess.Popen(
                host.words([*command, *place]), env=self.env, stdout=log, stderr=subprocess.STDOUT
            )
        self.running[host.address] = process
        deadline = time.monotonic() + SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            if "Ray runtime started" in self.log(host):
                return True
            time.sleep(0.2)
        return False

    def stop(self, host: Host) -> None:
        """Every process of the machine at once, as when the power fails."""
        words = ["ip", "netns", "pids", host.namespace]
        for pid in subprocess.run(words, capture_output=True, text=True, check=True).stdout.split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        if (process := self.running.pop(host.address, None)) is not None:
            process.wait(timeout=10)

    def log(self, host: Host) -> str:
        path = self.folder / f"{host.address}.log"
        return path.read_text(errors="replace") if path.is_file() else ""

    @property
    def env(self) -> dict[str, str]:
        own = {"METAWARD_DATA": str(self.data), "RAY_USAGE_STATS_ENABLED": "0"}
        own["PYTHONUNBUFFERED"] = "1"  # what ray start says is waited for
        own["RAY_worker_niceness"] = "0"  # by Ray's own 15 a busy machine leaves them no time
        return os.environ | own | {"PATH": os.pathsep.join([str(BIN), os.environ["PATH"]])}

    def metaward(self, *words: str) -> subprocess.Popen[str]:
        """The command on the head's machine."""
        return subprocess.Popen(
            self.hosts[0].words([str(BIN / "metaward"), *words]),
            env=self.env | {"RAY_ADDRESS": self.address},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
        )

    def outcome(self, *words: str) -> tuple[int, str]:
        """The code and the words of the command."""
        process = self.metaward(*words)
        out, err = process.communicate(timeout=400)
        return process.returncode, out + err


@contextmanager
def ray_cluster(folder: Path, count: int) -> Iterator[RayCluster]:
    """So many machines, all of them in the cluster."""
    with machines(folder, count) as hosts:
        made = RayCluster(hosts, folder)
        try:
            for host in hosts:
                made.start(host)
            yield made
        finally:
            for host in reversed(hosts):
                made.stop(host)
