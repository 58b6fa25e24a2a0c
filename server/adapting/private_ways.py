"""What a private adaptation is set beside: each way with noise of its own, and what noise costs.

Every row with noise has the epsilon that is asked, for itself: it is what the hospital would have
published in the place of the first one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count

import torch

from metaward.client.tasks.base import IntArray
from metaward.privacy import Sums
from metaward.privacy.noise import SeededNoise
from metaward.server.adapting.noised import Noising
from metaward.server.adapting.records import Labelled
from metaward.server.adapting.ways import RecordBench, Rival, centroid_of, logistic_of, start_of
from metaward.server.baselines import own, scratch, untrained
from metaward.server.evaluations.finished import Finished

STREAM = 11  # the random stream of the noise under which an adaptation is judged
BEFORE = 2
"""The place of the learner before its steps among the ways."""
EXACT = "NO PRIVACY"


@dataclass(frozen=True, eq=False)
class PrivateWays:
    """The ways of a run at a hospital under ``mechanism``; noise comes from ``seed``."""

    finished: Finished
    bench: RecordBench
    held: Labelled
    mechanism: Sums
    seed: int

    def of(self, steps: int) -> Iterator[Rival]:
        """The private adaptation first, then the same without noise, and what it has to beat."""
        run, mine, bench = self.finished.run, own(self.finished.run), self.bench
        theta, numbers = torch.from_numpy(self.finished.theta), count()
        eps = f"epsilon {self.mechanism.epsilon:g}"
        yield bench.way(f"{mine.name}, {eps}", mine.learner, theta, steps, self._noise(numbers))
        yield bench.way(f"{mine.name}, {EXACT}", mine.learner, theta, steps)
        yield bench.way(f"before steps, {eps}", mine.learner, theta, 0, self._noise(numbers))
        for one in untrained(run):
            start = start_of(self.finished, bench, one)
            yield bench.way(f"{one.name}, {eps}", one.learner, start, steps, self._noise(numbers))
        for one in scratch(run):
            start, taken = start_of(self.finished, bench, one), one.learner.adapt_steps
            everything = replace(self.mechanism, train=("body", "norm", "head"))
            noise = self._noise(numbers, everything)
            yield bench.way(f"{one.name}, {eps}", one.learner, start, taken, noise)
        for way in (centroid_of(self.finished, self.held), logistic_of(self.held)):
            yield way._replace(name=f"{way.name}, {EXACT}")

    def _noise(self, numbers: Iterator[int], mechanism: Sums | None = None) -> Noising:
        """A stream of noise of its own for the next way."""
        noise = SeededNoise(self.seed, STREAM, next(numbers))
        return Noising(mechanism or self.mechanism, self._owners(), noise)

    def _owners(self) -> IntArray:
        """The unit behind each record, by number."""
        return self.mechanism.unit.owners(self.held.at("here"))
