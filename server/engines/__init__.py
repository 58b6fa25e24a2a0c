"""The engines that run a sim.yaml, found by their names in ``sections.ENGINES``.

An engine takes a configuration, a result folder that was made for it, and an observer of the rows
of metrics.jsonl; it returns when the run has finished and raises otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from pkgutil import resolve_name

from metaward import sections
from metaward.server.engines.follow import EngineError
from metaward.server.folder import Folder
from metaward.server.run import Observer
from metaward.sim import Sim

Engine = Callable[[Sim, Folder, Observer], None]

ENGINES: dict[str, Engine] = {name: resolve_name(place) for name, place in sections.ENGINES.items()}

__all__ = ["ENGINES", "Engine", "EngineError"]
