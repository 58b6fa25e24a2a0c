"""Convolutional networks for signals (1-D), images (2-D) and volumes (3-D)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from metaward.client.models.base import Architecture

Width = Annotated[int, Field(ge=1, le=1024)]
Depth = Annotated[int, Field(ge=1, le=6)]
IMAGES = 4
"""Axes of a batch of images."""
LAYERS: dict[int, tuple[type[nn.Module], type[nn.Module]]] = {
    2: (nn.Conv1d, nn.MaxPool1d),
    3: (nn.Conv2d, nn.MaxPool2d),
    4: (nn.Conv3d, nn.MaxPool3d),
}
"""The convolution and the pool for inputs with this number of axes, the channels being one."""


class Blocks(nn.Sequential):
    """Layers in turn; images on a CPU have the channels of a pixel side by side in memory.

    In that order torch's convolutions are somewhat faster on a CPU, and its pools several times.
    The transforms of ``torch.func`` cannot carry it, so that within them images stay as they are.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(batch, C, ...) -> (batch, features)."""
        first, *others = self
        if x.ndim != IMAGES or x.device.type != "cpu" or _transformed():
            return self._through(others, first(x))
        # hooks between the two may have put the images back into another order
        return self._through(others, _side_by_side(first(_side_by_side(x))))

    @staticmethod
    def _through(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
        for layer in layers:
            x = layer(x)
        return x


def _transformed() -> bool:
    """Whether a transform of ``torch.func`` is at work, in whatever tensor."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def _side_by_side(x: Tensor) -> Tensor:
    """The same images (n, C, H, W), ordered by pixels."""
    n, channels, high, wide = x.shape
    pixels = x.movedim(1, -1).reshape(n, high * wide * channels)
    # by a flat view, so that the strides say so where there is one channel, too
    return pixels.reshape(n, high, wide, channels).movedim(-1, 1)


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
            layers.append(nn.GroupNorm(self.groups, after))
            # pools commute with ReLU, which then has a quarter of an image to do
            layers += [pool(2), nn.ReLU()] if self.halve == "pool" else [nn.ReLU()]
        return Blocks(*layers, nn.Flatten())

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
