"""No protection at all: the control that every private run is compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from privacy.release import Event, Losses, Release, Scores


@dataclass(frozen=True)
class NoPrivacy:
    """Updates leave as they are. Guarantee: none; epsilon is infinite for every unit."""

    @property
    def claim(self) -> str:
        """The warning that stands in every output of such a run."""
        return (
            "NO PRIVACY: updates leave the hospitals without noise; epsilon is infinite. "
            "Use this with public or synthetic data only."
        )

    def gradient(self, losses: Losses, phi: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The plain mean gradient, as autograd gives it."""
        phi = phi.detach().requires_grad_()
        loss = losses(phi, x, y).mean()
        (gradient,) = torch.autograd.grad(loss, phi)
        return gradient, loss.detach()

    def release(self, hospital: str, round: int, update: Tensor, loss: Tensor) -> Release:
        """The update itself, unclipped and without noise."""
        values = update.detach().to("cpu", torch.float32, copy=True).numpy()
        return Release(hospital, round, values, float(loss.detach()))

    def scores(self, hospital: str, round: int, before: list[float], after: list[float]) -> Scores:
        """The scores themselves."""
        return Scores(
            hospital, round, np.asarray(before, np.float32), np.asarray(after, np.float32)
        )

    def events(self, steps: int) -> tuple[Event, ...]:
        """Steps without noise."""
        return (Event("none", "record", 0.0, steps),)
