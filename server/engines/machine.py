"""The device of simulated hospitals, and how it computes the inner loops of several tasks."""

from __future__ import annotations

from typing import Any, NamedTuple

from metaward.client.inner.at_once import AUTO, TasksAtOnce
from metaward.sim import Sim


class Machine(NamedTuple):
    """What the simulated hospitals compute on, and how."""

    device: str = "cpu"
    at_once: TasksAtOnce = AUTO

    def config(self) -> dict[str, Any]:
        """The keys of a node config that say it."""
        return {"device": self.device, "inner": self.at_once.way, "chunk": self.at_once.chunk}

    @property
    def beside(self) -> int:
        """How many hospitals of one process compute side by side."""
        return self.at_once.beside(self.device)


CPU = Machine()


def machine(run: Sim) -> Machine:
    """What a configuration says of it."""
    return Machine(run.server.device, TasksAtOnce(run.server.inner, run.server.chunk))
