"""A live `metaward deploy up` in a process of its own, and what can be found out about it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from metaward.server.deploy.layout import Site
from metaward.server.folder import Folder

COMMAND = [sys.executable, "-c", "from metaward.server.cli import main; main()"]
LISTENING = "0A"


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.1)


class Live:
    """The command, its deployment's folder and its result folder."""

    def __init__(self, folder: Path, local: int, config: Path, *arguments: str) -> None:
        self.site, self.folder = Site(folder / "dep"), Folder(folder / "run")
        self.err, self.out = folder / "err", folder / "out"
        self.command = [*COMMAND, "deploy", "up", "--local", str(local), str(config)]
        self.command += ["--dir", str(self.site.root), "--out", str(self.folder.path), *arguments]

    def start(self) -> None:
        with self.err.open("ab") as err, self.out.open("ab") as out:
            self.process = subprocess.Popen(self.command, stdout=out, stderr=err)

    def end(self) -> None:
        """By force, if it has not ended yet."""
        self.process.kill()
        self.process.wait()

    def said(self, text: str) -> bool:
        """Has the command said this? Fails where it has ended instead."""
        spoken = self.err.read_text()
        assert self.process.poll() is None or text in spoken, spoken + self.logs()
        return text in spoken

    def logs(self) -> str:
        return "\n".join(f"== {p.name}\n{p.read_text()}" for p in self.site.logs.glob("*.log"))

    def pids(self) -> dict[str, int]:
        """The SuperLink's and the SuperNodes' process ids by name."""
        found: dict[str, int] = json.loads(self.site.pids.read_text())
        return found

    def processes(self) -> dict[int, str]:
        """Every live process of the deployment, by the Flower home in its environment."""
        mark = f"FLWR_HOME={self.site.root}/".encode()
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (process / "environ").read_bytes():
                    command = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(process.name)] = command.decode()
            except OSError:
                continue
        return found

    def nothing_left(self) -> bool:
        """Within seconds, no process; says which, should there be any."""
        deadline = time.monotonic() + 10
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert left == {}
        return True

    def listening(self) -> set[tuple[str, int]]:
        """(address, port) of every TCP socket on which one of its processes listens."""
        inodes = {inode for pid in self.processes() for inode in sockets(pid)}
        found = set()
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == LISTENING and words[9] in inodes:
                    address, port = words[1].split(":")
                    found.add((address, int(port, 16)))
        return found


def sockets(pid: int) -> set[str]:
    """Inodes of a process' sockets."""
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            target = str(descriptor.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found
