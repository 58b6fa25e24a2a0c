"""What a stored image or volume of MedMNIST becomes on its way to the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaward.client.tasks.base import FloatArray
from metaward.client.tasks.medmnist_sets import How

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as PIL converts


@dataclass(frozen=True)
class Projection:
    """How a volume becomes an image: ``how`` along ``axis`` (0 to 2); ``none``: it stays one."""

    how: How
    axis: int

    def __call__(self, volumes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(n, side, side, side) -> (n, side, side), or the same volumes."""
        if self.how == "none":
            return volumes
        flat = volumes.max(self.axis + 1) if self.how == "max" else volumes.mean(self.axis + 1)
        image: NDArray[np.uint8] = np.round(flat).astype(np.uint8)
        return image


def to_input(images: NDArray[Any], channels: int) -> FloatArray:
    """Grey values (k, *space[, 3]) -> (k, channels, *space), 0..255 becoming -1..1.

    Colours have three values along the last axis; no axis of space is so short.
    """
    values = (images.astype(np.float32) - 127.5) / 127.5
    colour = images.shape[-1] == 3
    if colour and channels == 3:
        return np.ascontiguousarray(np.moveaxis(values, -1, 1))
    return np.repeat((values @ LUMA if colour else values)[:, None], channels, axis=1)
