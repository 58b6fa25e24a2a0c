"""What an audit found, as plain data: a bound, checks of the mechanism's parts, faults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from metaward.privacy.session import Kind

Code = Literal[
    "bound",
    "attack-too-weak",
    "sensitivity",
    "not-finite",
    "noise-too-small",
    "noise-too-large",
    "noise-repeated",
    "noise-shape",
    "records-mixed",
]
Between = Literal["steps", "tasks", "rounds", "layers"]


@dataclass(frozen=True)
class LayerNoise:
    """Standard deviation of the noise on one layer over the claimed one; ``low`` to ``high`` holds
    the truth with probability 1 - ``AuditReport.level``."""

    kind: str
    layer: str
    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class Correlation:
    """The largest correlation of the noise in ``pairs`` pairs, and how likely one so large is."""

    between: Between
    pairs: int
    largest: float
    p: float


@dataclass(frozen=True)
class Fault:
    """What is wrong: a fixed code, and a sentence with the measured and the claimed value."""

    code: Code
    text: str


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
class Measured:
    """What the checks of the mechanism's parts measured.

    ``sensitivity`` is how far a canary moves a sum of each kind, over the clip norm (1: exactly as
    claimed); ``extreme`` the same for one record of 1e30 beside ones that are not finite, infinity
    where the mechanism stopped at them. ``gaussian_p`` is how likely Gaussian noise looks so little
    like it. ``mixing`` is how far one record's output moved when the others in the batch were
    replaced, None where no network was given.
    """

    sensitivity: Mapping[Kind, float]
    extreme: Mapping[Kind, float]
    layers: tuple[LayerNoise, ...]
    correlations: tuple[Correlation, ...]
    gaussian_p: float
    mixing: float | None


@dataclass(frozen=True, kw_only=True)
class AuditReport(Effort, Measured):
    """An audit of one mechanism as one run uses it.

    ``claimed_mu`` is what the charges of the played rounds add up to for one canary; ``mu_lower``
    its one-sided lower bound at ``confidence``, measured; ``mu_lower_any`` the looser one that
    assumes nothing about the noise. ``level`` is the probability that a sound mechanism fails any
    one check, 1 - ``confidence`` for the bound. ``epsilon`` values are at ``delta``.
    """

    unit: str
    mechanism: str
    delta: float
    confidence: float
    level: float
    sums: int
    claimed_mu: float
    mu_lower: float
    mu_lower_any: float
    claimed_epsilon: float
    epsilon_lower: float
    epsilon_lower_any: float
    noise_multipliers: Mapping[str, float]
    noise_source: str
    secret: bool
    faults: tuple[Fault, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing was found wrong."""
        return not self.faults

    @property
    def tightness(self) -> float:
        """The measured bound over the claim; near 1 the claim is not loose."""
        return self.mu_lower / self.claimed_mu

    @property
    def smallest_noise(self) -> LayerNoise:
        """The layer with the least noise for its claim."""
        return min(self.layers, key=lambda layer: layer.ratio)
