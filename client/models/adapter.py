"""A small adapter on a fixed front end, in coordinates in which its features are white.

Under a privacy budget what matters is the number of coordinates that are trained and how well they
are conditioned: the noise of a sum grows with the root of the first, and a direction that records
hardly vary in needs many steps. So theta is a low-rank change (Hu et al. 2022: LoRA: Low-Rank
Adaptation of Large Language Models) and a gain for each feature, after a fixed whitening.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from metaward.client.models.base import Frame
from metaward.client.models.scatter import Scatter


@dataclass(frozen=True)
class Adapter(Scatter):
    """The front end of ``scatter``, a frame, and a low-rank adapter in its coordinates.

    z = W x has the features x in the frame W (features, features), which starts as the identity and
    which no gradient changes: it can be learned in a round of its own (``client.warm_up``). The
    output is z * exp(gain) + up(down(z)), with ``rank`` numbers between ``down`` and ``up``. gain
    and ``up`` start at zero, so that the first output is z, and ``down`` is drawn at random. The
    output is linear in the features, so the adapter maps the mean of a class to the mean of what it
    makes of the class.
    """

    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    """Numbers between the adapter's two layers; theta grows with twice this for each feature."""

    own_start: ClassVar[bool] = True

    def body(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Frame and adapter: (batch, ..., features) -> (batch, ..., features)."""
        return LowRank(input_shape[0], self.rank)


class Gain(nn.Module):
    """A factor exp(log) for each feature, 1 at first."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.zeros(size))

    def forward(self, z: Tensor) -> Tensor:
        """(..., size) -> (..., size)."""
        return z * self.log.exp()

    def record_gradients(self, x: Tensor, g: Tensor) -> list[Tensor]:
        """For each record, from its inputs and errors (n, positions, size): (n, size)."""
        return [(x * g).sum(dim=1) * self.log.detach().exp()]


class LowRank(nn.Module):
    """z * exp(gain) + up(down(z)), where z is the input in the frame."""

    def __init__(self, size: int, rank: int) -> None:
        super().__init__()
        self.frame, self.gain = Frame(size), Gain(size)
        self.down = nn.Linear(size, rank, bias=False)
        self.up = nn.Linear(rank, size, bias=False)
        nn.init.normal_(self.down.weight, std=size**-0.5)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(..., size) -> (..., size), linear in x."""
        z = self.frame(x)
        out: Tensor = self.gain(z) + self.up(self.down(z))
        return out
