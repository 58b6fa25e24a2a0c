"""Task level and hospital level: an update is clipped as a whole.

Any algorithm may run freely inside, second-order MAML included; what comes out is clipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from metaward.privacy.clipping import sum_clipped
from metaward.privacy.event import Mark
from metaward.privacy.mechanism import Combine, Opening, Rehearse, Unit, Vectors, everything
from metaward.privacy.noise import Noise, noisy
from metaward.privacy.protected import Protected
from metaward.privacy.release import Release, sealed_update
from metaward.privacy.session import OpenSession, Session, Use
from metaward.privacy.sums import clip_to


@dataclass(frozen=True)
class Task(Protected):
    """One whole task is the unit: all its records may be nulled at once.

    Each task's direction is clipped to S = ``clip_norm``; the hospital releases their noisy mean,
    (sum of clip(Delta_i) + N(0, z^2 S^2)) / (number of tasks). Guarantee: (1/z)-GDP a participation
    for a task being nulled; every record of a task pays for it. Nulling one record alone is another
    matter: it may turn its task's direction around, by up to 2 S, so records have (2/z)-GDP. Tasks
    of one round must not share records: nulling one would move the sum by 2 S, and cost (2/z)^2
    rather than 2 / z^2. Source: McMahan et al. 2018, Learning Differentially Private Recurrent
    Language Models, with tasks in the place of users; Li, Khodak, Caldas, Talwalkar 2020,
    Differentially Private Meta-Learning.
    """

    unit: ClassVar[Unit] = "task"
    guards: ClassVar[str] = "a task, with all its records,"

    def uses(self, rehearse: Rehearse, tasks: Sequence[Sequence[int]]) -> list[Use]:
        """One sum, in which every task stands once; ``ValueError`` where tasks share a record."""
        found = [Use("task", tuple(sorted({int(r) for r in rows}))) for rows in tasks]
        if len(everything(tasks)) < sum(len(use.rows) for use in found):
            raise ValueError("tasks of one round share records; set client.schedule to passes")
        return found

    def session(self, opening: Opening) -> Session:
        """Records in the open; tasks are clipped and noised when they are combined."""
        return NoisyTasks(self, opening)


@dataclass
class NoisyTasks(OpenSession):
    """The session of ``Task``."""

    def __init__(self, mechanism: Task, opening: Opening) -> None:
        super().__init__()
        self._norm, self._opening = mechanism.clip_norm, opening
        self._left = len(opening.uses)

    def combine(self, directions: Sequence[Tensor]) -> Tensor:
        """Noisy mean of the clipped directions; each task was charged for one sum."""
        if len(directions) != self._left:
            raise RuntimeError(f"{len(directions)} tasks, but {self._left} were charged")
        self._left = 0
        total = sum_clipped(torch.stack(list(directions)).double(), self._norm)
        sigma = self._opening.noise_multipliers["task"]
        noised = noisy(total.cpu().numpy(), self._norm, sigma, self._opening.noise)
        return torch.from_numpy(noised / len(directions)).to(directions[0])


@dataclass(frozen=True)
class Hospital(Protected):
    """One hospital is the unit: its whole update may be nulled.

    A hospital clips its update to S = ``clip_norm``; the server, **which must be trusted**, takes
    the uniform mean of m updates and adds noise of standard deviation z * S / m in each coordinate.
    Guarantee: (1/z)-GDP a round for whoever sees only theta, for a hospital's update being nulled.
    The server sees each update without noise. Source: McMahan et al. 2018, Learning Differentially
    Private Recurrent Language Models, with hospitals in the place of users.
    """

    unit: ClassVar[Unit] = "hospital"
    guards: ClassVar[str] = "a hospital's update"
    observed: ClassVar[str] = "the shared initialisation, but not the trusted server,"

    def uses(self, rehearse: Rehearse, tasks: Sequence[Sequence[int]]) -> list[Use]:
        """The hospital's whole update stands in one sum at the server."""
        return [Use("hospital", everything(tasks))]

    def session(self, opening: Opening) -> Session:
        """Records in the open; the update is clipped when it is sealed."""
        return OpenSession()

    def release(
        self, hospital: str, round: int, update: Tensor, loss: Tensor, mark: Mark | None
    ) -> Release:
        """The clipped update, without noise: the server adds it."""
        return sealed_update(hospital, round, clip_to(update, self.clip_norm), None, mark)

    def at_server(
        self, updates: Vectors, combine: Combine, noise_multiplier: float, noise: Noise
    ) -> Vectors:
        """The uniform mean (dim,), clipped once more and noised; ``combine`` is not asked."""
        total = sum_clipped(torch.from_numpy(updates).double(), self.clip_norm).numpy()
        noised = noisy(total, self.clip_norm, noise_multiplier, noise)
        return np.asarray(noised / len(updates), np.float32)
