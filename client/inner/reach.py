"""How long an honest update can be, where every sum behind it is clipped and noised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import hypot, sqrt


@dataclass(frozen=True)
class Reach:
    """A bound on a vector: ``signal`` + ``noise`` + ``theta`` times the norm of theta.

    ``signal`` bounds what clipped vectors add, ``noise`` with high probability the Gaussian noise
    on them, ``theta`` the share of theta itself, which everybody knows. Signals of several vectors
    add up at worst. Their noises are drawn apart, so that the squares of their lengths do; the
    bound on one must suit as many coordinates as the longest of the vectors has.
    """

    signal: float
    noise: float
    theta: float = 0.0

    def times(self, factor: float, count: int = 1) -> Reach:
        """The sum of ``count`` vectors within this reach, each multiplied by ``factor``."""
        return Reach(
            factor * count * self.signal,
            factor * sqrt(count) * self.noise,
            factor * count * self.theta,
        )

    def __add__(self, other: Reach) -> Reach:
        """The sum of two vectors."""
        noise = hypot(self.noise, other.noise)
        return Reach(self.signal + other.signal, noise, self.theta + other.theta)


Means = Mapping[str, Reach]
"""Kind of sum -> the reach of every noisy mean of it in a round."""
