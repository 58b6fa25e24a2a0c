"""The sections of a privacy report: about the run, and about each training hospital."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from metaward.privacy.report.values import (
    STANDARD_DELTAS,
    Amount,
    Chain,
    Count,
    Delta,
    Ending,
    HighWater,
    Loss,
    Name,
    NoiseSource,
    Positive,
    Sha256,
    Share,
    Strict,
    Text,
    Time,
    TouchName,
)
from metaward.privacy.units import UnitName


@dataclass(frozen=True)
class ReportedRun(Strict):
    """Which run this is, and how far it came."""

    name: Name
    id: Name
    seed: int | None
    """Seed of the run; null: none."""
    setting: Literal["simulation", "deployment"]
    """simulation: all hospitals on one machine, noise from a seed; deployment: real sites."""
    status: Ending
    """How the run ended, or that it is still running."""
    started: Time
    finished: Time | None
    """When it ended, UTC; null: not finished."""
    rounds: Count
    rounds_planned: Count
    evaluation_hospitals: Count
    """Hospitals that only judged, the result or a round. No epsilon covers their data."""
    signed_answers: Count | None
    """Answers that the hospitals signed and the server verified; null: none had to be signed."""


@dataclass(frozen=True)
class Observer(Strict):
    """Who sees what of a run."""

    who: Text
    sees: Text
    covered: bool
    """Whether the promise holds against them."""


@dataclass(frozen=True)
class Guarantee(Strict):
    """What is promised: for which unit, against whom, at which delta."""

    unit: UnitName
    """What is protected as a whole; none: nothing is protected."""
    neighbours: Text
    """The two runs that are compared, in plain words."""
    delta: Delta
    """The agreed delta (a probability)."""
    cap_per_person: Positive | None
    """The most units that one person may be in; null: nothing caps it."""
    unprotected: tuple[Text, ...]
    """Quantities that are declared public or are not protected."""
    trust: Text
    """Who has to be trusted."""
    observers: tuple[Observer, ...]
    """Who sees what."""


@dataclass(frozen=True)
class NoisySum(Strict):
    """One kind of noisy sum. Where hospitals differ: the largest clip norm, the smallest noise."""

    kind: Name
    clip_norm: Amount
    """The most Euclidean length that one unit may add (in the sum's own unit)."""
    noise_multiplier: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """Standard deviation of the noise over clip_norm (no unit)."""
    batch: Amount | None
    """Public constant B that the sum is divided by (units); null: none."""
    count: Positive
    """Such sums that a unit may be in, in one participation."""


@dataclass(frozen=True)
class MechanismSummary(Strict):
    """How the noise comes in."""

    name: Name
    words: Text
    sums: tuple[NoisySum, ...]
    """Every kind of noisy sum; empty: no protection."""
    inner_steps: Count
    """Inner steps T in a round."""
    participations: Count
    """The most rounds of this run that a unit may be in."""
    sampling_rate: Annotated[float, Field(gt=0, le=1)]
    """Probability q of the secret draw before each sum; 1: no draw."""
    sampling: Text
    """How units are chosen."""
    amplification: Text | None
    """Why a gain from sampling is claimed; null: none is claimed."""
    noise_source: NoiseSource | None
    """seeded: whoever knows the seed can take the noise away; null: there is no noise."""
    floating_point: Text | None
    """Defence against attacks on the noise's last digits; null: there is none."""

    def __post_init__(self) -> None:
        if self.amplification is not None and self.sampling_rate == 1:
            raise ValueError("mechanism: amplification is claimed at sampling_rate = 1")


@dataclass(frozen=True)
class Library(Strict):
    """A library that computed the numbers."""

    name: Name
    version: Name


@dataclass(frozen=True)
class CrossCheck(Strict):
    """A second accountant's epsilon for one hospital's account; make one with ``of``."""

    method: Text
    hospital: Name
    reported: Loss
    """Epsilon by the first accountant, at the agreed delta."""
    epsilon: Loss
    """Epsilon by the second, at the same delta."""
    relative_difference: Annotated[float, Field(allow_inf_nan=False)]
    """(epsilon - reported) / reported, a share."""

    @staticmethod
    def of(method: str, hospital: str, reported: float, epsilon: float) -> CrossCheck:
        """The check, with its difference; ``ValueError`` where that is not a finite number."""
        if not (0 < reported < math.inf and 0 <= epsilon < math.inf):
            raise ValueError(f"cross-check of {hospital}: {reported} against {epsilon}")
        return CrossCheck(method, hospital, reported, epsilon, (epsilon - reported) / reported)


@dataclass(frozen=True)
class Accounting(Strict):
    """How epsilon was counted."""

    method: Text
    libraries: tuple[Library, ...]
    """Libraries and their versions."""
    error: Literal["exact", "never below the truth", "either side"]
    """On which side of the truth the numbers may lie."""
    adaptive: bool
    """Whether the account holds for parameters chosen during the run (a privacy filter)."""
    cross_check: CrossCheck | None
    """A second accountant's result; null: not done."""


@dataclass(frozen=True)
class Touch(Strict):
    """One way in which hospital data was used."""

    name: TouchName
    """The use."""
    covered: Literal["yes", "no", "not used"]
    """Whether the promise covers this use."""
    words: Text


@dataclass(frozen=True)
class AtDelta(Strict):
    """Epsilon at a delta."""

    delta: Delta
    epsilon: Loss


@dataclass(frozen=True)
class SpendingPoint(Strict):
    """What the most charged unit had spent after the charge of a round."""

    time: Time
    run: Name
    """Name of the run, which no other run in the ledgers has."""
    round: Count
    epsilon: Loss
    """Epsilon so far, at the agreed delta."""


@dataclass(frozen=True)
class RefusalCount(Strict):
    """How often a hospital refused with a code."""

    code: Name
    count: Positive


@dataclass(frozen=True)
class LedgerState(Strict):
    """A hospital's ledger, the hash-chained list of every charge, and what was checked of it."""

    id: Name
    sequence: Count
    """Number of its last entry."""
    head: Sha256
    """SHA-256 of its last entry, hexadecimal."""
    chain: Chain
    """Whether every entry's hash was recomputed and found right."""
    faults: tuple[Text, ...]
    """What is wrong with the chain; empty unless it is broken."""
    high_water: HighWater
    """Whether it still holds the last entry that the server has a mark of."""

    def __post_init__(self) -> None:
        if (self.chain == "broken") != bool(self.faults):
            raise ValueError(f"ledger {self.id}: chain is {self.chain} with {self.faults!r} faults")


@dataclass(frozen=True)
class TrainingHospital(Strict):
    """A training hospital: what its most charged unit has spent, its budget and its ledger."""

    name: Name
    units: Count | None
    """Units (records, patients, tasks; 1: the hospital) that training could use; null: unknown."""
    participations: Count
    """Rounds of this run that it was charged for."""
    counted_from: Literal["ledger", "run"]
    """ledger: mu, spent and epsilons cover every run in its ledger; run: this run alone."""
    mu: Loss | None
    """Loss mu of Gaussian differential privacy; null: the account is not Gaussian."""
    spent: AtDelta
    """Epsilon that was spent, at the agreed delta."""
    this_run: Loss
    """Epsilon of this run alone, at the agreed delta."""
    epsilons: Annotated[tuple[AtDelta, ...], Field(min_length=3)]
    """The same spend at other deltas; at least at 1e-3, 1e-5 and 1e-6."""
    budget: Amount | None
    """The most epsilon that any unit may ever spend, at the agreed delta; null: none is set."""
    ledger: LedgerState | None
    """Its ledger; null: it keeps none."""
    refusals: tuple[RefusalCount, ...]
    """Requests that it refused in this run, by code."""
    history: tuple[SpendingPoint, ...]
    """Spend over time, across all runs that are counted."""
    code: tuple[Sha256, ...]
    """Bundles of code that its gate let in for this run, as its charges say; empty: not known."""

    def __post_init__(self) -> None:
        if missing := set(STANDARD_DELTAS) - {at.delta for at in self.epsilons}:
            raise ValueError(f"hospital {self.name}: no epsilon at delta {sorted(missing)}")


@dataclass(frozen=True)
class Audit(Strict):
    """An attack on the real mechanism."""

    at: Time
    mu_lower: Loss
    """Loss mu that the attack proved."""
    mu_claimed: Loss
    """Loss mu that was claimed for the attacked mechanism."""
    confidence: Share
    """Confidence of the bound, a share."""
    faults: tuple[Text, ...]
    """Faults found in the noise's structure; empty: none."""


@dataclass(frozen=True)
class Evidence(Strict):
    """What the report rests on."""

    audit: Audit | None
    """Result of the audit; null: not done."""
    config_sha256: Sha256
    code_version: Name
    bundles: tuple[Sha256, ...]
    """Bundles of code that the server shipped to the hospitals; empty: not known, or none."""


@dataclass(frozen=True)
class Gap(Strict):
    """Something that the promise does not cover."""

    name: Name
    words: Text
