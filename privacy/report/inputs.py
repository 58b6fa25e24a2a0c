"""What a privacy report is made from; everything else in it follows from this."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from metaward.privacy.accounting import gdp
from metaward.privacy.report.hospitals import AtDelta, TrainingHospital
from metaward.privacy.report.sections import (
    Accounting,
    Evidence,
    Gap,
    Guarantee,
    MechanismSummary,
    ReportedRun,
    Touch,
)
from metaward.privacy.report.values import TOUCHES, Strict
from metaward.privacy.units import UNITS, Unit

GAPS = ("local use", "other releases", "a hospital's presence", "evaluation-only hospitals")
"""What no report may keep silent about."""

BESIDE = "baselines"
"""The gap of a run beside which others were trained on the same records."""


@dataclass(frozen=True)
class ReportInputs(Strict):
    """All that is reported. ``ValueError`` where it contradicts itself or keeps silent."""

    schema_version: Annotated[Literal[1], Field(description="Version of this format.")]
    run: ReportedRun
    guarantee: Guarantee
    hospitals: Annotated[
        tuple[TrainingHospital, ...],
        Field(description="All hospitals that train.", json_schema_extra={"minItems": 1}),
    ]
    mechanism: MechanismSummary
    accounting: Accounting
    touches: Annotated[
        tuple[Touch, ...],
        Field(
            description="Every use of hospital data, each named once.",
            json_schema_extra={"minItems": len(TOUCHES), "maxItems": len(TOUCHES)},
        ),
    ]
    evidence: Evidence
    not_covered: Annotated[
        tuple[Gap, ...],
        Field(description="What no epsilon covers.", json_schema_extra={"minItems": len(GAPS)}),
    ]

    def __post_init__(self) -> None:
        faults = list(self._faults())
        if faults:
            raise ValueError("\n".join(faults))

    @property
    def unit(self) -> Unit:
        """Who is protected."""
        return UNITS[self.guarantee.unit]

    def _faults(self) -> Iterator[str]:
        """Everything that is missing, there twice, or contradicts something else."""
        yield from _each_once("hospitals", (h.name for h in self.hospitals), ())
        yield from _each_once("touches", (t.name for t in self.touches), TOUCHES)
        yield from _each_once("not_covered", (gap.name for gap in self.not_covered), GAPS)
        if not self.hospitals:
            yield "hospitals: none; a report is about at least one training hospital"
        for hospital in self.hospitals:
            yield from self._of_hospital(hospital)
        yield from self._of_check()
        yield from self._of_protection()

    def _of_hospital(self, hospital: TrainingHospital) -> Iterator[str]:
        spent = hospital.spent
        if spent.delta != self.guarantee.delta:
            yield (
                f"hospital {hospital.name}: spent at delta {spent.delta}, agreed is "
                f"{self.guarantee.delta}"
            )
        if hospital.mu is not None and not _agree(hospital.mu, spent):
            yield (
                f"hospital {hospital.name}: mu = {hospital.mu} does not give epsilon "
                f"{spent.epsilon} at delta {spent.delta}; mu is None where the account is not "
                "Gaussian"
            )

    def _of_check(self) -> Iterator[str]:
        check = self.accounting.cross_check
        known = {(h.name, eps) for h in self.hospitals for eps in (h.spent.epsilon, h.this_run)}
        if check and (check.hospital, check.reported) not in known:
            yield (
                f"accounting.cross_check: {check.reported} is neither what hospital "
                f"{check.hospital} has spent nor its epsilon of this run"
            )

    def _of_protection(self) -> Iterator[str]:
        sums, source = self.mechanism.sums, self.mechanism.noise_source
        if self.unit.protected != bool(sums):
            yield (
                f"guarantee.unit is {self.unit.name} with {len(sums)} noisy sums; unit none goes "
                "with no sums, any other unit with at least one"
            )
        if self.unit.protected != (source is not None):
            yield (
                f"guarantee.unit is {self.unit.name}, noise_source is {source}; only unit none has "
                "no noise"
            )


def _agree(mu: float, spent: AtDelta) -> bool:
    """Whether a mu-GDP account has this epsilon, to 1 % (a headline from mu must not flatter)."""
    if not (0 < mu < math.inf and 0 < spent.epsilon < math.inf):
        # a small mu has epsilon 0 at a delta that is not small
        return mu == spent.epsilon or (spent.epsilon == 0 and gdp.delta(mu, 0) <= spent.delta)
    low, high = 0.99 * spent.epsilon, 1.01 * spent.epsilon
    return gdp.delta(mu, high) <= spent.delta <= gdp.delta(mu, low)


def _each_once(what: str, names: Iterable[str], wanted: Iterable[str]) -> Iterator[str]:
    counts = Counter(names)
    twice = (f"{what}: {name!r} is there twice" for name in sorted(counts) if counts[name] > 1)
    missing = (name for name in wanted if not counts[name])
    yield from twice
    yield from (f"{what}: {name!r} is missing; name it and say what is so" for name in missing)
