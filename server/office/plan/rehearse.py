"""A run on public hospitals, with and without privacy, before the one on private ones.

Everything that decides whether a run can work (noise, clipping, rates, how hospitals differ) is in
it. What it foretells is as good as the public tasks are like the private ones: give the public
source as many hospitals and records as there really are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import sqrt
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from metaward.server.office.plan.plan import DressRehearsal, Outlook, Planned
from metaward.server.start import execute, new_folder
from metaward.sim import Sim, parse

SHARES = (0.25, 0.5)
"""A run cannot work where privacy leaves at most the first share of the gain, and can from the
second on."""
BESIDE = ("no_privacy", "untrained")


def rehearse(run: Sim, seeds: int) -> DressRehearsal:
    """Run it with ``seeds`` seeds, its own and the next ones, in folders that are then removed.

    ``RunError`` where a run fails.
    """
    tables = [_table(run, run.seed + k) for k in range(seeds)]
    private, no_privacy, untrained = (
        np.array([table["rows"][row]["after"] for table in tables]) for row in range(3)
    )
    score = run.spec().kind.scores[0]
    gain = (no_privacy - untrained) * (1 if score.higher_is_better else -1)
    gains = gain.mean() > _half(gain)
    return DressRehearsal(
        seeds=seeds,
        score=score.name,
        untrained=float(untrained.mean()),
        private=float(private.mean()),
        no_privacy=float(no_privacy.mean()),
        share=float((private - untrained).mean() / (no_privacy - untrained).mean())
        if gains
        else None,
    )


def outlook(told: DressRehearsal) -> Outlook:
    """The verdict that a rehearsal comes to; where training gains nothing it is doubtful."""
    if told.share is None or SHARES[0] < told.share < SHARES[1]:
        return "doubtful"
    return "can work" if told.share >= SHARES[1] else "cannot work"


def rehearsed_plan(plan: Planned, told: DressRehearsal) -> Planned:
    """The plan with a rehearsal, whose verdict takes the place of the ratio's."""
    return replace(plan, rehearsal=told, verdict=outlook(told))


def _half(values: NDArray[np.float64]) -> float:
    """Half the 95 % t-interval of the mean (n,); 0 for a single value."""
    n = len(values)
    return float(stdtrit(n - 1, 0.975) * values.std(ddof=1) / sqrt(n)) if n > 1 else 0.0


def _table(run: Sim, seed: int) -> Any:
    """The main table of one run: the private learner, then ``BESIDE``."""
    mapping = run.mapping()
    mapping["seed"] = seed
    mapping["server"]["evaluation"]["baselines"] = list(BESIDE)
    mapping["server"]["evaluation"]["scratch_steps"] = 0
    with TemporaryDirectory() as place:
        this = parse(mapping)
        folder = new_folder(this, Path(place) / "run")
        execute(this, folder, _unseen)
        return folder.result()["tables"][0]


def _unseen(row: Mapping[str, Any]) -> None:
    """Nobody watches a rehearsal's rounds."""
