"""Convolutional networks for signals (1-D), images (2-D) and volumes (3-D)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import nn

from metaward.client.models.base import Architecture

Width = Annotated[int, Field(ge=1, le=1024)]
Depth = Annotated[int, Field(ge=1, le=6)]
LAYERS: dict[int, tuple[type[nn.Module], type[nn.Module]]] = {
    2: (nn.Conv1d, nn.MaxPool1d),
    3: (nn.Conv2d, nn.MaxPool2d),
    4: (nn.Conv3d, nn.MaxPool3d),
}
"""The convolution and the pool for inputs with this number of axes, the channels being one."""


@dataclass(frozen=True)
class Conv(Architecture):
    """Conv-N: ``depth`` blocks of 3-wide convolution, GroupNorm, ReLU, 2-wide max-pool.

    The network of Vinyals et al. (2016, Matching Networks for One Shot Learning), with GroupNorm
    (Wu, He 2018) in place of batch statistics, which would let records touch each other. The number
    of spatial axes follows the task: (C, L) signals, (C, H, W) images, (C, D, H, W) volumes.
    """

    width: Width = 32
    """Channels of every block."""
    depth: Depth = 4
    """Blocks; each of them halves every axis."""
    groups: Annotated[int, Field(ge=1)] = 8
    """Groups of channels that are normalised together; must divide `width`."""
    halve: Literal["pool", "stride"] = "pool"
    """What halves an axis: a 2-wide max-pool, or a convolution that steps by two."""

    own_start: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.width % self.groups:
            raise ValueError(f"groups: {self.groups} must divide width = {self.width}")

    def body(self, input_shape: tuple[int, ...]) -> nn.Module:
        """``depth`` blocks and a flatten: (batch, C, ...) -> (batch, features)."""
        self.features(input_shape)
        channels = [input_shape[0]] + [self.width] * self.depth
        convolution, pool = LAYERS[len(input_shape)]
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            stride = 2 if self.halve == "stride" else 1
            layers.append(convolution(before, after, 3, stride=stride, padding=1))
            layers += [nn.GroupNorm(self.groups, after), nn.ReLU()]
            layers += [pool(2)] if self.halve == "pool" else []
        return nn.Sequential(*layers, nn.Flatten())

    def features(self, input_shape: tuple[int, ...]) -> int:
        """Width times what ``depth`` halvings leave of each axis (pool rounds down, stride up)."""
        if len(input_shape) not in LAYERS:
            raise ValueError(
                "network conv takes signals (C, L), images (C, H, W) or volumes (C, D, H, W), not "
                f"shape {input_shape}; choose client.model.network: mlp"
            )
        size = self.width
        for axis in input_shape[1:]:
            for _ in range(self.depth):
                axis = axis // 2 if self.halve == "pool" else (axis + 1) // 2
            size *= axis
        if size == 0:
            raise ValueError(
                f"depth: {self.depth} halvings leave nothing of input shape {input_shape}; lower it"
            )
        return size
