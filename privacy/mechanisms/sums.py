"""Mechanism ``sums``: every sum over records is clipped per unit and noised.

One primitive carries mechanisms A, B and C alike. Whatever an algorithm asks for (gradients of
support or query records, Hessian products, class features) is a mean of per-record vectors; each
protected unit's vectors are summed, clipped to norm C, summed over the units, noised with standard
deviation sigma * C and divided by a public constant.

Guarantee: one sum is (1/sigma)-GDP for a unit being nulled (its vectors become zero); the uses of a
request, and of all requests, compose adaptively to mu^2 = sum of 1/sigma^2 over the sums in which
the unit is (Dong, Roth, Su 2019: Gaussian Differential Privacy). What is computed from the
results is post-processing. Per-record clipping: Abadi et al. 2016, Deep Learning with Differential
Privacy; sums per person: McMahan et al. 2018, Learning Differentially Private Recurrent Language
Models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import Field

from metaward.privacy.mechanisms.base import Norm, Opening, Protected, Rehearse, Treatment
from metaward.privacy.mechanisms.noisy_sums import NoisySums
from metaward.privacy.session import ParameterGroup, Session, TrainedGroup, Use
from metaward.privacy.units import Unit

Weight = Annotated[float, Field(gt=0, le=1000)]


@dataclass(frozen=True)
class Split:
    """How the budget of a run is divided between the kinds of sums that a unit is in.

    Weights count relative to one another; all rounds of the run together have a kind's share.
    """

    support: Weight = 1.0
    """Gradients of support records, which the inner loop follows."""
    query: Weight = 1.0
    """Gradients of query records, which theta follows."""
    adjoint: Weight = 1.0
    """Hessian and Jacobian products."""
    centre: Weight = 1.0
    """Features of all records, for their common centre."""
    features: Weight = 1.0
    """Class features."""
    moments: Weight = 1.0
    """Second moments of features."""


@dataclass(frozen=True)
class Sums(Protected):
    """Nobody can tell whether a given unit's records were used, or nulled all at once.

    The vectors of a unit with several records are summed before they are clipped. In one round its
    records are in one task at most; the schedule keeps to it.
    """

    clip_query: Norm | None = None
    """C of query gradients; null: `clip_norm`."""
    clip_adjoint: Norm | None = None
    """C of Hessian and Jacobian products; null: `clip_norm`."""
    clip_centre: Norm | None = None
    """C of features, where all records are summed for their centre; null: `clip_norm`."""
    clip_features: Norm | None = None
    """C of class features; null: `clip_norm`."""
    clip_moments: Norm | None = None
    """C of second moments; null: `clip_norm`."""
    split: Split = field(default_factory=Split)
    """The weights by which the budget is divided between the kinds of sums."""
    sampling_rate: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Below 1: every unit is drawn afresh, secretly and with this probability, before each sum; 1:
    all records are used, and no amplification is claimed."""
    train: tuple[TrainedGroup, ...] = ("body", "norm", "head")
    """The coordinates that are trained, hence noised: `[norm, head]` suits a body that was trained
    on public data."""

    name: ClassVar[str] = "sums"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.train or len(set(self.train)) < len(self.train):
            raise ValueError(f"train: {list(self.train)} must name body, norm or head, each once")

    @classmethod
    def serves(cls, unit: Unit) -> bool:
        """Records, and groups of records that are dealt into one task of a round."""
        return unit.protected and not unit.whole and unit.cap in (None, 1)

    @property
    def treatment(self) -> Treatment:
        """Sums are noised before anything is computed from them."""
        name = self.unit.name
        clipped = (
            f"each {name}'s vector is clipped"
            if self.unit.single
            else f"the vectors of each {name} are added up and clipped"
        )
        return Treatment(
            "Whatever is summed over records (gradients, features, their second moments, Jacobian "
            f"products), {clipped} to the norm C, and Gaussian noise is added to the sum before "
            "anything is done with it. What leaves is computed from these noisy sums alone.",
            f"Every {name}'s part in every sum is clipped and noised.",
            "Query records are charged as training records are.",
        )

    @property
    def trained(self) -> frozenset[ParameterGroup]:
        """The coordinates that are trained."""
        return frozenset(self.train)

    def clip_of(self, kind: str) -> float:
        """The clip norm of one kind of sum."""
        return getattr(self, f"clip_{kind}", None) or self.clip_norm

    def weight(self, kind: str) -> float:
        """The kind's weight in ``split``."""
        return float(getattr(self.split, kind))

    def uses(self, rehearse: Rehearse, tasks: Sequence[Sequence[int]]) -> list[Use]:
        """What the algorithm asks for in a rehearsal."""
        return rehearse()

    def session(self, opening: Opening) -> Session:
        """Noisy sums of what was charged, and of nothing else."""
        return NoisySums(self, opening)
