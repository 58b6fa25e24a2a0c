"""Ways to run one sim.yaml: one line an engine.

An engine takes a configuration, a result folder that was made for it, and an observer of the rows
of metrics.jsonl; it returns when the folder says finished and raises otherwise.
"""

from __future__ import annotations

from collections.abc import Callable

from metaward.server.engines.flower import run_flower
from metaward.server.engines.follow import EngineError
from metaward.server.engines.inprocess import run_inprocess
from metaward.server.folder import Folder
from metaward.server.run import Observer
from metaward.sim import Sim

Engine = Callable[[Sim, Folder, Observer], None]

ENGINES: dict[str, Engine] = {
    "inprocess": run_inprocess,
    "flower": run_flower,
}

__all__ = ["ENGINES", "Engine", "EngineError"]
