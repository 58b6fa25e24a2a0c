"""Commands that end with the process that started them, and free ports for them."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from metaward.server.engines import warden

Process = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Launcher:
    """Starts commands under wardens, with one working folder, one environment and one log.

    ``doomed`` is a folder that is deleted when a command has ended, for whatever reason.
    """

    cwd: Path
    env: Mapping[str, str]
    log: Path
    doomed: Path | None = None

    @contextmanager
    def __call__(self, command: Sequence[str]) -> Iterator[Process]:
        """A command's warden; on leaving it ends, with everything that the command started."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-I", str(warden.__file__), str(self.doomed or ""), *command],
                cwd=self.cwd,
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


def children(process: Process) -> list[psutil.Process]:
    """A warden's command and the orphans that it adopted, oldest first; none after its end."""
    if process.poll() is not None:
        return []
    return sorted(psutil.Process(process.pid).children(), key=lambda child: child.pid)


def free_port() -> int:
    """A port that no process listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
