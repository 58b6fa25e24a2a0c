"""A run small enough for tests: sine hospitals, a tiny network, a few rounds."""

from __future__ import annotations

from typing import Any

from metaward import sim
from metaward.yaml_text import override

SMALL: dict[str, Any] = {
    "name": "small",
    "seed": 5,
    "client": {
        "tasks": {"source": "sine", "hospitals": 4, "unseen": 2},
        "model": {"network": "mlp", "hidden": [8]},
        "inner": {"algorithm": "reptile", "lr": 0.02, "steps": 2, "adapt_steps": 2, "batch": 5},
        "tasks_per_round": 2,
    },
    "privacy": {"mechanism": "none"},
    "strategies": {
        "combine": {"rule": "mean"},
        "outer": {"optimizer": "adam", "lr": 0.01},
        "hospitals_per_round": 3,
    },
    "server": {
        "rounds": 6,
        "workers": 1,
        "evaluation": {"every": 2, "episodes": 2, "final_episodes": 4},
        "checkpoint": {"every": 1, "keep": 2},
    },
}


def small(*settings: str) -> sim.Sim:
    """The small run with ``section.key=value`` settings applied."""
    mapping = sim.parse(SMALL).mapping()
    for text in settings:
        override(mapping, text)
    return sim.parse(mapping)
