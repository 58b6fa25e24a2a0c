"""A mechanism for units that metaward knows: vectors are normalised instead of clipped.

Bu, Wang, Zha, Karypis 2023: Automatic Clipping: Differentially Private Deep Learning Made Easier
and Stronger. A record's vector v becomes C v / (|v| + 0.01 C), so a short one counts almost as much
as a long one, and no clip norm needs to be found. Its norm is below C, so noise and price are those
of ``sums``: one sum is (1/sigma)-GDP for a record being nulled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from metaward.privacy import Contribution, Kind, Opening, Session, Sums, Unit
from metaward.privacy.mechanisms.noisy_sums import NoisySums
from metaward.privacy.session import Contributions

SMALL = 0.01  # of the clip norm: keeps a vector of length zero where it is


@dataclass(frozen=True)
class Normalised(Sums):
    """Sums over records, in which each record has nearly the same length."""

    name: ClassVar[str] = "normalised"

    @classmethod
    def serves(cls, unit: Unit) -> bool:
        """Single records: vectors of one owner would have to be added up before."""
        return unit.protected and unit.single

    def session(self, opening: Opening) -> Session:
        """Noisy sums of normalised vectors."""
        return NormalisedSums(self, opening)


class NormalisedSums(NoisySums):
    """The session of ``Normalised``."""

    def mean(self, contributions: Contributions, kind: Kind, dim: int) -> Tensor:
        """As the session of ``Sums``, of normalised vectors."""
        norm = self.mechanism.clip_of(kind)
        scaled = [(_normalised(one, norm), batch) for one, batch in contributions]
        return super().mean(scaled, kind, dim)


def _normalised(one: Contribution, norm: float) -> Contribution:
    def scaled(x: Tensor, y: Tensor) -> Tensor:
        vector = one(x, y)
        return vector * (norm / (vector.norm() + SMALL * norm))

    return scaled
