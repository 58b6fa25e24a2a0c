"""What clipping and noise leave of a sum's direction, measured on records that are public.

A clip norm far below the norms of the records' vectors turns their sum away from the plain one, a
clip norm far above them makes the noise needlessly large, and where vectors hardly agree their sum
is short beside any noise. No epsilon tells these apart, and at a hospital nobody may look. Public
records, made-up ones among them, can be looked at: ``Watching`` answers an algorithm as mechanism
``sums`` does, but without noise, and notes how long the vectors of each sum are and what becomes of
their mean under a range of clip norms.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaward.privacy.clipping import rows, unit_vectors
from metaward.privacy.mechanisms.base import Protected
from metaward.privacy.session import Contributions, Kind, OpenSession, Session

Floats = NDArray[np.float64]

FACTORS = 10.0 ** (np.arange(-8, 9) / 4)
"""Clip norms that are tried, as multiples of the configured one: 0.01 to 100."""
OWN = 8
"""The place of the configured one among them."""
TINY = 1e-300  # in the place of a length that is zero


VALUES = ("support", "centre", "features")
"""Kinds whose means a hospital uses as they are, so that their length counts as well. Of all others
theta follows the direction: an outer rate or a later scaling makes up for the length."""


@dataclass(frozen=True)
class Measure:
    """One or more sums, without noise, under each clip norm C that is tried.

    ``norms`` (units,) of the vectors (``dim``,) before clipping; ``direction`` (clip norms,) is the
    cosine between the mean of the clipped vectors and the plain mean, ``length`` (clip norms,) that
    of the clipped mean over that of the plain one, and ``agreement`` (clip norms,) that of the
    clipped mean over C: 1 where all vectors reach C and agree.
    """

    norms: Floats
    dim: int
    direction: Floats
    length: Floats
    agreement: Floats

    def left(self, noise: float, value: bool) -> Floats:
        """What is left of the plain mean (clip norms,), from 0 to 1, where the noise on the clipped
        mean is expected to be ``noise`` times C long: the cosine between them; for a ``value`` 1
        minus the length of their difference, over that of the plain mean."""
        noisy = self.length * noise / self.agreement
        if not value:
            return np.asarray(self.direction * self.length / np.hypot(self.length, noisy))
        square = 1 + self.length**2 - 2 * self.direction * self.length + noisy**2
        return np.asarray(np.maximum(1 - np.sqrt(np.maximum(square, 0)), 0))


@dataclass
class Sum:
    """``norms`` (units,) float64 of the vectors, their ``plain`` sum (d,) float64, and ``clipped``
    (clip norms, d), what it is under each clip norm."""

    norms: Floats
    plain: Tensor
    clipped: Tensor

    @classmethod
    def of(cls, vectors: Iterable[Tensor], clips: Floats) -> Sum:
        """The sum of the rows of all ``vectors`` (k, d); one that is not finite counts as zero."""
        parts = [_part(rows, torch.from_numpy(clips)) for rows in vectors]
        norms, plain, clipped = zip(*parts, strict=True)
        return cls(np.concatenate(norms), sum(plain), sum(clipped))

    def with_other(self, other: Sum) -> Sum:
        """The sum of both's vectors."""
        norms = np.concatenate([self.norms, other.norms])
        return Sum(norms, self.plain + other.plain, self.clipped + other.clipped)

    def measure(self, clips: Floats) -> Measure:
        """The numbers that are kept of it."""
        lengths, plain = self.clipped.norm(dim=1).clamp(min=TINY), self.plain.norm().clamp(min=TINY)
        cosines = (self.clipped @ self.plain / (lengths * plain)).clamp(-1, 1).numpy()
        agreement = lengths.numpy() / clips / len(self.norms)
        return Measure(self.norms, len(self.plain), cosines, (lengths / plain).numpy(), agreement)


def _part(vectors: Tensor, clips: Tensor) -> tuple[Floats, Tensor, Tensor]:
    own = vectors.detach().cpu().double()
    own = own.masked_fill(~own.isfinite().all(dim=1, keepdim=True), 0.0)
    norms = own.norm(dim=1)
    scale = (clips[:, None] / norms.clamp(min=TINY)).clamp(max=1.0)
    return np.asarray(norms.numpy()), own.sum(dim=0), scale @ own


@dataclass
class Notes:
    """What was noted at all hospitals together.

    The sums of a kind that theta follows (``pooled``) are added up, as the server adds them up;
    each sum of another kind is kept alone, because a hospital uses it alone.
    """

    mechanism: Protected
    pooled: Collection[str]
    sums: dict[str, Sum] = field(default_factory=dict)
    alone: dict[str, list[Measure]] = field(default_factory=lambda: defaultdict(list))

    def clips(self, kind: str) -> Floats:
        """The clip norms that are tried for a kind."""
        return FACTORS * self.mechanism.clip_of(kind)

    def note(self, kind: str, found: Sum) -> None:
        """Keep a sum."""
        if kind not in self.pooled:
            self.alone[kind].append(found.measure(self.clips(kind)))
        else:
            before = self.sums.get(kind)
            self.sums[kind] = found if before is None else before.with_other(found)

    def measures(self) -> dict[str, list[Measure]]:
        """All that was noted, by kind."""
        pooled = {kind: [one.measure(self.clips(kind))] for kind, one in self.sums.items()}
        return {**self.alone, **pooled}


@dataclass
class Watching(Session):
    """The session of mechanism ``sums`` without noise, on public records; ``units`` (n,) numbers
    the unit behind each row."""

    notes: Notes
    units: NDArray[Any]

    def __post_init__(self) -> None:
        self.trained = self.notes.mechanism.trained

    def mean(self, contributions: Contributions, kind: Kind, dim: int) -> Tensor:
        """The mean (dim,) of clipped vectors; what they were before is noted."""
        found = Sum.of(self._vectors(contributions, dim), self.notes.clips(kind))
        self.notes.note(kind, found)
        x = contributions[0][1].x
        mean = found.clipped[OWN] / sum(len(batch.rows) for _, batch in contributions)
        return mean.to(x.device, x.dtype if x.is_floating_point() else torch.float32)

    def _vectors(self, contributions: Contributions, dim: int) -> Iterable[Tensor]:
        for one, (x, y, at) in contributions:
            names, numbers = np.unique(self.units[at], return_inverse=True)
            group = torch.from_numpy(numbers.astype(np.int64)).to(x.device)
            yield from unit_vectors(one, x, y, group, len(names), rows(dim))


@dataclass
class WatchingTasks(OpenSession):
    """The session of mechanism ``whole`` without noise, on public records: tasks are noted."""

    notes: Notes | None = None

    def combine(self, directions: Sequence[Tensor]) -> Tensor:
        """The mean of the clipped directions."""
        assert self.notes is not None
        found = Sum.of([torch.stack(list(directions))], self.notes.clips("update"))
        self.notes.note("update", found)
        return (found.clipped[OWN] / len(directions)).to(directions[0])
