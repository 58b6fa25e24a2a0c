"""The attack: the real mechanism is run with canaries among real records, many times over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaward.privacy.audit.canaries import Canaries, ObservedSum, Probe
from metaward.privacy.mechanisms.base import Mechanism, Opening
from metaward.privacy.noise import Noise, SeededNoise
from metaward.privacy.session import Batch, Kind, Rehearsal, Session, Use

Work = Callable[[Session], Tensor]
"""One round of the real algorithm on fixed records; its update (dim,). Repeatable."""

KEPT = 20_000_000
"""Values of sums that are kept for the checks of the noise, 8 bytes each; all of them count for the
bound."""


@dataclass(frozen=True)
class Effort:
    """How much is played: ``lives`` times ``rounds`` rounds with ``canaries`` canaries each.

    Each life gives a score for each canary. How many scores a tight bound takes:
    ``bounds.trials_needed`` of the mu of ``rounds`` rounds.
    """

    canaries: int = 200
    rounds: int = 2
    lives: int = 6

    def __post_init__(self) -> None:
        if self.canaries < 2 or self.rounds < 1 or self.lives < 1:
            raise ValueError(f"{self}: give at least 2 canaries, 1 round and 1 life")
        if self.canaries * self.lives < 100:
            raise ValueError(f"{self} gives below 100 scores, too few for the normal bound")


@dataclass(frozen=True)
class Stage:
    """What is audited: a mechanism as a run uses it.

    ``tasks`` are the rows of each task that ``work`` uses; ``units`` (n,) numbers or names the unit
    behind each row; ``noise_multipliers`` and ``noise`` are the run's own, ``noise`` a source for
    each round.

    ``ValueError``: mechanism ``none`` or no noise, where nothing is claimed; a secret draw
    (sampling rate below 1), for which this attack has no closed form.
    """

    mechanism: Mechanism
    work: Work
    tasks: Sequence[Sequence[int]]
    units: NDArray[np.generic]
    noise_multipliers: Mapping[str, float]
    noise: Callable[[int], Noise]

    def __post_init__(self) -> None:
        if not self.mechanism.unit.protected:
            name = self.mechanism.name
            raise ValueError(f"mechanism {name} protects nothing, so there is nothing to audit")
        if self.mechanism.sampling_rate < 1:
            raise ValueError(
                f"sampling_rate = {self.mechanism.sampling_rate}: this attack has no closed form "
                "for a secret draw; audit the same mechanism with sampling_rate 1"
            )
        if min(self.noise_multipliers.values()) <= 0:
            raise ValueError(f"noise multipliers {dict(self.noise_multipliers)}: nothing is hidden")

    def canaries(
        self, m: int, rng: np.random.Generator, beside: frozenset[int] | None = None
    ) -> Canaries:
        """m canaries, half of them inside."""
        inside, order = rng.permutation(np.arange(m) < m // 2), rng.permutation(m)
        return Canaries(self.mechanism, inside, order, len(self.units), beside)

    def costliest(self) -> frozenset[int] | None:
        """Rows of the unit that pays most: a record, or all records of a task where a unit may
        have several.

        Canaries are put beside it, into the same sums. None where whole updates are the units.
        """
        if self.mechanism.unit.whole:
            return None
        whole = [frozenset(map(int, rows)) for rows in self.tasks]
        alone = [frozenset([row]) for rows in whole for row in rows]
        candidates = alone if self.mechanism.unit.single else whole
        uses = self.uses(None)
        return max(candidates, key=lambda rows: self._precision(uses, rows))

    def _precision(self, uses: Sequence[Use], rows: frozenset[int]) -> float:
        """mu^2 of a unit that has these rows."""
        joined = (kind for kind, those in uses if rows & set(those))
        return sum(self.noise_multipliers[kind] ** -2 for kind in joined)

    def uses(self, canaries: Canaries | None) -> list[Use]:
        """What the work asks for, with the canaries or without."""

        def rehearse() -> list[Use]:
            rehearsal, known = (Rehearsal(self.mechanism.trained) for _ in range(2))
            self.work(Probe(rehearsal, known, canaries) if canaries else rehearsal)
            return rehearsal.uses

        extra = [] if canaries is None else [[int(row)] for row in canaries.rows]
        return self.mechanism.uses(rehearse, [*self.tasks, *extra])

    def session(self, canaries: Canaries | None, noise: Noise | None) -> Session:
        """The real session for these uses; without noise where None is given."""
        sigma = self.noise_multipliers if noise else dict.fromkeys(self.noise_multipliers, 0.0)
        units = self.units.astype(str)
        if canaries is not None:
            names = np.char.add("canary ", np.repeat(canaries.order, canaries.copies).astype(str))
            units = np.concatenate([units, names])
        opening = Opening(self.uses(canaries), sigma, units, noise or SeededNoise(0))
        return self.mechanism.session(opening)

    def round(self, number: int, canaries: Canaries, noise: Noise | None) -> list[ObservedSum]:
        """One round's sums as the attacker sees them, in order."""
        probe = Probe(self.session(canaries, noise), self.session(None, None), canaries, number)
        update = self.work(probe)[None]
        if self.mechanism.unit.noise_at_server:
            own = canaries.vectors(update.shape[1], "update").to(update)
            found = self._server_mean(torch.cat([update, own]), noise)
            probe.see("update", found, self._server_mean(update, None), 1)
        return probe.seen

    def sum_of(self, vectors: Tensor, kind: Kind) -> Tensor:
        """Vectors (m, d), each a unit's, summed (d,) as the mechanism sums this kind, silently."""
        unit, rows = self.mechanism.unit, np.arange(len(vectors))
        if unit.noise_at_server:
            return self._server_mean(vectors, None) * len(rows)
        together = rows[:, None] if unit.whole else rows[None]
        uses = [Use(kind, tuple(part.tolist())) for part in together]
        session = self.mechanism.session(Opening(uses, {kind: 0.0}, rows, SeededNoise(0)))
        if unit.whole:
            return session.combine(list(vectors)) * len(rows)
        batch = Batch(vectors, torch.from_numpy(rows), rows)
        return session.mean([(lambda x, y: x, batch)], kind, vectors.shape[1]) * len(rows)

    def _server_mean(self, updates: Tensor, noise: Noise | None) -> Tensor:
        """Each hospital's update (d,) through the door, then to the server's noisy mean."""
        leave, sigma = self.mechanism.release, self.noise_multipliers["update"] if noise else 0.0
        left = np.stack([leave("canary", 1, v, torch.zeros(()), None).update for v in updates])
        source = noise or SeededNoise(0)
        mean = self.mechanism.at_server(left, lambda v: v.mean(axis=0), sigma, source)
        return torch.from_numpy(mean).double()


@dataclass(frozen=True)
class Life:
    """Canaries, their ``scores`` (m,), and the sums of a few rounds: how many, and those kept."""

    canaries: Canaries
    scores: NDArray[np.float64]
    sums: int
    seen: Sequence[ObservedSum]

    def noise(self, seen: ObservedSum, effect: float) -> ObservedSum:
        """A sum of which only the noise is left: the canaries taken off, each with its effect."""
        found = seen.values.copy()
        if seen.joined:
            found[self.canaries.places(len(found))] -= self.canaries.inside * effect
        return replace(seen, values=found)


def lives(stage: Stage, size: Effort, rng: np.random.Generator) -> Iterator[Life]:
    """Independent lives, each with fresh canaries; sums of the later ones are not kept."""
    beside, kept = stage.costliest(), 0
    for life in range(size.lives):
        canaries = stage.canaries(size.canaries, rng, beside)
        played = range(life * size.rounds, (life + 1) * size.rounds)
        seen = [s for r in played for s in stage.round(r, canaries, stage.noise(r))]
        scores = _scores(canaries, seen, stage.noise_multipliers)
        yield Life(canaries, scores, len(seen), seen if kept < KEPT else [])
        kept += sum(len(s.values) for s in seen)


def _scores(
    canaries: Canaries, sums: Sequence[ObservedSum], multipliers: Mapping[str, float]
) -> NDArray[np.float64]:
    """One score a canary (m,): N(0, 1) if it was nulled, N(mu, 1) if it took part, as claimed.

    The likelihood ratio of Gaussians is a sum weighted by 1 / sigma^2: no other score tells more
    (Neyman, Pearson 1933).
    """
    total, precision = np.zeros(len(canaries.inside)), 0.0
    for seen in (seen for seen in sums if seen.joined):
        weight = multipliers[seen.kind] ** -2
        total += seen.values[canaries.places(len(seen.values))] * weight
        precision += weight
    return np.asarray(total / np.sqrt(precision))
