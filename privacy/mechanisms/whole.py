"""Mechanism ``whole``: an update is clipped as a whole, that of a task or that of a hospital.

Any algorithm may run freely inside, second-order MAML included; what comes out is clipped.
Source: McMahan et al. 2018, Learning Differentially Private Recurrent Language Models, with tasks
or hospitals in the place of users; of tasks: Li, Khodak, Caldas, Talwalkar 2020, Differentially
Private Meta-Learning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Tensor

from metaward.options import Named
from metaward.privacy.clipping import sum_clipped
from metaward.privacy.event import Mark
from metaward.privacy.mechanisms.base import (
    Combine,
    Opening,
    Protected,
    Rehearse,
    Treatment,
    Vectors,
    everything,
)
from metaward.privacy.noise import Noise, noisy
from metaward.privacy.release import Release
from metaward.privacy.session import OpenSession, Session, Use
from metaward.privacy.units import UNITS, Unit


@dataclass(frozen=True)
class Whole(Protected):
    """What one task, or one hospital, makes of its records may be nulled as a whole.

    *A task.* Each task's direction is clipped to S = ``clip_norm``; the hospital releases their
    noisy mean, (sum of clip(Delta_i) + N(0, z^2 S^2)) / (number of tasks). Guarantee: (1/z)-GDP a
    participation for a task being nulled; every record of a task pays for it. Nulling one record
    alone is another matter: it may turn its task's direction around, by up to 2 S, so records have
    (2/z)-GDP. Tasks of one round must not share records: nulling one would move the sum by 2 S, and
    cost (2/z)^2 rather than 2 / z^2.

    As a unit, a task is a set of records that is fixed for good: by the hospital's first deal. It
    serves all passes (``client.schedule``) and all runs that one ledger takes (``ledger-deal``).
    Dealt anew in every pass, the records of one task of pass 1 would be in k tasks of pass 2.
    Nulling the task would then move k clipped updates there, by up to k S where they share a round,
    while each of its records pays for one.

    *A hospital.* It clips its update to S; the server, **which must be trusted**, takes the uniform
    mean of m updates and adds noise of standard deviation z * S / m in each coordinate. Guarantee:
    (1/z)-GDP a round for whoever sees only theta, for a hospital's update being nulled. The server
    sees each update without noise.
    """

    unit: Annotated[Unit, Named(UNITS)] = UNITS["task"]

    name: ClassVar[str] = "whole"

    @classmethod
    def serves(cls, unit: Unit) -> bool:
        """Tasks, noised at the hospital; hospitals, noised at the server."""
        return unit.whole

    @property
    def treatment(self) -> Treatment:
        """The noise comes in where updates are added up."""
        name = self.unit.name
        query = f"Query records are part of their {name}'s update."
        if self.unit.noise_at_server:
            return Treatment(
                f"Each {name} clips its whole update to the norm C; the server takes the uniform "
                "mean and adds Gaussian noise before theta changes.",
                f"Every {name}'s update is clipped, and noised by the server.",
                query,
            )
        return Treatment(
            f"The hospital works on each {name} freely, clips what each {name} gives to the norm "
            "C, and adds Gaussian noise to their sum; the noisy mean leaves.",
            f"Every {name}'s update is clipped and noised.",
            query,
        )

    def uses(self, rehearse: Rehearse, tasks: Sequence[Sequence[int]]) -> list[Use]:
        """One sum, which every unit is in once; ``ValueError`` where tasks share a record."""
        if self.unit.noise_at_server:
            return [Use("update", everything(tasks))]
        found = [Use("update", tuple(sorted({int(r) for r in rows}))) for rows in tasks]
        if len(everything(tasks)) < sum(len(use.rows) for use in found):
            raise ValueError("tasks of one round share records; set client.schedule to passes")
        return found

    def session(self, opening: Opening) -> Session:
        """Records in the open: tasks are noised when they are combined, a hospital's update is
        clipped when it is sealed."""
        return OpenSession() if self.unit.noise_at_server else NoisyTasks(self, opening)

    def release(
        self, hospital: str, round: int, update: Tensor, loss: Tensor, mark: Mark | None
    ) -> Release:
        """The update; clipped, and without noise, where the server adds it."""
        if self.unit.noise_at_server:
            update = clip_to(update, self.clip_norm)
        return super().release(hospital, round, update, loss, mark)

    def at_server(
        self, updates: Vectors, combine: Combine, noise_multiplier: float, noise: Noise
    ) -> Vectors:
        """The server's combination; where it adds the noise, the uniform mean (dim,), clipped once
        more and noised, and ``combine`` is not asked."""
        if not self.unit.noise_at_server:
            return combine(updates)
        mean = self.noisy_mean(torch.from_numpy(updates), noise_multiplier, noise)
        return np.asarray(mean, np.float32)

    def noisy_mean(self, vectors: Tensor, noise_multiplier: float, noise: Noise) -> Tensor:
        """Mean (dim,) float64 of ``vectors`` (n, dim), each clipped, with noise on their sum."""
        total = sum_clipped(vectors.double(), self.clip_norm).cpu().numpy()
        noised = noisy(total, self.clip_norm, noise_multiplier, noise)
        return torch.from_numpy(noised / len(vectors))


class NoisyTasks(OpenSession):
    """The session in which tasks are protected."""

    def __init__(self, mechanism: Whole, opening: Opening) -> None:
        super().__init__()
        self._mechanism, self._opening = mechanism, opening
        self._left = len(opening.uses)

    def combine(self, directions: Sequence[Tensor]) -> Tensor:
        """Noisy mean of the clipped directions; each task was charged for one sum."""
        if len(directions) != self._left:
            raise RuntimeError(f"{len(directions)} tasks, but {self._left} were charged")
        self._left = 0
        sigma = self._opening.noise_multipliers["update"]
        vectors, noise = torch.stack(list(directions)), self._opening.noise
        return self._mechanism.noisy_mean(vectors, sigma, noise).to(vectors)


def clip_to(vector: Tensor, norm: float) -> Tensor:
    """``vector`` (dim,) shortened to ``norm`` where longer; one that is not finite becomes zero."""
    if not bool(torch.isfinite(vector).all()):
        return torch.zeros_like(vector)
    length = float(vector.double().norm())
    return vector * (norm / length * (1 - 1e-6)) if length > norm * (1 - 1e-6) else vector
