"""What a mechanism must provide: it protects a hospital's records and carries its price."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from metaward.options import Named
from metaward.privacy.accounting import advantage, gdp
from metaward.privacy.event import Budget, Mark
from metaward.privacy.noise import Noise
from metaward.privacy.price import Counts, calibrate
from metaward.privacy.release import Release, Scores
from metaward.privacy.rounding import percent_up
from metaward.privacy.session import ALL_GROUPS, Kind, ParameterGroup, Session, Use
from metaward.privacy.units import UNITS, Unit

Vectors = NDArray[np.float32]
Combine = Callable[[Vectors], Vectors]
Rehearse = Callable[[], list[Use]]
Values = Sequence[Sequence[float]]

Epsilon = Annotated[float, Field(gt=0, le=100)]
Delta = Annotated[float, Field(gt=0, lt=1e-2)]
Multiplier = Annotated[float, Field(gt=0, le=65535)]
Norm = Annotated[float, Field(gt=0, le=1e6)]


@dataclass(frozen=True)
class Opening:
    """What a session is opened with, after the charge.

    ``uses`` are the only ones it will serve; ``noise_multipliers`` has one for each kind in them;
    ``units`` (n,) numbers the protected unit behind each of the hospital's rows.
    """

    uses: Sequence[Use]
    noise_multipliers: Mapping[str, float]
    units: NDArray[Any]
    noise: Noise


class Treatment(NamedTuple):
    """What a mechanism does to records, in whole sentences: how noise comes in, what becomes of
    records that are trained on, and of query records."""

    method: str
    training: str
    query: str


class Mechanism(ABC):
    """One entry of ``MECHANISMS``: a frozen dataclass whose fields are its yaml options.

    What leaves a hospital leaves as it is, unless a mechanism overrides it.
    """

    name: ClassVar[str]
    """Its name in ``MECHANISMS``."""

    @property
    @abstractmethod
    def unit(self) -> Unit:
        """What the guarantee protects."""

    @classmethod
    @abstractmethod
    def serves(cls, unit: Unit) -> bool:
        """Whether it can protect such a unit."""

    @property
    @abstractmethod
    def claim(self) -> str:
        """The guarantee in one sentence, printed in every output."""

    @property
    @abstractmethod
    def treatment(self) -> Treatment:
        """What it does, for the report."""

    @property
    @abstractmethod
    def budget(self) -> Budget | None:
        """What the run may spend on any one unit; None where nothing is protected."""

    @abstractmethod
    def clip_of(self, kind: str) -> float:
        """The clip norm of one kind of sum; infinite where nothing is clipped."""

    @property
    def clip(self) -> float | None:
        """The largest clip norm of any kind; None where nothing is clipped."""
        largest = max(map(self.clip_of, get_args(Kind)))
        return largest if math.isfinite(largest) else None

    def empty_promise(self, units: int) -> str | None:
        """Why the guarantee says nothing at a hospital of so many units; None where it does."""
        return None

    @property
    def sampling_rate(self) -> float:
        """Probability of the secret Poisson draw before each sum; 1: no draw, no amplification."""
        return 1.0

    @property
    def trained(self) -> frozenset[ParameterGroup]:
        """The coordinates that are trained, hence noised."""
        return ALL_GROUPS

    @abstractmethod
    def uses(self, rehearse: Rehearse, tasks: Sequence[Sequence[int]]) -> list[Use]:
        """Every sum that a request will take over records; ``tasks`` are the rows of its tasks."""

    @abstractmethod
    def noise_multipliers(self, profiles: Sequence[Counts]) -> Mapping[str, float]:
        """The noise of each kind, for units that are in such sums in all rounds together."""

    @abstractmethod
    def session(self, opening: Opening) -> Session:
        """Records, open for one request."""

    def release(
        self, hospital: str, round: int, update: Tensor, loss: Tensor, mark: Mark | None
    ) -> Release:
        """Seal an update (dim,) for the way out, as float32, with the ledger's mark.

        Its ``loss`` is no part of a guarantee and stays.
        """
        values = update.detach().to("cpu", torch.float32, copy=True).numpy()
        return Release(hospital, round, values, None, mark)

    def scores(
        self, hospital: str, round: int, names: tuple[str, ...], before: Values, after: Values
    ) -> Scores:
        """Seal an unseen hospital's evaluation, (scores, episodes) each, for the way out.

        No epsilon covers it.
        """
        sealed = (np.asarray(values, np.float32) for values in (before, after))
        return Scores(hospital, round, names, *sealed)

    def at_server(
        self, updates: Vectors, combine: Combine, noise_multiplier: float, noise: Noise
    ) -> Vectors:
        """Updates (hospitals, dim) as one direction (dim,), by ``combine`` or by the mechanism."""
        return combine(updates)


@dataclass(frozen=True)
class Protected(Mechanism):
    """Options and behaviour that all protecting mechanisms share.

    ``ValueError``: a unit that the mechanism cannot protect.
    """

    unit: Annotated[Unit, Named(UNITS)] = UNITS["record"]
    """Who is protected; not every mechanism can protect every unit."""
    epsilon: Epsilon = 8.0
    """The most that the run may spend on any one unit, over all rounds."""
    delta: Delta = 1e-5
    """The delta at which this epsilon holds; a hospital of 1 / delta units or more refuses it."""
    large_delta: bool = False
    """Whether such a delta is meant. A mechanism that publishes one record at random keeps it."""
    noise_multiplier: Multiplier | None = None
    """The standard deviation of the noise over the clip norm; null: for each kind of sum the
    smallest that keeps the budget."""
    clip_norm: Norm = 1.0
    """C, the largest norm that a unit's contribution to one sum may have."""

    def __post_init__(self) -> None:
        if not self.serves(self.unit):
            able = ", ".join(name for name, unit in UNITS.items() if self.serves(unit))
            raise ValueError(
                f"unit: {self.unit.name} cannot be protected by mechanism {self.name}, which "
                f"protects {able}; choose one of these, or another mechanism"
            )

    @property
    def claim(self) -> str:
        """The guarantee in one sentence, with what it leaves to an attacker at even odds."""
        return (
            f"{self.unit.name.capitalize()}-level differential privacy, epsilon at most "
            f"{self.epsilon:g} at delta {self.delta:g} over the whole run: whoever sees "
            f"{self.unit.observed} and guesses whether {self.unit.guarded} was used is right at "
            f"most {percent_up(self._guess())} of the time (50 % is a coin)."
        )

    def empty_promise(self, units: int) -> str | None:
        """A delta of 1 / units or more (Dwork, Roth 2014: The Algorithmic Foundations of
        Differential Privacy, section 2.3), unless it is meant, or a hospital is one unit."""
        if self.large_delta or self.unit.whole or self.delta * units < 1:
            return None
        return (
            f"privacy.delta: {self.delta:g} is not below 1 / {units} "
            f"({self.unit.plural.lower()} of the hospital), so a mechanism that publishes one at "
            f"random keeps it; lower it, or set privacy.large_delta: true if that is meant"
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

    def clip_of(self, kind: str) -> float:
        """The clip norm of one kind of sum."""
        return self.clip_norm

    def noise_multipliers(self, profiles: Sequence[Counts]) -> Mapping[str, float]:
        """The given multiplier for every kind, or the smallest that keep the budget."""
        if self.noise_multiplier is not None:
            return {kind: self.noise_multiplier for profile in profiles for kind in profile}
        return calibrate(profiles, self.budget, self.sampling_rate, self.weight)

    def weight(self, kind: str) -> float:
        """The weight of a kind of sum when the budget is divided; the same for all."""
        return 1.0


def everything(tasks: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """All rows of all tasks, each once."""
    return tuple(sorted({int(row) for rows in tasks for row in rows}))
