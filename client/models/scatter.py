"""A fixed front end of oriented filters, and one trainable layer that mixes their features.

Tramer, Boneh 2021: Differentially Private Learning Needs Better Features (or Much More Data). Under
a privacy budget a convolution that is learned from noisy sums is worse than one that is known
beforehand, as in the scattering networks of Bruna, Mallat 2013 (Invariant Scattering Convolution
Networks): nothing of it is trained, hence nothing of it is noised.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import pi
from typing import Annotated, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from metaward.client.models.base import Architecture, Mix

SIZE = 9  # pixels of a filter along each axis
SCALES = ((0.8, 2.5), (1.4, 4.0), (2.2, 7.0))  # width of the envelope, wave length; in pixels
FLOOR = 1e-3  # added to a measured strength, so that its logarithm is finite
STATISTICS = 3  # of each map in each cell: largest, mean, root mean square
SAMPLES = 256  # samples of noise, from which the centre is computed

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scatter(Architecture):
    """Log strengths of edges, spots and lines; then a square layer without bias.

    Gabor filters of three scales and ``orientations`` directions (one along a signal) give an even
    and an odd response; their modulus and both signs of the even one, and both signs of the input,
    are maps. Of each map the largest value, mean and root mean square are taken in ``grid`` cells
    along each axis; with 1 the features do not depend on position. (Cells are whole pixels of one
    size, so where ``grid`` does not divide an axis, as many as fit: 10 on 28 pixels is 14 cells of
    2.) From the logarithms a constant is subtracted, their mean on 1/f noise, so that features lie
    around zero without a look at any record. The square layer starts as the identity, as a ``Mix``
    does.
    """

    orientations: Annotated[int, Field(ge=1, le=16)] = 4
    """Directions of the fixed filters on an image; on a signal there is one."""
    grid: Annotated[int, Field(ge=1, le=16)] = 1
    """Cells along each axis in which the filters' outputs are summarised; with 1 the features do
    not depend on position."""

    own_start: ClassVar[bool] = False

    def front(self, input_shape: tuple[int, ...]) -> nn.Module:
        """The front end: (batch, C, ...) -> (batch, features)."""
        if len(input_shape) not in (2, 3):
            raise ValueError(
                f"network scatter takes signals (C, L) or images (C, H, W), not shape "
                f"{input_shape}; choose client.model.network: mlp"
            )
        if self.grid > min(input_shape[1:]):
            raise ValueError(
                f"grid: {self.grid} cells do not fit into shape {input_shape}; "
                f"choose {min(input_shape[1:])} or fewer"
            )
        return Front(self, input_shape)

    def body(self, input_shape: tuple[int, ...]) -> nn.Module:
        """The mixing layer: (batch, features) -> (batch, features)."""
        return Mix(*input_shape)

    def features(self, input_shape: tuple[int, ...]) -> int:
        """As many as the front end gives: channels times maps times statistics times cells."""
        return input_shape[0]


class Front(nn.Module):
    """The part without parameters: (batch, C, ...) -> (batch, features)."""

    def __init__(self, architecture: Scatter, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.filters = torch.from_numpy(_filters(len(input_shape) - 1, architecture.orientations))
        self.cell = _cell(architecture, input_shape)
        self.centre = _centre(architecture, input_shape)

    def forward(self, x: Tensor) -> Tensor:
        """Logarithms of the strengths, around zero."""
        return strengths(x, self.filters.to(x), self.cell) - self.centre.to(x)


@lru_cache
def _centre(architecture: Scatter, input_shape: tuple[int, ...]) -> Tensor:
    """Mean logarithms (features,) of the strengths of noise."""
    filters = torch.from_numpy(_filters(len(input_shape) - 1, architecture.orientations))
    noise, cell = torch.from_numpy(_noise(input_shape)), _cell(architecture, input_shape)
    return strengths(noise, filters, cell).mean(dim=0)


def _cell(architecture: Scatter, input_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Pixels of a cell along each axis."""
    return tuple(axis // architecture.grid for axis in input_shape[1:])


def strengths(x: Tensor, filters: Tensor, cell: tuple[int, ...]) -> Tensor:
    """Logarithms of the strengths (batch, features) of all maps of x (batch, C, ...)."""
    convolve = functional.conv1d if len(cell) == 1 else functional.conv2d
    z = x.reshape(-1, 1, *x.shape[2:])
    responses = convolve(z, filters, padding=SIZE // 2)
    even, odd = responses[:, 0::2], responses[:, 1::2]
    modulus = (even.square() + odd.square() + FLOOR**2).sqrt()
    maps = torch.cat([modulus, *(part.relu() for part in (even, -even, z, -z))], dim=1)
    # len(x) would be a constant to torch.export, which follows shapes
    return (_statistics(maps, cell) + FLOOR).log().reshape(x.shape[0], -1)


def _statistics(maps: Tensor, cell: tuple[int, ...]) -> Tensor:
    """Largest, mean and root mean square of each map (n, maps, ...) in each cell."""
    pixels = _cells(maps, cell)
    energy = pixels.square().mean(dim=-1) + FLOOR**2
    return torch.cat([pixels.amax(dim=-1), pixels.mean(dim=-1), energy.sqrt()], dim=1)


def _cells(maps: Tensor, cell: tuple[int, ...]) -> Tensor:
    """The pixels of each whole cell: (n, maps, ...) -> (n, maps, cells along each axis, pixels)."""
    axes = len(cell)
    for axis, size in enumerate(cell):
        place = 2 + 2 * axis  # each axis before became two
        whole = maps.shape[place] // size
        maps = maps.narrow(place, 0, whole * size)
        maps = maps.unflatten(place, (whole, size))  # type: ignore[no-untyped-call]
    inside = tuple(range(3, 3 + 2 * axes, 2))
    return maps.movedim(inside, tuple(range(-axes, 0))).flatten(-axes)


@lru_cache
def _filters(axes: int, orientations: int) -> Floats:
    """Even and odd filters in turn (2k, 1, SIZE[, SIZE]), each of absolute sum 1, mean 0."""
    ticks = np.arange(SIZE) - SIZE // 2
    grid = np.meshgrid(*[ticks] * axes, indexing="ij")
    filters = []
    for width, wave in SCALES:
        envelope = np.exp(-sum(g**2 for g in grid) / (2 * width**2))
        for k in range(orientations if axes == 2 else 1):
            angle = pi * k / orientations
            along = grid[-1] * np.cos(angle) + (grid[0] * np.sin(angle) if axes == 2 else 0)
            even = envelope * np.cos(2 * pi * along / wave)
            even = even - envelope * even.sum() / envelope.sum()
            odd = envelope * np.sin(2 * pi * along / wave)
            filters += [even / np.abs(even).sum(), odd / np.abs(odd).sum()]
    return np.stack(filters)[:, None]


def _noise(input_shape: tuple[int, ...]) -> Floats:
    """Samples (n, C, ...) whose amplitude falls with frequency, of standard deviation 1/2."""
    axes = input_shape[1:]
    rates = np.meshgrid(*[np.fft.fftfreq(axis) for axis in axes], indexing="ij")
    rate = np.sqrt(sum(r**2 for r in rates))
    white = np.random.default_rng(0).standard_normal((SAMPLES, *input_shape))
    where = tuple(range(2, 2 + len(axes)))
    spectrum = np.fft.fftn(white, axes=where) / np.maximum(rate, 1 / max(axes))
    x = np.fft.ifftn(spectrum, axes=where).real
    x = (x - x.mean(axis=where, keepdims=True)) / x.std(axis=where, keepdims=True) / 2
    return np.asarray(np.clip(x, -1, 1), np.float64)
