"""A SuperNode or a guard that is started again whenever it ends, as by a service manager.

Flower refuses a key that it believes to be connected. A SuperNode that was killed has not signed
off, and until somebody does so in its place, or its heartbeat has lapsed a minute later, each new
start ends at once. So the supervisor signs it off, and there is a pause before each new start.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import psutil
from flwr.supercore.exit import ExitCode

from metaward.server.deploy.stuck import Watch
from metaward.server.engines.processes import Launcher, Process, children

REFUSED = ExitCode.SUPERNODE_CONNECTION_ERROR & 0xFF
"""The exit code of a SuperNode that could not connect, as the system keeps it: its last byte."""
UNCONNECTED = (
    "could not connect: the SuperLink cannot be reached, or refuses the key, as it does while it "
    "takes another process with that key for connected"
)
STUCK = (
    "its SuperNode would wait without end, for an answer whose app has ended, for a SuperLink that "
    "it has given up, or for what starts its apps, or it answers messages out of turn; it is ended"
)
SIGNALLED = 128
"""A warden adds the number of a signal to this."""


@dataclass
class Supervised:
    """A command, its live process (a warden), and the time of its next start.

    ``command`` is called at every start, because a port that was free can be taken by then; ``say``
    is called with a line about each start and end. A SuperNode has what a guard has not: a
    ``sign_off``, which is called when the process is gone and returns "", or why the SuperLink
    takes it for connected until ``lapse`` seconds have passed; and a ``watch``.
    """

    name: str
    launcher: Launcher
    command: Callable[[], Sequence[str]]
    pause: float
    say: Callable[[str], None]
    sign_off: Callable[[], str] | None = None
    lapse: float = 0.0
    watch: Watch | None = None
    process: Process | None = None
    due: float | None = None
    starts: int = 0
    _stack: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        """Start the command now."""
        self._stack.close()
        self.process = self._stack.enter_context(self.launcher(self.command()))
        self.starts, self.due = self.starts + 1, None
        self.say(f"{self.name}: start {self.starts}, process {self.process.pid}")

    def look(self) -> None:
        """Notice an end, and start again after the pause; end a SuperNode that is stuck."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self._free_if_stuck(self.process)
        elif self.due is None:
            self._ended(self.process.returncode)
        elif time.monotonic() >= self.due:
            self.start()

    def _free_if_stuck(self, process: Process) -> None:
        """End a SuperNode that waits for a dead app."""
        if self.watch is None:
            return
        for supernode in children(process):
            if self.watch.finds_stuck(supernode):
                self.say(f"{self.name}: {STUCK}")
                with suppress(psutil.NoSuchProcess):
                    supernode.kill()

    def _ended(self, code: int) -> None:
        """Say how it ended and what is done about it, and set the time of the next start."""
        what = "its SuperNode" if self.sign_off else "the guard"
        refused = bool(self.sign_off) and code == REFUSED
        why = "" if refused or self.sign_off is None else self.sign_off()
        wait = max(self.pause, self.lapse) if why else self.pause
        self.due = time.monotonic() + wait
        at = (datetime.now(UTC) + timedelta(seconds=wait)).isoformat(timespec="seconds")
        if refused or self.sign_off is None:
            next_ = f"its own words are in {self.launcher.log}"
        elif why:
            next_ = f"its heartbeat must lapse at the SuperLink, as it is not signed off: {why}"
        else:
            next_ = "the SuperLink takes it for disconnected"
        how = UNCONNECTED if refused else _ending(code)
        self.say(f"{self.name}: {what} {how}; {next_}; starts again in {wait:g} s, at {at}")

    def ask_to_end(self) -> None:
        """Ask the command itself, not its warden, to end."""
        for child in children(self.process) if self.process else []:
            with suppress(psutil.NoSuchProcess):
                child.terminate()

    def end(self, deadline: float) -> None:
        """Wait for its end until the deadline, then end it and everything that it started."""
        if self.process is not None:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(max(deadline - time.monotonic(), 0.0))
        self._stack.close()
        self.process = None


def _ending(code: int) -> str:
    """How a command ended, by the exit code of its warden."""
    if code <= SIGNALLED:
        return f"ended with code {code}"
    try:
        name = f"{signal.Signals(code - SIGNALLED).name} (signal {code - SIGNALLED})"
    except ValueError:
        name = f"signal {code - SIGNALLED}"
    return f"was killed by {name}"
