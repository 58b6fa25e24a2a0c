"""Runs to plan: small ones that can be run as well, and one that is known to fail."""

from __future__ import annotations

from metaward import sim
from metaward.yaml_text import override
from tests.server.small import small

ONE_TASK = "{source: phantom, hospitals: 2, unseen: 1, records: 24, shots: 3, queries: 5}"
CROWDED = "{source: phantom, hospitals: 2, unseen: 1, records: 120, shots: 2, queries: 3, held: 4}"
SINE = "{source: sine, hospitals: 2, unseen: 1, functions: 4, points: 30}"
PRIVATE = ("client.schedule=passes", "server.evaluation.baselines=[scratch]")


def run_with(tasks: str, *settings: str) -> sim.Sim:
    first = (f"client.tasks={tasks}", "strategies.hospitals_per_round=null", "server.rounds=3")
    shown = ("server.evaluation.episodes=1", "server.evaluation.final_episodes=1")
    mapping = small().mapping()
    for text in (*first, *shown, *PRIVATE, *settings):
        override(mapping, text)
    return sim.parse(mapping)


def big(*settings: str) -> sim.Sim:
    """28,485 coordinates, one task of 25 records at each of 100 hospitals, 12 rounds."""
    return run_with(
        "{source: phantom, hospitals: 100, unseen: 1, ways: 5, shots: 1, queries: 4, records: 25}",
        "client.model={network: conv, width: 32, depth: 4}",
        "client.inner={algorithm: reptile, steps: 3}",
        "client.tasks_per_round=1",
        "server.rounds=12",
        "privacy={mechanism: sums, unit: record, epsilon: 3.0}",
        *settings,
    )
