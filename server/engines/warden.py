"""Runs one command, none of whose processes outlives the one that asked for it. As a script:

    python warden.py FOLDER COMMAND [ARGUMENT ...]

The warden holds the reading end of a pipe. When the other end closes, on purpose or because that
process was killed, or when the command ends, the warden kills all processes that the command has
started, including daemons in sessions of their own, and deletes FOLDER (an empty name: none). It
imports nothing of metaward, so that it starts at once.
"""

from __future__ import annotations

import ctypes
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil

SET_CHILD_SUBREAPER = 36
POLL_SECONDS, PATIENCE_SECONDS = 0.2, 10.0


def main(folder: str, command: list[str]) -> int:
    """Guard the command until it ends or the pipe closes.

    Returns its exit code; 128 and the number of the signal that ended it, as shells do; 1 where it
    was this warden that ended it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    adopt_orphans()
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        while child.poll() is None and not pipe_closed():
            pass
        code = 1 if child.returncode is None else child.returncode
        return 128 - code if code < 0 else code
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
    """Kill until none is left, because one can start another in between."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := psutil.Process().children(recursive=True)) and time.monotonic() < deadline:
        for process in found:
            with suppress(psutil.Error):  # one that cannot be ended must not keep the rest alive
                process.kill()
        psutil.wait_procs(found, timeout=0.02)  # reaps them, or they would be found again


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
