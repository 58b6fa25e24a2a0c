"""The facts of a privacy report, part by part, as a run folder and the ledgers give them.

Every part is checked when a whole report is made. An infinite loss is "unlimited" in JSON.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from metaward.privacy.units import UnitName

UNLIMITED = "unlimited"


def _infinity(value: Any) -> Any:
    return math.inf if value == UNLIMITED else value


def _a_time(value: str) -> str:
    datetime.fromisoformat(value)
    return value


Text = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=2000)]
Name = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=200)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Time = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"), AfterValidator(_a_time)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Delta = Annotated[float, Field(gt=0, lt=1)]
Rate = Annotated[float, Field(gt=0, le=1)]
Loss = Annotated[float, Field(ge=0), BeforeValidator(_infinity)]

Chain = Literal["verified", "broken", "not checked"]
HighWater = Literal["held", "went back", "not checked"]
TouchName = Literal[
    "training",
    "query",
    "evaluation metrics",
    "normalisation statistics",
    "hyper-parameter tuning",
    "pre-processing",
    "public pre-training",
]
STANDARD_DELTAS = (1e-3, 1e-5, 1e-6)


class Facts:
    """Base of all parts: unknown keys and values of another type are refused when read."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True)
class Run(Facts):
    """Which run. ``evaluation_hospitals`` only judged the result; no epsilon covers their data."""

    name: Name
    id: Name
    seed: int | None
    setting: Literal["simulation", "deployment"]
    status: Literal["finished", "stopped", "failed", "running"]
    started: Time
    finished: Time | None
    rounds: Count
    rounds_planned: Count
    evaluation_hospitals: Count


@dataclass(frozen=True)
class Observer(Facts):
    """Who sees what of a run, and whether the promise holds against them."""

    who: Text
    sees: Text
    covered: bool


@dataclass(frozen=True)
class Guarantee(Facts):
    """What is promised: for which unit, against whom; ``delta`` is the agreed one.

    ``cap_per_person``: the most units one person may stand in, None where nothing caps it.
    """

    unit: UnitName
    neighbours: Text
    delta: Delta
    cap_per_person: Positive | None
    unprotected: tuple[Text, ...]
    trust: Text
    observers: tuple[Observer, ...]


@dataclass(frozen=True)
class AtDelta(Facts):
    """Epsilon at a delta."""

    delta: Delta
    epsilon: Loss


@dataclass(frozen=True)
class Point(Facts):
    """What the most charged unit had spent after a round: epsilon at the agreed delta.

    ``run`` is a name that no other run in the ledgers has.
    """

    time: Time
    run: Name
    round: Count
    epsilon: Loss


@dataclass(frozen=True)
class Refusal(Facts):
    """How often a hospital refused with a code."""

    code: Name
    count: Positive


@dataclass(frozen=True)
class Ledger(Facts):
    """State of a hospital's ledger: last entry's number and hash, and what was checked of it.

    ``high_water``: whether it still holds the last entry that the server has a mark of.
    """

    id: Name
    sequence: Count
    head: Sha256
    chain: Chain
    faults: tuple[Text, ...]
    high_water: HighWater

    def __post_init__(self) -> None:
        if (self.chain == "broken") != bool(self.faults):
            raise ValueError(f"ledger {self.id}: chain is {self.chain} with {self.faults!r} faults")


@dataclass(frozen=True)
class Hospital(Facts):
    """A training hospital: its ``units`` (None: unknown), what the most charged spent, its ledger.

    ``mu``, ``spent`` and ``epsilons`` cover every run in the ledger where ``counted_from`` is
    "ledger", this run alone where it is "run"; ``this_run`` is this run's epsilon at the agreed
    delta. ``mu`` is None where the account is not Gaussian (sampled schedules). ``epsilons`` holds
    at least ``STANDARD_DELTAS``. ``budget`` is epsilon at the agreed delta, None where there is
    none. ``participations`` counts the rounds of this run that it was charged for.
    """

    name: Name
    units: Count | None
    participations: Count
    counted_from: Literal["ledger", "run"]
    mu: Loss | None
    spent: AtDelta
    this_run: Loss
    epsilons: tuple[AtDelta, ...]
    budget: Amount | None
    ledger: Ledger | None
    refusals: tuple[Refusal, ...]
    history: tuple[Point, ...]

    def __post_init__(self) -> None:
        missing = set(STANDARD_DELTAS) - {at.delta for at in self.epsilons}
        if missing:
            raise ValueError(f"hospital {self.name}: no epsilon at delta {sorted(missing)}")


@dataclass(frozen=True)
class NoisySum(Facts):
    """One kind of noisy sum. Where hospitals differ: the largest clip norm, the smallest noise.

    ``noise_multiplier``: standard deviation of the noise over ``clip_norm``; ``batch``: the public
    constant B that the sum is divided by; ``count``: sums that a unit may stand in, a
    participation.
    """

    kind: Name
    clip_norm: Amount
    noise_multiplier: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    batch: Amount | None
    count: Positive


@dataclass(frozen=True)
class Mechanism(Facts):
    """How the noise comes in. ``participations``: the most rounds of the run a unit may be in.

    ``amplification`` says why the claimed one holds, None where none is claimed; ``noise_source``
    is None where there is no noise; ``floating_point`` names the defence, None: there is none.
    """

    name: Name
    words: Text
    sums: tuple[NoisySum, ...]
    inner_steps: Count
    participations: Count
    sampling_rate: Rate
    sampling: Text
    amplification: Text | None
    noise_source: Literal["operating system", "seeded"] | None
    floating_point: Text | None

    def __post_init__(self) -> None:
        if self.amplification is not None and self.sampling_rate == 1:
            raise ValueError("mechanism: amplification is claimed at sampling_rate = 1")


@dataclass(frozen=True)
class Library(Facts):
    """A library that computed the numbers."""

    name: Name
    version: Name


@dataclass(frozen=True)
class CrossCheck(Facts):
    """A second accountant's epsilon for one hospital's account, against the reported one.

    ``relative_difference`` is (epsilon - reported) / reported; make one with ``of``.
    """

    method: Text
    hospital: Name
    reported: Loss
    epsilon: Loss
    relative_difference: Annotated[float, Field(allow_inf_nan=False)]

    @staticmethod
    def of(method: str, hospital: str, reported: float, epsilon: float) -> CrossCheck:
        """The check, with its difference; ``ValueError`` where that is not a finite number."""
        if not (0 < reported < math.inf and 0 <= epsilon < math.inf):
            raise ValueError(f"cross-check of {hospital}: {reported} against {epsilon}")
        return CrossCheck(method, hospital, reported, epsilon, (epsilon - reported) / reported)


@dataclass(frozen=True)
class Accounting(Facts):
    """How epsilon was counted. ``error``: on which side of the truth the numbers may lie.

    ``adaptive``: whether the account holds for parameters chosen during the run (a filter).
    """

    method: Text
    libraries: tuple[Library, ...]
    error: Literal["exact", "never below the truth", "either side"]
    adaptive: bool
    cross_check: CrossCheck | None


@dataclass(frozen=True)
class Touch(Facts):
    """One way in which hospital data was used, and whether the promise covers it."""

    name: TouchName
    covered: Literal["yes", "no", "not used"]
    words: Text


@dataclass(frozen=True)
class Audit(Facts):
    """An attack on the real mechanism: ``mu_lower`` is the loss it proved, at ``confidence``."""

    at: Time
    mu_lower: Loss
    mu_claimed: Loss
    confidence: Share
    faults: tuple[Text, ...]


@dataclass(frozen=True)
class Evidence(Facts):
    """What the report rests on: audit (None: not done), configuration and code."""

    audit: Audit | None
    config_sha256: Sha256
    code_version: Name


@dataclass(frozen=True)
class Gap(Facts):
    """Something that the promise does not cover."""

    name: Name
    words: Text


TOUCHES: tuple[TouchName, ...] = get_args(TouchName)
