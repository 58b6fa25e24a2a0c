"""The faults that are done to a deployment: which process, what is done to it, and when."""

from __future__ import annotations

import itertools
import signal
from dataclasses import dataclass

import psutil

from metaward.server.deploy.up import Deployment

COMPONENTS: dict[str, tuple[str, str]] = {
    "guard": ("{hospital}.guard", "metaward"),
    "client app": ("{hospital}", "flwr-clientapp"),
    "SuperNode": ("{hospital}", "flower-supernode"),
    "server app": ("superlink", "flwr-serverapp"),
    "SuperLink": ("superlink", "flower-superlink"),
}
"""Below which warden each component runs, and the word of its command line; one line each."""

SIGNALS = {
    "SIGKILL": signal.SIGKILL,
    "SIGTERM": signal.SIGTERM,
    "SIGSTOP": signal.SIGSTOP,
}
"""A process that is stopped goes on after longer than a round waits for it (SIGCONT)."""

MOMENTS = ("before", "during", "after")
"""Before the hospital has charged the round, while it computes, and when it has stored its reply,
which the server does not have yet."""


@dataclass(frozen=True)
class Cell:
    """One fault: ``component`` gets ``signal`` at ``moment`` of a round."""

    component: str
    signal: str
    moment: str

    def __str__(self) -> str:
        return f"{self.signal} to the {self.component} {self.moment} training"


def matrix() -> list[Cell]:
    """Every component, with every signal, at every moment."""
    return [Cell(*one) for one in itertools.product(COMPONENTS, SIGNALS, MOMENTS)]


def found(component: str, live: Deployment, hospital: str) -> psutil.Process | None:
    """The newest process of a component; None where there is none at the moment."""
    whose, word = COMPONENTS[component]
    warden = live.wardens().get(whose.format(hospital=hospital))
    if warden is None:
        return None
    try:
        below = psutil.Process(warden.pid).children(recursive=True)
        fitting = [one for one in below if _runs(one, word)]
        return max(fitting, key=psutil.Process.create_time, default=None)
    except psutil.NoSuchProcess:
        return None


def _runs(process: psutil.Process, word: str) -> bool:
    """Whether a word of the command line ends with this one."""
    try:
        return any(part.endswith(word) for part in process.cmdline()[:3])
    except psutil.Error:  # it ended a moment ago
        return False
