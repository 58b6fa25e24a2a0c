"""Where noise comes from, and how it is added without leaving a trace in the last bits.

Float64 numbers have holes: of ``sum + noise`` the last bits can tell which sums are possible at all
(Mironov 2012: On Significance of the Least Significant Bits for Differential Privacy). So the sum
and the noise are each rounded to one power-of-two grid and added there as integers. With the sum S
on the grid, S + round(N) = round(S + N): the result is the textbook mechanism followed by a
rounding that sees no data. What rounding S adds to the sensitivity, the noise pays for.

Not covered: the Gaussian itself is computed in float64, so each cell of the grid has its
probability up to a relative error of about 1e-6, and the time a draw takes is not constant.
"""

from __future__ import annotations

import math
import os
from typing import Protocol

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray
from torch import Tensor

INFLATION = 2.0**-10
"""The most that rounding may add to the sensitivity, relative to the clip norm."""


class Noise(Protocol):
    """A source of random numbers for privacy."""

    name: str
    """What a report prints about the source."""
    secret: bool
    """Whether nobody could draw the same again, so that a guarantee may rest on it."""

    def gaussian(self, n: int) -> NDArray[np.float64]:
        """Independent standard normal values (n,)."""
        ...

    def uniform(self, n: int) -> NDArray[np.float64]:
        """Independent values (n,), uniform in [0, 1)."""
        ...


class SystemNoise:
    """The operating system's entropy, stretched by AES-256 in counter mode.

    Every call takes a fresh 256-bit key from ``os.urandom`` and drops it: there is no state that a
    forked process, a copy or a snapshot of the machine could repeat.
    """

    name = "AES-256-CTR, a fresh key from the operating system for every draw"
    secret = True

    def gaussian(self, n: int) -> NDArray[np.float64]:
        """Box, Muller (1958): pairs r cos(a), r sin(a) from 64-bit uniforms.

        Values end at sqrt(2 * 65 * ln 2) = 9.5 standard deviations; what is missing beyond has
        probability 2^-65 a pair, far below any delta in use, even times millions of coordinates.
        """
        pairs = (n + 1) // 2
        radius, angle = _words(2 * pairs).reshape(2, pairs)
        r = np.sqrt(-2.0 * np.log((radius.astype(np.float64) + 0.5) * 2.0**-64))
        a = angle.astype(np.float64) * (2.0 * math.pi * 2.0**-64)
        return np.concatenate([r * np.cos(a), r * np.sin(a)])[:n]

    def uniform(self, n: int) -> NDArray[np.float64]:
        """Multiples of 2^-53, all equally likely."""
        return (_words(n) >> np.uint64(11)).astype(np.float64) * 2.0**-53


class SeededNoise:
    """Repeatable noise, for simulation only: who knows the seed can subtract it.

    One object is one stream. Two objects with equal seeds give equal noise, so the seed must name
    everything that tells draws apart: run, hospital, round. Seeds are whole numbers from 0 on.
    """

    name = "SEEDED: repeatable, for simulation only; protects from nobody who knows the seed"
    secret = False

    def __init__(self, *seed: int) -> None:
        if not seed or min(seed) < 0:
            raise ValueError(f"seed = {seed}: give at least one whole number, all from 0 on")
        self._rng = np.random.default_rng(list(seed))

    def gaussian(self, n: int) -> NDArray[np.float64]:
        """The next n normal values of the stream."""
        return self._rng.standard_normal(n)

    def uniform(self, n: int) -> NDArray[np.float64]:
        """The next n uniform values of the stream."""
        return self._rng.random(n)


def check_clip(clip: float) -> None:
    """``ValueError`` where a clip norm is no number that float64 can square without loss."""
    if not 2.0**-100 <= clip <= 2.0**100:
        raise ValueError(f"clip = {clip} is not a norm from 1e-30 to 1e30; 1.0 is a common choice")


def grid(clip: float, d: int) -> float:
    """The largest power of two whose sqrt(d)-fold is at most ``INFLATION`` * clip.

    Rounding moves each of d coordinates by half a step at most, hence two neighbouring sums apart
    by one step a coordinate, by step * sqrt(d) in norm.
    """
    check_clip(clip)
    return math.ldexp(0.5, math.frexp(INFLATION * clip / math.sqrt(max(d, 1)))[1])


def deviation(clip: float, noise_multiplier: float, d: int) -> float:
    """Standard deviation of the noise on each of d coordinates: ``noise_multiplier`` times the
    sensitivity of the rounded sum, clip + step * sqrt(d). At most 0.1 % above multiplier * clip.
    """
    if not 0 <= noise_multiplier < 2.0**16:
        raise ValueError(f"noise_multiplier = {noise_multiplier} is not in [0, 65536)")
    return noise_multiplier * (clip + grid(clip, d) * math.sqrt(d))


def noisy(
    total: Tensor | NDArray[np.float64], clip: float, noise_multiplier: float, noise: Noise
) -> NDArray[np.float64]:
    """A clipped sum (d,) plus Gaussian noise, (d,) float64, every value a multiple of ``grid``.

    ``total`` must have a sensitivity of at most ``clip``: one unit nulled moves it by no more, as
    ``clipping.clipped_sum`` ensures. The sum is then (1 / noise_multiplier)-GDP (Dong, Roth, Su
    2019: Gaussian Differential Privacy). A multiplier of 0 gives the sum as it came, unprotected.
    ``ValueError``: a total that clipping cannot give (not finite, not one axis, out of range).
    """
    values = _values(total)
    scale, step = deviation(clip, noise_multiplier, len(values)), grid(clip, len(values))
    if noise_multiplier == 0:
        return values
    whole = np.rint(values / step)  # division by a power of two: exact
    if np.abs(whole).max(initial=0) >= 2**52:  # integers up to 2^53 are float64 numbers
        raise ValueError(f"total is out of range for clip = {clip}: was it clipped?")
    drawn = np.rint(noise.gaussian(len(values)) * (scale / step))
    return (whole.astype(np.int64) + drawn.astype(np.int64)).astype(np.float64) * step


def _values(total: Tensor | NDArray[np.float64]) -> NDArray[np.float64]:
    """A copy in float64, judged."""
    plain = total.detach().cpu().numpy() if isinstance(total, Tensor) else total
    values: NDArray[np.float64] = np.array(plain, np.float64)
    if values.ndim != 1:
        raise ValueError(f"total has shape {values.shape}; give one flat vector (d,)")
    if not np.isfinite(values).all():
        raise ValueError("total is not finite; clip with clipping.clipped_sum, which zeroes those")
    return values


def _words(n: int) -> NDArray[np.uint64]:
    """n fresh 64-bit words: zeros encrypted under a key that is used once."""
    stream = Cipher(algorithms.AES(os.urandom(32)), modes.CTR(bytes(16))).encryptor()
    return np.frombuffer(stream.update(bytes(8 * n)), np.uint64)
