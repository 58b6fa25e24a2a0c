"""How often an attacker tells two worlds apart who differ in one nulled unit, beside the claim.

For every mechanism with every unit that it protects, one hospital of the source ``sine`` goes three
times through its records. A coin decides whether one unit's records are there or nulled; the
attacker sees what leaves in all rounds, through the mechanism's own session with noise of the
operating system, and knows everything else: both worlds' releases without noise, hence the most
powerful test (Neyman, Pearson 1933), the sign of the log-likelihood ratio. The learner takes one
step of Reptile, so that a release is linear in its noisy sums, and the clip norm is so small that
every vector is clipped: units move sums as far as they may.

The claim is Phi(mu / 2) at the mu that the ledger has charged to the unit in a run of these rounds
through the hospital's app. The exit code is 1 where an accuracy is above the claim by more than
chance: where a one-sided test of the claim would be wrong once in 1,000.

    PYTHONPATH=. python benchmarks/worlds.py [--trials 1000] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from math import ceil, sqrt
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import beta, binom

from metaward.client import work
from metaward.client.charging import plan
from metaward.client.desk import Desk
from metaward.client.inner.reptile import Reptile
from metaward.client.models.mlp import Mlp
from metaward.client.schedule import deal
from metaward.client.tasks.base import Hospital
from metaward.client.tasks.sine import Sine
from metaward.privacy import MECHANISMS, UNITS, Mechanism, Opening
from metaward.privacy.accounting import gdp
from metaward.privacy.noise import Noise, SystemNoise
from tests.privacy.lockstep import INDEX, emptied, live

SOURCE = Sine(shots=1, queries=2, hospitals=1, unseen=1, functions=4, points=6)
SEED, PASSES, A_PASS = 5, 3, 2
"""A pass takes so many rounds."""
CLIP, CHANCE = 2.0**-10, 1e-3
Vector = NDArray[np.float64]


def mechanisms() -> Iterator[Mechanism]:
    """Every protecting mechanism with every unit that it can protect."""
    for cls in MECHANISMS.values():
        for unit in UNITS.values():
            if unit.protected and cls.serves(unit):
                small = {"clip_norm": CLIP} if "clip_norm" in options_of(cls) else {}
                yield cls(unit=unit, **small)  # type: ignore[call-arg]


@dataclass
class Constant:
    """Noise that is the same in every coordinate: 0 shows a release without noise, 1 its scale."""

    value: float
    name: str = "constant"
    secret: bool = False

    def gaussian(self, n: int) -> Vector:
        """The value, n times."""
        return np.full(n, self.value)

    def uniform(self, n: int) -> Vector:
        """An error: a draw of units has no scale, and the releases here are of rate 1."""
        raise ValueError("constant noise draws no units; attack mechanisms of sampling rate 1")


class Known(NamedTuple):
    """What the attacker knows of a round: its release in each world, and the noise's scale."""

    there: Vector
    nulled: Vector
    scale: Vector


class Round:
    """One round of a hospital, charged for, to be computed as often as one likes."""

    def __init__(self, desk: Desk, hospital: Hospital, number: int) -> None:
        self.desk, self.hospital, self.number = desk, hospital, number
        self.setting = work.open_setting(desk)
        self.theta = desk.learner.initial(self.setting, desk.seed)
        self.share = work.tasks_of(desk, hospital, INDEX, number)
        start = (desk.learner, self.setting, self.theta, self.share, self.rng())
        self.price = plan(desk.mechanism, *start)

    def rng(self) -> np.random.Generator:
        """The learner's own random stream, which is no secret."""
        return np.random.default_rng([self.desk.seed, self.number])

    def released(self, noise: Noise) -> Vector:
        """What leaves, by way of the server where that adds the noise."""
        mechanism, multipliers = self.desk.mechanism, self.price.noise
        owners = mechanism.unit.owners(self.hospital)
        session = mechanism.session(Opening(self.price.uses, multipliers, owners, noise))
        tasks, rng = self.share.episodes, self.rng()
        update = self.desk.learner.update(self.setting, self.theta, tasks, session, rng)
        name = self.hospital.seat.name
        left = mechanism.release(name, self.number, update.delta, update.loss, None).update[None]
        sigma = max(multipliers.values())
        found = mechanism.at_server(left, lambda given: given.mean(axis=0), sigma, noise)
        return np.asarray(found, np.float64)


def options_of(cls: type[Any]) -> set[str]:
    """The names of its fields."""
    return {f.name for f in fields(cls)}


def attack(
    desk: Desk, there: Hospital, nulled: Hospital, trials: int, rng: np.random.Generator
) -> int:
    """How many of the trials the attacker gets right."""
    numbers = range(1, desk.rounds + 1)
    full, empty = ([Round(desk, hospital, n) for n in numbers] for hospital in (there, nulled))
    known = [
        Known(
            a.released(Constant(0)),
            b.released(Constant(0)),
            np.abs(np.subtract(a.released(Constant(1)), a.released(Constant(0)))),
        )
        for a, b in zip(full, empty, strict=True)
    ]
    right = 0
    for present in rng.random(trials) < 0.5:
        seen = [one.released(SystemNoise()) for one in (full if present else empty)]
        right += bool(sum(map(ratio, known, seen)) > 0) == bool(present)
    return right


def ratio(known: Known, seen: Vector) -> float:
    """The log-likelihood ratio of one round, above 0 where the unit is rather there."""
    a, b, scale = known
    noised = scale > 0
    assert np.array_equal(a[~noised], b[~noised]), "something leaves without noise"
    middle, difference = (a + b)[noised] / 2, (a - b)[noised]
    return float(((seen[noised] - middle) * difference / scale[noised] ** 2).sum())


def measured(mechanism: Mechanism, trials: int) -> dict[str, Any]:
    """The figures of one mechanism."""
    hospital = SOURCE.hospital(INDEX, None, SEED)
    tasks = ceil(len(deal(hospital, mechanism.unit, np.random.default_rng(SEED))) / A_PASS)
    rounds = PASSES * A_PASS
    desk = Desk(SOURCE, Mlp((3,)), Reptile(steps=1), mechanism, tasks, "passes", SEED, rounds, 1)
    with tempfile.TemporaryDirectory() as folder:
        lived = live(desk, lambda _: SOURCE, Path(folder))
        mu, moved = sqrt(lived.charged), sqrt(sum(d**2 for d in lived.moved))
    nulled = emptied(hospital, lived.unit.names, np.nan)
    right = attack(desk, hospital, nulled, trials, np.random.default_rng(1))
    claim = gdp.attack_accuracy(mu)
    return {
        "mechanism": mechanism.name,
        "unit": mechanism.unit.name,
        "rounds": desk.rounds,
        "mu_charged": mu,
        "mu_moved": moved,
        "claim": claim,
        "accuracy": right / trials,
        "interval_95": interval(right, trials),
        "p_value_of_claim": float(binom.sf(right - 1, trials, claim)),
    }


def interval(right: int, trials: int, level: float = 0.95) -> list[float]:
    """Clopper and Pearson (1934): the exact interval of a frequency."""
    tail = (1 - level) / 2
    low = beta.ppf(tail, right, trials - right + 1) if right else 0.0
    high = beta.ppf(1 - tail, right + 1, trials - right) if right < trials else 1.0
    return [float(low), float(high)]


def main() -> None:
    """Measure and print; ``--out`` also writes the figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--trials", type=int, default=1000)
    options.add_argument("--out", type=Path)
    chosen = options.parse_args()
    torch.set_num_threads(1)
    cases = [measured(mechanism, chosen.trials) for mechanism in mechanisms()]
    figures = {
        "passes": PASSES,
        "trials": chosen.trials,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cases": cases,
    }
    text = json.dumps(figures, indent=1)
    print(text)
    if chosen.out:
        chosen.out.write_text(text + "\n", encoding="utf-8")
    sys.exit(any(case["p_value_of_claim"] < CHANCE for case in cases))


if __name__ == "__main__":
    main()
