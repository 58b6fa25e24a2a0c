"""The section of a privacy report about a training hospital: its spend, budget and ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from metaward.privacy.report.values import (
    STANDARD_DELTAS,
    Amount,
    Chain,
    Count,
    Delta,
    HighWater,
    Loss,
    Name,
    Positive,
    Sha256,
    Strict,
    Text,
    Time,
)


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
    """Units (records, patients, tasks, or 1 for the hospital itself) that training could use;
    null: not known here, as at a server that holds no ledger."""
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

    def __post_init__(self) -> None:
        missing = set(STANDARD_DELTAS) - {at.delta for at in self.epsilons}
        if missing:
            raise ValueError(f"hospital {self.name}: no epsilon at delta {sorted(missing)}")
