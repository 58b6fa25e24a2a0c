"""What a privacy report is made from; all its figures and its verdict follow from this."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import isclose
from typing import Annotated, Literal

from pydantic import Field

from metaward.privacy.accounting import gdp
from metaward.privacy.report.promise import NOT_COVERED
from metaward.privacy.report.sections import (
    Accounting,
    Evidence,
    Gap,
    Guarantee,
    MechanismSummary,
    ReportedRun,
    Touch,
    TrainingHospital,
)
from metaward.privacy.report.values import TOUCHES, Strict
from metaward.privacy.units import UNITS, Unit

GAPS = tuple(gap.name for gap in NOT_COVERED)

BESIDE = "baselines"
"""Name of the gap where other learners were trained on the same records, to compare."""


@dataclass(frozen=True)
class ReportInputs(Strict):
    """All that is reported.

    ``ValueError`` lists every contradiction, and everything that a report must name and does not.
    """

    schema_version: Annotated[Literal[1], Field(description="Version of this format.")]
    run: ReportedRun
    guarantee: Guarantee
    hospitals: Annotated[
        tuple[TrainingHospital, ...], Field(min_length=1, description="All hospitals that train.")
    ]
    mechanism: MechanismSummary
    accounting: Accounting
    touches: Annotated[
        tuple[Touch, ...],
        Field(
            min_length=len(TOUCHES),
            max_length=len(TOUCHES),
            description="Every use of hospital data, each named once.",
        ),
    ]
    evidence: Evidence
    not_covered: Annotated[
        tuple[Gap, ...], Field(min_length=len(GAPS), description="What no epsilon covers.")
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
        yield from _each_once("hospitals", self.hospitals)
        yield from _each_once("touches", self.touches, TOUCHES)
        yield from _each_once("not_covered", self.not_covered, GAPS)
        if not self.hospitals:
            yield "hospitals: none; a report is about at least one training hospital"
        for hospital in self.hospitals:
            yield from self._of_hospital(hospital)
        check = self.accounting.cross_check
        known = {(h.name, eps) for h in self.hospitals for eps in (h.spent.epsilon, h.this_run)}
        if check and (check.hospital, check.reported) not in known:
            yield (
                f"accounting.cross_check: {check.reported} is neither what hospital "
                f"{check.hospital} has spent nor its epsilon of this run"
            )
        sums, source = self.mechanism.sums, self.mechanism.noise_source
        if not self.unit.protected == bool(sums) == (source is not None):
            yield (
                f"guarantee.unit is {self.unit.name}, with {len(sums)} noisy sums and "
                f"noise_source {source}; only unit none has no noise"
            )

    def _of_hospital(self, hospital: TrainingHospital) -> Iterator[str]:
        mu, spent, delta = hospital.mu, hospital.spent, self.guarantee.delta
        if spent.delta != delta:
            yield f"hospital {hospital.name}: spent at delta {spent.delta}, agreed is {delta}"
        # the headline comes from mu and the budget from epsilon: neither may flatter the other
        if mu is not None and not isclose(
            gdp.epsilon(mu, spent.delta), spent.epsilon, rel_tol=0.01
        ):
            yield (
                f"hospital {hospital.name}: mu = {mu} does not give epsilon "
                f"{spent.epsilon} at delta {spent.delta}; mu is None where the account is not "
                "Gaussian"
            )


def _each_once(
    section: str, entries: Iterable[TrainingHospital | Touch | Gap], required: Iterable[str] = ()
) -> Iterator[str]:
    counts = Counter(entry.name for entry in entries)
    for name in sorted(name for name, times in counts.items() if times > 1):
        yield f"{section}: {name!r} is there twice"
    for name in required:
        if not counts[name]:
            yield f"{section}: {name!r} is missing; name it and say what is so"
