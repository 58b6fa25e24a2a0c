"""No protection at all: the control that every private run is compared with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from metaward.privacy.event import Budget, Mark
from metaward.privacy.mechanisms.base import Mechanism, Opening, Rehearse, Treatment, everything
from metaward.privacy.price import Counts
from metaward.privacy.release import Release
from metaward.privacy.session import OpenSession, Session, Use
from metaward.privacy.units import UNITS, Unit


@dataclass(frozen=True)
class NoPrivacy(Mechanism):
    """Updates leave as they are. Guarantee: none; epsilon is infinite for every unit."""

    name: ClassVar[str] = "none"
    unit: ClassVar[Unit] = UNITS["none"]
    treatment: ClassVar[Treatment] = Treatment(
        "Updates leave as they are: nothing is clipped, no noise is added.",
        "Used without any protection.",
        "Used without any protection.",
    )
    budget: ClassVar[Budget | None] = None
    claim: ClassVar[str] = (
        "NO PRIVACY: updates leave the hospitals without noise; epsilon is infinite. "
        "Use this with public or synthetic data only."
    )
    """The warning that every output of such a run shows."""

    @classmethod
    def serves(cls, unit: Unit) -> bool:
        """Only who is promised nothing."""
        return not unit.protected

    def clip_of(self, kind: str) -> float:
        """Nothing is clipped."""
        return math.inf

    def uses(self, rehearse: Rehearse, tasks: Sequence[Sequence[int]]) -> list[Use]:
        """Every record of the round, unprotected."""
        return [Use("open", everything(tasks))]

    def noise_multipliers(self, profiles: Sequence[Counts]) -> Mapping[str, float]:
        """No noise."""
        return {"open": 0.0}

    def session(self, opening: Opening) -> Session:
        """Records in the open."""
        return OpenSession()

    def release(
        self, hospital: str, round: int, update: Tensor, loss: Tensor, mark: Mark | None
    ) -> Release:
        """The update itself, unclipped and without noise; and its loss."""
        sealed = super().release(hospital, round, update, loss, mark)
        return replace(sealed, loss=float(loss.detach()))
