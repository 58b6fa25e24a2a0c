"""An image as another scanner would show it, with other contrast, sharpness and noise."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Scanner(NamedTuple):
    """One hospital's machine: blur in pixels, noise as a deviation of grey values in [0, 1].

    The settings (1, 1, 0, 0) leave an image as it is.
    """

    gain: float
    gamma: float
    blur: float
    noise: float

    def render(self, images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Images (n, side, side[, 3]) or volumes (n, side, side, side) as this machine shows
        them; colours stay apart."""
        from scipy.ndimage import gaussian_filter  # here: few sources have scanners

        grey = images.astype(np.float32) / 255
        colour = images.shape[-1] == 3
        spread = (0, *[self.blur] * (grey.ndim - 1 - colour), *[0] * colour)
        seen = self.gain * gaussian_filter(grey, sigma=spread) ** self.gamma
        seen += self.noise * rng.standard_normal(seen.shape, dtype=np.float32)
        return np.round(255 * np.clip(seen, 0, 1)).astype(np.uint8)

    def __str__(self) -> str:
        return " ".join(f"{key} {value:.2f}" for key, value in self._asdict().items())


def draw_scanner(strength: float, rng: np.random.Generator) -> Scanner:
    """A random machine; at ``strength`` 0 all are the same and leave images as they are.

    At strength 1 gain lies in [0.74, 1.35], gamma in [0.64, 1.57], blur in [0, 0.8] pixels and
    noise in [0, 0.06].
    """
    gain, gamma = np.exp(strength * rng.uniform(-1, 1, size=2) * [0.3, 0.45])
    blur, noise = strength * rng.uniform(0, 1, size=2) * [0.8, 0.06]
    return Scanner(float(gain), float(gamma), float(blur), float(noise))
