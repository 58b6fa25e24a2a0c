"""What a privacy report is made from; everything else in it follows from this."""

from __future__ import annotations

import math
from collections.abc import Iterable
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
        _each_once("hospitals", (h.name for h in self.hospitals), ())
        _each_once("touches", (t.name for t in self.touches), TOUCHES)
        _each_once("not_covered", (gap.name for gap in self.not_covered), GAPS)
        if not self.hospitals:
            raise ValueError("hospitals: none; a report is about at least one training hospital")
        self._same_delta()
        self._one_account()
        self._same_check()
        self._same_protection()

    @property
    def unit(self) -> Unit:
        """Who is protected."""
        return UNITS[self.guarantee.unit]

    def _same_delta(self) -> None:
        for hospital in self.hospitals:
            if hospital.spent.delta != self.guarantee.delta:
                raise ValueError(
                    f"hospital {hospital.name}: spent at delta {hospital.spent.delta}, "
                    f"agreed is {self.guarantee.delta}"
                )

    def _one_account(self) -> None:
        for hospital in self.hospitals:
            if hospital.mu is not None and not _agree(hospital.mu, hospital.spent):
                raise ValueError(
                    f"hospital {hospital.name}: mu = {hospital.mu} does not give epsilon "
                    f"{hospital.spent.epsilon} at delta {hospital.spent.delta}; mu is None where "
                    "the account is not Gaussian"
                )

    def _same_check(self) -> None:
        check = self.accounting.cross_check
        known = {(h.name, eps) for h in self.hospitals for eps in (h.spent.epsilon, h.this_run)}
        if check and (check.hospital, check.reported) not in known:
            raise ValueError(
                f"accounting.cross_check: {check.reported} is neither what hospital "
                f"{check.hospital} has spent nor its epsilon of this run"
            )

    def _same_protection(self) -> None:
        unprotected = not self.unit.protected
        if unprotected != (not self.mechanism.sums):
            raise ValueError(
                f"guarantee.unit is {self.guarantee.unit} with {len(self.mechanism.sums)} noisy "
                "sums; unit none goes with no sums, any other unit with at least one"
            )
        if unprotected != (self.mechanism.noise_source is None):
            raise ValueError(
                f"guarantee.unit is {self.guarantee.unit}, noise_source is "
                f"{self.mechanism.noise_source}; only unit none has no noise"
            )


def _agree(mu: float, spent: AtDelta) -> bool:
    """Whether a mu-GDP account has this epsilon, to 1 % (a headline from mu must not flatter)."""
    if not (0 < mu < math.inf and 0 < spent.epsilon < math.inf):
        # a small mu has epsilon 0 at a delta that is not small
        return mu == spent.epsilon or (spent.epsilon == 0 and gdp.delta(mu, 0) <= spent.delta)
    low, high = 0.99 * spent.epsilon, 1.01 * spent.epsilon
    return gdp.delta(mu, high) <= spent.delta <= gdp.delta(mu, low)


def _each_once(what: str, names: Iterable[str], wanted: Iterable[str]) -> None:
    listed = list(names)
    twice = sorted({name for name in listed if listed.count(name) > 1})
    if twice:
        raise ValueError(f"{what}: {twice[0]!r} is there twice")
    missing = [name for name in wanted if name not in listed]
    if missing:
        raise ValueError(f"{what}: {missing[0]!r} is missing; name it and say what is so")
