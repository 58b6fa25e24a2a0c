"""How far the clipped vectors of a sum agree; the plan's ratio assumes that they do.

For every training hospital of a configuration the first round is computed without noise. The script
prints the length of the mean of all clipped vectors, as a share of the clip norm C: it is 100 %
where all vectors have length C and the same direction. The script opens records, so it is for
public or made-up data only.

    python benchmarks/agreement.py [sim.yaml] [--set section.key=value ...]
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from metaward import sim
from metaward.client import work
from metaward.client.charging import plan
from metaward.privacy import Opening
from metaward.privacy.mechanisms.sums import NoisySums, Sums
from metaward.privacy.noise import SeededNoise
from metaward.privacy.session import Contributions, Kind, Losses, MeanGradient, Points


@dataclass
class Watched(NoisySums):
    """Noisy sums that write down how long each mean is."""

    shares: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def mean(self, contributions: Contributions, kind: Kind, dim: int) -> Tensor:
        """The mean, whose length over the clip norm is kept."""
        mean = super().mean(contributions, kind, dim)
        self.note(kind, mean)
        return mean

    def gradient(
        self, losses: Losses, at: Points, kind: Kind, mask: Tensor, beside: Contributions = ()
    ) -> MeanGradient:
        """The same of a mean gradient, which Opacus may have taken without ``mean``."""
        before = len(self.shares[kind])
        found = super().gradient(losses, at, kind, mask, beside)
        if len(self.shares[kind]) == before:
            self.note(kind, found[0])
        return found

    def note(self, kind: Kind, mean: Tensor) -> None:
        """Keep the length of a mean, as a share of the clip norm."""
        self.shares[kind].append(float(mean.norm()) / self.mechanism.clip_of(kind))


def shares(run: sim.Sim, index: int) -> dict[str, list[float]]:
    """The shares of each kind of sum at one hospital in round 1."""
    desk, mechanism, learner = run.desk(), run.privacy, run.client.inner
    if not isinstance(mechanism, Sums):
        raise SystemExit(f"mechanism {mechanism.name} clips no records; choose sums")
    root = sim.data_root(run)
    hospital = work.open_hospital(desk.source, index, root, desk.seed)
    setting = work.open_setting(desk)
    share = work.tasks_of(desk, work.prepare(hospital, setting), index, 1)
    theta, rng = learner.initial(setting, run.seed), np.random.default_rng(0)
    price = plan(mechanism, learner, setting, theta, share, rng, desk.first, opening=True)
    silent = dict.fromkeys(price.noise, 0.0)
    opening = Opening(price.uses, silent, mechanism.unit.owners(hospital), SeededNoise(0))
    session = Watched(mechanism, opening)
    desk.worker(1).update(setting, theta, share.episodes, session, np.random.default_rng(0))
    return session.shares


def main() -> None:
    """Print the range over the training hospitals, one line for each kind of sum."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("config", nargs="?", type=Path, default=sim.DEFAULT)
    parser.add_argument("--set", action="append", default=[], help="key=value that wins")
    asked = parser.parse_args()
    run = sim.load(asked.config, asked.set)
    by_kind: dict[str, list[float]] = defaultdict(list)
    for index, seat in enumerate(run.client.tasks.roster()):
        if seat.role == "train":
            for kind, values in shares(run, index).items():
                by_kind[kind] += values
    for kind, values in by_kind.items():
        print(f"{kind}: {100 * min(values):.1f} to {100 * max(values):.1f} % of C")


if __name__ == "__main__":
    main()
