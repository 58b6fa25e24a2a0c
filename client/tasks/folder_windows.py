"""Windows around the annotations of a recorded signal: what a run asks for, and how they are cut.

A window depends on its own samples alone: it is resampled, centred and scaled without a look at the
rest of the recording.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

Word = Annotated[str, Field(min_length=1, max_length=200)]

REACH = 1.0
"""Seconds before and after an annotation that define what it shows. A run may ask for less and not
for more: what lies further off is the content of other annotations, which would not pay for it."""
FINEST = 1000
"""The largest denominator of the ratio of two sampling rates."""


@dataclass(frozen=True)
class Recording:
    """Options of ``client.tasks.recording``: what is taken of recorded signals.

    A record is the window of ``shape`` = [leads, samples] around one annotation, which is its
    sample number samples // 2.
    """

    rate: Annotated[float, Field(ge=1, le=100_000)]
    """Samples a second of a window; a file of another rate is resampled, each window by itself."""
    leads: tuple[Word, ...] = ()
    """The leads by their names in the header, in the order of the network's channels; an empty
    list: all of a file, which must have as many as `shape` says."""
    ignore: tuple[Word, ...] = ()
    """Symbols of annotations that are no records, such as `+` (a change of rhythm); any other
    symbol that is not in `classes` or `novel` is refused."""
    units: Word = "mV"
    """The physical unit that every lead must have in its header."""
    scale: Annotated[float, Field(gt=0)] = 1.0
    """How many of these units become 1."""
    centred: bool = False
    """Whether each lead of a window has its own mean taken off."""


@dataclass(frozen=True)
class Cut:
    """How windows of ``samples`` at ``rate`` lie in a signal of ``fs`` samples a second."""

    samples: int
    rate: float
    fs: float

    @property
    def ratio(self) -> Fraction:
        """Samples of the window for each sample of the signal."""
        return Fraction(self.rate / self.fs).limit_denominator(FINEST)

    @property
    def too_coarse(self) -> bool:
        """Whether that is less than ``ratio`` can say."""
        return self.rate * FINEST < self.fs

    @property
    def before(self) -> int:
        """Samples of the signal that a window needs before its annotation."""
        return ceil((self.samples // 2) / self.ratio)

    @property
    def after(self) -> int:
        """Samples of the signal that a window needs from its annotation on."""
        return ceil((self.samples - self.samples // 2) / self.ratio)

    def inside(self, at: NDArray[np.int64], length: int) -> NDArray[np.bool_]:
        """Whether the window of each annotation (n,) lies in a signal of this length."""
        return np.asarray((at >= self.before) & (at + self.after <= length))

    def windows(
        self, signal: NDArray[np.float64], at: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Windows (n, leads, samples) of a signal (length, leads) around ``at`` (n,), and whether
        all that each is made of is a finite number (n,)."""
        places = at[:, None] + np.arange(-self.before, self.after)
        raw = signal[places]
        found = self._resampled(raw)
        start = int(self.before * self.ratio) - self.samples // 2
        cut = np.moveaxis(found[:, start : start + self.samples], 1, 2)
        return cut, np.isfinite(raw).all(axis=(1, 2))

    def _resampled(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.ratio == 1:
            return raw
        from scipy.signal import resample_poly  # takes long to import, and few sources need it

        up, down = self.ratio.as_integer_ratio()
        return np.asarray(resample_poly(raw, up, down, axis=1, padtype="line"))


def fits(samples: int, rate: float) -> bool:
    """Whether a window lies within ``REACH`` of its annotation."""
    return samples - samples // 2 <= REACH * rate


def content(signal: NDArray[np.int64], at: int, fs: float) -> bytes:
    """What lies in the file around an annotation: the stored samples of all leads of a signal
    (length, leads) within ``REACH``, or up to its end, whatever a run asks for."""
    reach = ceil(fs * REACH * (1 + 1 / FINEST)) + 1  # windows by a rounded ratio lie within it, too
    return signal[max(0, at - reach) : at + reach + 1].astype("<i8").tobytes()


def network_input(windows: NDArray[np.float64], asked: Recording) -> NDArray[np.float32]:
    """Windows (n, leads, samples) in physical units as the network sees them."""
    if asked.centred:
        windows = windows - windows.mean(axis=2, keepdims=True)
    return (windows / asked.scale).astype(np.float32)
