"""What the protecting mechanisms share: a budget, a clip norm, noise that keeps the budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from metaward.privacy.accounting import advantage, gdp
from metaward.privacy.event import Budget, Mark
from metaward.privacy.mechanism import Combine, Unit, Vectors
from metaward.privacy.noise import Noise
from metaward.privacy.price import Counts, calibrate, counts, distinct
from metaward.privacy.release import Release, Scores, Values, sealed_scores, sealed_update
from metaward.privacy.report.numbers import percent_up
from metaward.privacy.session import ALL_GROUPS, ParameterGroup, Use

Epsilon = Annotated[float, Field(gt=0, le=100)]
Delta = Annotated[float, Field(gt=0, lt=1e-2)]
Multiplier = Annotated[float, Field(gt=0, le=65535)]
Norm = Annotated[float, Field(gt=0, le=1e6)]


@dataclass(frozen=True)
class Protected:
    """Options of every mechanism but ``none``.

    ``epsilon`` at ``delta`` is the most that the run may spend on any one unit, over all rounds.
    ``noise_multiplier`` is the standard deviation of the noise over the clip norm; null: for each
    kind of sum the smallest that keeps the budget if a unit takes part as often as the schedule
    allows. ``clip_norm`` is C, the largest norm a unit's contribution to one sum may have.
    """

    epsilon: Epsilon = 8.0
    """The most that the run may spend on any one unit, over all rounds."""
    delta: Delta = 1e-5
    """The delta at which this epsilon holds; keep it below 1 / (records of a hospital)."""
    noise_multiplier: Multiplier | None = None
    """The standard deviation of the noise over the clip norm; null: for each kind of sum the
    smallest that keeps the budget."""
    clip_norm: Norm = 1.0
    """C, the largest norm that a unit's contribution to one sum may have."""

    unit: ClassVar[Unit]
    guards: ClassVar[str]
    observed: ClassVar[str] = "all that leaves the hospitals"

    @property
    def sampling_rate(self) -> float:
        """No draw, no amplification."""
        return 1.0

    @property
    def trained(self) -> frozenset[ParameterGroup]:
        """All coordinates."""
        return ALL_GROUPS

    @property
    def claim(self) -> str:
        """The guarantee in one sentence, with what it leaves to an attacker at even odds."""
        return (
            f"{self.unit.capitalize()}-level differential privacy, epsilon at most "
            f"{self.epsilon:g} at delta {self.delta:g} over the whole run: whoever sees "
            f"{self.observed} and guesses whether {self.guards} was used is right at most "
            f"{percent_up(self._guess())} of the time (50 % is a coin)."
        )

    def _guess(self) -> float:
        """Exact for Gaussian noise; where units are drawn, what any (epsilon, delta) allows."""
        if self.sampling_rate == 1:
            return gdp.attack_accuracy(gdp.mu_of(self.epsilon, self.delta))
        return (1 + advantage(self.epsilon, self.delta)) / 2

    @property
    def budget(self) -> Budget:
        """The cap of the run."""
        return Budget(self.epsilon, self.delta)

    @property
    def clip(self) -> float:
        """The largest clip norm."""
        return self.clip_norm

    def noise_multipliers(
        self, uses: Sequence[Use], tasks: Sequence[Sequence[int]], participations: int
    ) -> Mapping[str, float]:
        """The given multiplier for every kind, or the smallest that keep the budget."""
        if self.noise_multiplier is not None:
            return {use.kind: self.noise_multiplier for use in uses}
        profiles = self.profiles(uses, tasks)
        return calibrate(profiles, participations, self.budget, self.sampling_rate)

    def profiles(self, uses: Sequence[Use], tasks: Sequence[Sequence[int]]) -> Sequence[Counts]:
        """What a unit may stand in within one participation: as the records do."""
        return distinct(counts(uses, lambda row: row))

    def release(
        self, hospital: str, round: int, update: Tensor, loss: Tensor, mark: Mark | None
    ) -> Release:
        """The update; its loss is no part of the guarantee and stays."""
        return sealed_update(hospital, round, update, None, mark)

    def scores(
        self, hospital: str, round: int, names: tuple[str, ...], before: Values, after: Values
    ) -> Scores:
        """The scores themselves: no epsilon covers an evaluation-only hospital."""
        return sealed_scores(hospital, round, names, before, after)

    def at_server(
        self, updates: Vectors, combine: Combine, noise_multiplier: float, noise: Noise
    ) -> Vectors:
        """The server's combination as it is: the noise is in the updates already."""
        return combine(updates)
