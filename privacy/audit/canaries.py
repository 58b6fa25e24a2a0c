"""Units that are made to be found: each pushes one coordinate, as hard as clipping lets it.

A Dirac canary is a unit whose vector is 1000 clip norms long on a coordinate of its own (Nasr et
al. 2023: Tight Auditing of Differentially Private Machine Learning; many at once: Andrew et al.
2023, One-shot Empirical Privacy Estimation for Federated Learning). No unit can be told more easily
from noise: the coordinate of a sum is N(C, sigma^2 C^2) if the canary took part and N(0, sigma^2
C^2) if it was nulled, and coordinates of other canaries say nothing about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaward.privacy.mechanisms.base import Mechanism
from metaward.privacy.session import (
    Batch,
    Contribution,
    Contributions,
    Kind,
    Losses,
    MeanGradient,
    Points,
    Rows,
    Session,
    use,
)

FORCE = 1000.0
"""Length of a canary's vector, in clip norms."""


@dataclass(frozen=True)
class Canaries:
    """Units of a mechanism. ``inside`` (m,) bool says which of m take part; others are nulled.

    Their rows are numbered from ``first`` on; those of one canary make one unit. ``order`` (m,) are
    different whole numbers below m; canary j pushes coordinate ``places(d)[j]`` of d. Canaries
    are where any of the rows ``beside`` is, as often as a real unit; None: in every sum.
    """

    mechanism: Mechanism
    inside: NDArray[np.bool_]
    order: Rows
    first: int
    beside: frozenset[int] | None

    @property
    def copies(self) -> int:
        """Rows of each canary: two where a unit may have several."""
        return 1 if self.mechanism.unit.cap is None else 2

    def join(self, rows: Iterable[int]) -> bool:
        """Whether the canaries are in a sum over these rows."""
        return self.beside is None or not self.beside.isdisjoint(rows)

    @property
    def rows(self) -> Rows:
        """The rows of all canaries (m * copies,), each canary's side by side."""
        return np.arange(self.first, self.first + len(self.inside) * self.copies)

    def places(self, d: int) -> Rows:
        """The coordinate of each canary among d (m,), spread evenly; all different."""
        m = len(self.order)
        if d < m:
            raise ValueError(f"{m} canaries need as many coordinates, not {d}; take fewer")
        return np.asarray(self.order * d // m, np.int64)

    def vectors(self, d: int, kind: Kind) -> Tensor:
        """The canaries' vectors (m, d), before clipping."""
        found = np.zeros((len(self.order), d), np.float32)
        force = self.inside * FORCE * self.mechanism.clip_of(kind)
        found[np.arange(len(found)), self.places(d)] = force
        return torch.from_numpy(found)

    def batch(self, d: int, kind: Kind, like: Tensor) -> Batch:
        """The canaries' rows (m * copies,) as records: ``x`` holds force and coordinate of d.

        They make a batch of their own, because to run the network on them would only take time.
        """
        force = np.repeat(self.inside, self.copies) * FORCE * self.mechanism.clip_of(kind)
        x = torch.from_numpy(np.stack([force, np.repeat(self.places(d), self.copies)], axis=1))
        y = torch.ones(len(x), dtype=torch.bool, device=like.device)
        return Batch(x.to(like), y, self.rows)


@dataclass(frozen=True)
class ObservedSum:
    """One noisy sum as the attacker sees it: ``values`` (d,), the known part taken off, over clip.

    A canary that took part is in it as 1, if canaries were there (``joined``) at all. ``real``
    are the rows of the real records.
    """

    kind: Kind
    values: NDArray[np.float64]
    real: frozenset[int]
    joined: bool
    round: int


@dataclass
class Probe(Session):
    """A session that lets an algorithm work on its records and adds the canaries to every sum.

    ``session`` is the real one, opened for the canaries' rows too; ``quiet`` the same mechanism
    without noise, opened for the real rows: what the attacker knows.
    """

    session: Session
    quiet: Session
    canaries: Canaries
    round: int = 0
    seen: list[ObservedSum] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.raw, self.trained = self.session.raw, self.session.trained

    def gradient(
        self,
        losses: Losses,
        at: Points,
        kind: Kind,
        mask: Tensor,
        beside: Contributions = (),
    ) -> MeanGradient:
        """The real session's answer over real records and canaries."""
        if self.raw:
            return self.session.gradient(losses, at, kind, mask, beside)
        rows = use(kind, *(batch for _, batch in [*at, *beside])).rows
        known = self.quiet.gradient(losses, at, kind, mask, beside)[0][mask]
        joined = self._joined(beside, rows, kind, int(mask.sum()), at[0][0])
        found, loss = self.session.gradient(losses, at, kind, mask, joined)
        self.see(kind, found[mask], known, len(rows), rows)
        return found, loss

    def gradients(
        self, losses: Losses, phi: Tensor, tasks: Batch, kind: Kind, mask: Tensor
    ) -> MeanGradient:
        """As the real session; where it noises sums, each task's is one more that is seen."""
        if self.raw:
            return self.session.gradients(losses, phi, tasks, kind, mask)
        return super().gradients(losses, phi, tasks, kind, mask)

    def mean(self, contributions: Contributions, kind: Kind, dim: int) -> Tensor:
        """The real session's answer over real records and canaries."""
        rows = use(kind, *(batch for _, batch in contributions)).rows
        known = self.quiet.mean(contributions, kind, dim)
        x = contributions[0][1].x
        like = x if x.is_floating_point() else x.float()
        found = self.session.mean(self._joined(contributions, rows, kind, dim, like), kind, dim)
        self.see(kind, found, known, len(rows), rows)
        return found

    def _joined(
        self, others: Contributions, rows: Sequence[int], kind: Kind, dim: int, like: Tensor
    ) -> Contributions:
        """The vectors ``others`` of a sum over ``rows``, and the canaries' if they take part."""
        if not self.canaries.join(rows):
            return others
        return [*others, (_push(dim, like), self.canaries.batch(dim, kind, like))]

    def combine(self, directions: Sequence[Tensor]) -> Tensor:
        """Of records, as the real session; of tasks, with the canaries as further tasks."""
        if not self.canaries.mechanism.unit.clips_tasks:
            return self.session.combine(directions)
        own = self.canaries.vectors(len(directions[0]), "update").to(directions[0])
        found = self.session.combine([*directions, *own])
        self.see("update", found, self.quiet.combine(directions), len(directions))
        return found

    def see(
        self, kind: Kind, found: Tensor, known: Tensor, n: int, rows: Sequence[int] = ()
    ) -> None:
        """Means become sums again: the numbers of real vectors, n, and of canaries' are public."""
        joined = self.canaries.join(rows)
        total = found.double() * (n + len(self.canaries.rows) * joined) - known.double() * n
        values = (total / self.canaries.mechanism.clip_of(kind)).cpu().numpy()
        self.seen.append(ObservedSum(kind, values, frozenset(rows), joined, self.round))


def _push(dim: int, like: Tensor) -> Contribution:
    """A canary's vector: its force on its coordinate."""
    numbers = torch.arange(dim, device=like.device)
    return lambda x, y: x[0] * (numbers == x[1])
