"""A SuperNode that is started again whenever it ends, as by a service manager.

Flower refuses a key that it believes to be connected. A SuperNode that was killed can reconnect
only after its heartbeat has lapsed, about a minute later; until then each try ends at once. So
there is a pause before each new start.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

import psutil

from metaward.server.engines.processes import Launcher, Process, children


@dataclass
class Supervised:
    """A command, its live process (a warden), and the time of its next start.

    ``command`` is called at every start, because a port that was free can be taken by then; ``say``
    is called with a line about each start and end.
    """

    name: str
    launcher: Launcher
    command: Callable[[], Sequence[str]]
    pause: float
    say: Callable[[str], None]
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
        """Notice an end, and start again after the pause."""
        if self.process is None or self.process.poll() is None:
            return
        if self.due is None:
            self.due = time.monotonic() + self.pause
            code = self.process.returncode
            self.say(f"{self.name}: ended with code {code}, starts again in {self.pause:g} s")
        elif time.monotonic() >= self.due:
            self.start()

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
