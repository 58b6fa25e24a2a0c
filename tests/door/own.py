"""Own parts as a user's module has them: a helper beside them must reach the workers as well."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

import metaward as mw
from metaward.client.inner import Reptile, Update

Rate = Annotated[float, Field(gt=0, le=1)]
CENTRES = np.random.default_rng(1).normal(size=(4, 5))


def scaled(x: Tensor) -> Tensor:
    """A function of this module, which the network calls."""
    return x / 2


class Small(nn.Module):
    def __init__(self, input_shape: tuple[int, ...], width: int = 6) -> None:
        super().__init__()
        self.layer = nn.Linear(input_shape[0], width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(scaled(self.layer(x)))


class Slower(Reptile):
    """Reptile that goes a part of the way."""

    part: Rate = 0.5

    def update(self, setting, theta, episodes, session, rng):  # type: ignore[no-untyped-def]
        found = super().update(setting, theta, episodes, session, rng)
        return Update(self.part * found.delta, found.loss)


def clinic(name: str, role: str = "train", count: int = 80) -> mw.Records:
    rng = np.random.default_rng(list(name.encode()))
    y = rng.integers(0, 4, count)
    x = CENTRES[y] + 0.3 * rng.normal(size=(count, 5))
    return mw.Records(name, x, np.array(["a", "b", "c", "d"])[y], role)  # type: ignore[arg-type]


def clinics() -> list[mw.Records]:
    return [clinic("north"), clinic("west"), clinic("south", "unseen"), clinic("east", "unseen")]


def configuration(**changes: object) -> dict[str, object]:
    return {
        "client": {
            "tasks": {"source": "clinics", "ways": 3, "shots": 2, "queries": 3},
            "model": {"network": "small"},
            "inner": {"algorithm": "slower", "steps": 2, "adapt_steps": 3},
            "tasks_per_round": 2,
        },
        "privacy": {"mechanism": "none"},
        "strategies": {"combine": {"rule": "mean"}, "outer": {"optimizer": "sgd", "lr": 1.0}},
        "server": {
            "rounds": 2,
            "evaluation": {"episodes": 2, "final_episodes": 3, "baselines": []},
            **changes,
        },
    }


def register_all() -> None:
    mw.register.tasks("clinics", clinics())
    mw.register.network("small", Small)
    mw.register.learner("slower", Slower)
