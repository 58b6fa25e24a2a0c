"""Notices a SuperNode or a SuperLink that lives and does nothing any more.

An app process announces its answer, then brings the contents. Where it ends before the first, or
is killed before the second is done, the SuperNode of Flower 1.42 waits for what nobody will bring,
says nothing in its log, and goes on to send heartbeats, so that the SuperLink takes the hospital
for present. Where the SuperLink is silent for long, the SuperNode gives up, and its process does
not end. From outside it shows in the log, whose last words say what is waited for, and in the
processes, among which there is no live app any more.

Where an app ends after it brought its answer and before it said so, the SuperNode answers a later
message with an error half a minute afterwards, and keeps that message's own answer for the next
one. From then on each message is answered by the answer to the one before, and every message seems
to be without one. In the log, what is sent belongs to another round than what was received.

Both start apps by a process of their own, which ends where it gets no answer for half a minute, as
when the SuperLink was suspended. A SuperLink does not notice, goes on to take in runs, and starts
none of them; a SuperNode goes on to take in messages.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

LOOK_SECONDS = 2.0
STUCK_SECONDS = 90.0
"""Longer than Flower takes to notice by itself that an app is gone, which is about a minute."""
TAIL_BYTES = 65536

APP, EXECUTOR = "flwr-clientapp", "flower-superexec"
ANSWER, CONTENTS, NOTHING = "an answer", "the contents of an answer", ""
RECEIVED = "Received successfully"
GIVEN_UP = "Giving up reconnection"
"""After a long silence of the SuperLink: then the SuperNode ends its work, but not its process."""
SAID = {
    RECEIVED: ANSWER,
    "Sending: ": CONTENTS,
    "Sent successfully": NOTHING,
    "Ignoring reply message": NOTHING,
    "Failed to send message": NOTHING,
    "SuperNode ID: ": NOTHING,
    GIVEN_UP: ANSWER,
}
"""What a SuperNode waits for after it has said this; of other words than Flower's, for nothing."""
STOPPED = "Task stopped."
"""What an app says that was told to end, as by SIGTERM, wherever it was in its work."""


STARTS = "Starting Flower SuperNode"
_MESSAGE = re.compile(
    rf"(?P<start>{STARTS})|\[RUN (?P<place>[^\]\n]*)\]\s*\n.*?"
    r"(?P<what>Receiving|Sending): (?P<kind>\S+) message"
)
"""A start; or a message's run and round in one line, and what is done with it in the next."""


@dataclass
class Pace:
    """Says when to look again, for a look at all processes takes a moment."""

    _next: float = 0.0

    def due(self) -> bool:
        """Whether ``LOOK_SECONDS`` have passed since it last said so."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + LOOK_SECONDS
        return True


@dataclass
class ExecutorWatch:
    """Looks whether a SuperLink or SuperNode still has the process that starts apps for it."""

    _of: int = 0

    def finds_none(self, process: psutil.Process) -> bool:
        """Whether it had one and has none any more."""
        if any(_runs(child, EXECUTOR) for child in _below(process)):
            self._of = process.pid
            return False
        return self._of == process.pid


@dataclass
class Watch:
    """Looks at one SuperNode after the other; one watch for each place of one.

    ``log`` is where they write; ``seconds`` is how long one may wait though no app is left.
    """

    log: Path
    seconds: float = STUCK_SECONDS
    _executor: ExecutorWatch = field(default_factory=ExecutorWatch)
    _since: tuple[int, float] | None = None
    _pace: Pace = field(default_factory=Pace)

    def finds_stuck(self, supernode: psutil.Process) -> bool:
        """Whether this SuperNode has waited so long for what nobody will bring, or start; or has
        answered out of turn for so long."""
        if not self._pace.due():
            return False
        now = time.monotonic()
        text = tail(self.log)
        vain = out_of_turn(text) or waits_in_vain(awaited(text), supernode)
        if not vain and not self._executor.finds_none(supernode):
            self._since = None
        elif self._since is None or self._since[0] != supernode.pid:  # the log outlives a process
            self._since = supernode.pid, now
        return self._since is not None and now - self._since[1] > self.seconds


def tail(log: Path) -> str:
    """The end of a log."""
    with log.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
        return file.read().decode("utf-8", errors="replace")


def out_of_turn(text: str) -> bool:
    """Whether, by the end of its log, a SuperNode has last answered another message than the one
    that it had received last."""
    received = answered = None
    for found in _MESSAGE.finditer(text):
        if found["start"]:
            received = answered = None
        elif found["what"] == "Receiving":
            received = found["place"], found["kind"]
        elif received is not None:
            answered = received == (found["place"], found["kind"])
    return answered is False


def awaited(text: str) -> str:
    """What a SuperNode waits for, by the end of its log.

    An app that was told to end has brought no contents that it had not brought before.
    """
    words = max(SAID, key=text.rfind)
    what = SAID[words] if words in text else NOTHING
    stopped = text.rfind(STOPPED) > text.rfind(RECEIVED)
    return ANSWER if what == CONTENTS and stopped else what


def waits_in_vain(what: str, supernode: psutil.Process) -> bool:
    """Whether no app is left that could bring it.

    Contents may still be on their way to the SuperLink when their app has ended well.
    """
    apps = list(_apps(supernode))
    if what == NOTHING or any(exit is None for exit in apps):
        return False
    return what == ANSWER or any(apps)


def _apps(supernode: psutil.Process) -> Iterator[int | None]:
    """The exit status of each app below this SuperNode for which nobody has waited; None: it lives.

    Only Linux tells the exit status of another process' child; elsewhere it is 0.
    """
    for one in _below(supernode):
        with suppress(psutil.Error):
            if one.status() == psutil.STATUS_ZOMBIE:
                yield _exit_status(one.pid)
            elif _runs(one, APP):
                yield None


def _below(process: psutil.Process) -> list[psutil.Process]:
    """All processes that it has started, and theirs."""
    with suppress(psutil.Error):
        return list(process.children(recursive=True))
    return []


def _runs(process: psutil.Process, program: str) -> bool:
    """Whether it lives and is this program of Flower's."""
    with suppress(psutil.Error):
        alive = process.status() != psutil.STATUS_ZOMBIE
        return alive and any(part.endswith(program) for part in process.cmdline()[:3])
    return False


def _exit_status(pid: int) -> int:
    """The last field of the line that Linux has about a process."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return int(line.rpartition(" ")[2])
