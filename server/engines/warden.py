"""Runs one command and lets nothing of it outlive whoever asked for it. Started as a script:

    python warden.py FOLDER COMMAND [ARGUMENT ...]

The warden holds the reading end of a pipe. When the other end closes, by intent or because that
process was killed, or when the command ends, the warden kills everything the command has started,
daemons in sessions of their own included, and deletes FOLDER (an empty name: none). It runs on the
standard library alone, because its caller's packages are not needed to end processes.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

SET_CHILD_SUBREAPER = 36
POLL_SECONDS, PATIENCE_SECONDS = 0.2, 10.0


def main(folder: str, command: list[str]) -> int:
    """Guard the command until it ends or the pipe closes; its exit code, 1 if it was ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    adopt_orphans()
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        while child.poll() is None and not pipe_closed():
            pass
        return 1 if child.returncode is None else child.returncode
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end_descendants()
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def pipe_closed() -> bool:
    """Wait a moment for the end of the pipe. Nothing is ever written to it."""
    readable, _, _ = select.select([sys.stdin], [], [], POLL_SECONDS)
    return bool(readable)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that none is lost (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_descendants() -> None:
    """Kill until none is left: one may have started another in between."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := descendants()) and time.monotonic() < deadline:
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)
        bury()


def bury() -> None:
    """Take note of dead children; they would be counted as descendants otherwise."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def descendants() -> list[int]:
    """Everything below this process."""
    below: dict[int, list[int]] = {}
    for pid, parent in processes():
        below.setdefault(parent, []).append(pid)
    found, at = [], [os.getpid()]
    while at:
        children = below.get(at.pop(), [])
        found += children
        at += children
    return found


def processes() -> list[tuple[int, int]]:
    """(pid, parent's pid) of every process, from /proc where there is one, else from ps."""
    if not Path("/proc/self/stat").exists():
        lines = subprocess.check_output(["ps", "-axo", "pid=,ppid="], text=True).splitlines()
        return [(int(pid), int(parent)) for pid, parent in map(str.split, lines)]
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:  # pid (name, which may hold anything) state parent ...
            found.append(
                (int(entry.parent.name), int(entry.read_text().rpartition(")")[2].split()[1]))
            )
        except OSError:  # ended meanwhile
            continue
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
