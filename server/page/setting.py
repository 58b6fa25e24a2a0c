"""What a run was, in a few words, and how its configuration differs from the default one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metaward import sim
from metaward.client.desk import LEARNER, NETWORK, SOURCE
from metaward.sim import Sim

Fact = tuple[str, str]
"""A name and what stands beside it."""

ROLES = {"train": "train", "unseen": "judge the result", "validation": "choose the round"}
"""What hospitals of each role do."""


@dataclass(frozen=True)
class Differing:
    """A key whose value is not that of the default configuration; "" where that has no such key."""

    key: str
    value: str
    default: str


def facts(run: Sim, about: Mapping[str, Any], saved: Mapping[str, Any]) -> list[Fact]:
    """What the run was; ``about`` is the content of run.json, ``saved`` that of result.json."""
    client, server = run.client, run.server
    seats = Counter(seat.role for seat in client.tasks.roster())
    spec = client.tasks.spec()
    chosen = run.strategies.hospitals_per_round
    where = "simulation" if about.get("simulated", True) else "deployment"
    return [
        ("Hospitals", ", ".join(f"{n} {ROLES[role]}" for role, n in seats.items())),
        ("Tasks", f"{SOURCE.plain(client.tasks)[SOURCE.by]}, {spec.outputs} outputs"),
        (
            "Learner",
            f"{LEARNER.plain(client.inner)[LEARNER.by]}, {client.inner.inner_steps} inner steps in "
            f"training, {client.inner.adapt_steps} at the hospitals that judge",
        ),
        ("Network", str(NETWORK.plain(client.model)[NETWORK.by])),
        ("Rounds", f"{server.rounds}, with {chosen or 'all'} training hospitals in each"),
        ("Where", f"{where}, engine {server.engine}, seed {run.seed}, {saved['machine']}"),
        ("Code", ", ".join(about.get("code", []))),
        ("Versions", ", ".join(f"{name} {v}" for name, v in saved["versions"].items())),
    ]


def differing(run: Sim) -> list[Differing]:
    """The keys with other values than in sim.yaml, in the order of the file."""
    ours, default = dict(_flat(run.mapping())), dict(_flat(sim.load(sim.DEFAULT).mapping()))
    return [
        Differing(key, value, default.get(key, ""))
        for key, value in ours.items()
        if default.get(key) != value
    ]


def _flat(value: Any, path: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """The keys of nested mappings as section.key, with their values as they stand in yaml."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, (*path, str(key)))
    else:
        yield ".".join(path), json.dumps(value, ensure_ascii=False)
