"""What a charge was for: the noisy sums of one hospital in one round, as its ledger describes them.

It is known before any record is touched, and depends on nothing but the number of tasks and records
in the round, which are public.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from metaward.privacy.event import Protection
from metaward.privacy.price import Counts
from metaward.privacy.session import Use

if TYPE_CHECKING:  # mechanisms are built on what a charge is
    from metaward.privacy.mechanisms.base import Mechanism

Number = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class SumDescription:
    """The noisy sums of one ``kind`` in a round.

    A unit adds at most ``clip_norm`` (None: nothing is clipped) to a sum, whose Gaussian noise has
    the standard deviation ``noise_multiplier * clip_norm``. ``sampling_rate`` is the probability of
    the secret draw of each unit before each sum; 1: no draw. Each sum is divided by a public
    constant, of which ``batch`` is the smallest (None: the server divides, by the number of its
    replies). The hospital takes ``sums`` of them, which add up ``vectors`` vectors where all are
    drawn; a unit is in ``count`` of them at most in one participation.
    """

    kind: str
    clip_norm: Amount | None
    noise_multiplier: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    sampling_rate: Annotated[float, Field(gt=0, le=1)]
    batch: Amount | None
    sums: Number
    vectors: Number
    count: Number


@dataclass(frozen=True)
class ChargeDescription:
    """What one round's charge is for: how records are protected, and the sums by kind.

    The hospital worked on ``tasks`` tasks; its noise was made for units that take part in
    ``participations`` rounds of the run.
    """

    protection: Protection
    tasks: Number
    participations: Number
    sums: tuple[SumDescription, ...]

    def noises(self) -> set[tuple[float, float]]:
        """The noise multipliers and sampling rates of the sums."""
        return {(one.noise_multiplier, one.sampling_rate) for one in self.sums}

    @property
    def noise(self) -> Mapping[str, float]:
        """The noise multiplier of each kind."""
        return {one.kind: one.noise_multiplier for one in self.sums}


def described(
    mechanism: Mechanism,
    uses: Sequence[Use],
    profiles: Sequence[Counts],
    noise: Mapping[str, float],
    tasks: int,
    participations: int,
) -> ChargeDescription:
    """The description of a round's ``uses``, of which ``profiles`` say what a unit may be in."""
    vectors: dict[str, list[int]] = {}
    for use in uses:
        vectors.setdefault(use.kind, []).append(len(use.rows))
    most: Counts = Counter()
    for profile in profiles:
        most |= profile
    sums = tuple(
        _sum(mechanism, kind, added, noise[kind], most[kind]) for kind, added in vectors.items()
    )
    protection = Protection(mechanism.name, mechanism.unit.name)
    return ChargeDescription(protection, tasks, participations, sums)


def _sum(
    mechanism: Mechanism, kind: str, vectors: Sequence[int], sigma: float, count: int
) -> SumDescription:
    """``vectors`` has the records of each use; of a whole unit each use is one vector of a sum."""
    unit, rate = mechanism.unit, mechanism.sampling_rate
    added = [len(vectors)] if unit.whole else vectors
    return SumDescription(
        kind=kind,
        clip_norm=mechanism.clip_of(kind) if unit.protected else None,
        noise_multiplier=sigma,
        sampling_rate=rate,
        batch=None if unit.noise_at_server else rate * min(added),
        sums=len(added),
        vectors=sum(added),
        count=count,
    )
