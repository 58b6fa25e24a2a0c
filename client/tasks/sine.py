"""The source ``sine``: sinusoid regression, the small problem that introduces meta-learning.

Finn, Abbeel and Levine (2017), "Model-Agnostic Meta-Learning for Fast Adaptation of Deep
Networks", section 5.1: y = a sin(x - p) with a in [0.1, 5], p in [0, pi] and x in [-5, 5]. Here
every hospital holds measurements of its own sinusoids only, from its own part of those ranges.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from metaward.client.tasks.base import (
    ROLES,
    FloatArray,
    Hospital,
    IntArray,
    Seat,
    TaskSize,
    TaskSpec,
    draw_function,
)
from metaward.client.tasks.kinds import REGRESSION
from metaward.client.tasks.preparation import MADE_UP, NOBODYS, Preparation, Step
from metaward.client.tasks.roster import place_of, seats

AMPLITUDE = (0.1, 5.0)
PHASE = (0.0, float(np.pi))  # radians
SPAN = (-5.0, 5.0)  # the range of x

Range = tuple[float, float]


@dataclass(frozen=True)
class Sine:
    """Options of ``client.tasks.source: sine``.

    A task is one of a hospital's sinusoids, with some of its measurements.
    """

    shots: Annotated[int, Field(ge=1, le=10_000)] = 10
    """The measurements of a task for adaptation."""
    queries: Annotated[int, Field(ge=1, le=10_000)] = 20
    """The other measurements of a task, for evaluation."""
    hospitals: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Hospitals that meta-train."""
    unseen: Annotated[int, Field(ge=0, le=10_000)] = 10
    """Hospitals that only evaluate the result."""
    validation: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Further hospitals, set aside to choose among the rounds."""
    functions: Annotated[int, Field(ge=1, le=10_000)] = 50
    """Sinusoids that each hospital holds; a task is one of them."""
    points: Annotated[int, Field(ge=2, le=10_000)] = 50
    """Measurements of each sinusoid."""
    spread: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """How much hospitals differ: at 0 all draw from the full ranges of amplitude and phase; at s
    each draws from a random part of each range, whose length is 1 - s of the whole."""
    noise: Annotated[float, Field(ge=0, le=5)] = 0.0
    """The standard deviation of the normal noise on each measurement."""

    records_option = None
    preparation = Preparation(
        Step("not used", "Values are used as they are; nothing is scaled."), MADE_UP, NOBODYS
    )

    def __post_init__(self) -> None:
        need = self.shots + self.queries
        if self.points < need:
            raise ValueError(
                f"points = {self.points} is below shots + queries = {need}, the size of one task; "
                "raise points, or lower shots or queries"
            )

    def roster(self) -> tuple[Seat, ...]:
        """``hospitals`` training seats, then ``unseen`` ones, then those for ``validation``."""
        return seats("sine", self.hospitals, self.unseen, self.validation)

    def spec(self) -> TaskSpec:
        """Regression from x to y, one number each."""
        return TaskSpec(REGRESSION, (1,), 1, 0, canonical=True)

    def task_size(self) -> TaskSize:
        """Measurements of one sinusoid."""
        return TaskSize(self.shots, self.queries)

    def declared_records(self) -> int:
        """All measurements of all sinusoids."""
        return self.functions * self.points

    def most_tasks(self, records: int) -> int:
        """Tasks of one sinusoid each; of any records if ``records`` is not the declared number."""
        size = self.task_size().records
        if records != self.declared_records():
            return records // size
        return self.functions * (self.points // size)

    def hospital(self, index: int, root: Path | None, seed: int) -> Hospital:
        """Measure the sinusoids of hospital ``index``; ``root`` is not used."""
        waves = draw_waves(self, index, seed)
        return Hospital(
            seat=self.roster()[index],
            x=waves.x,
            y=waves.y,
            rows=np.arange(len(waves.x)),
            ids=waves.ids,
            patients=waves.patients,
            draw=partial(draw_function, self.task_size()),
            view=_as_is,
            groups=waves.group,
            note={
                "amplitude": "{:.2f} to {:.2f}".format(*waves.amplitudes),
                "phase": "{:.2f} to {:.2f} rad".format(*waves.phases),
                "noise": f"{self.noise:g}",
            },
        )

    def true_curve(self, index: int, seed: int, group: int, x: FloatArray) -> FloatArray:
        """The noiseless sinusoid ``group`` of hospital ``index`` at x (n,), as (n,), for figures.

        A task's own sinusoid is ``hospital.groups[episode.support_rows[0]]``.
        """
        waves = draw_waves(self, index, seed)
        return _sine(waves.amplitude[group], waves.phase[group], x).astype(np.float32)


class Waves(NamedTuple):
    """Everything that is drawn for one hospital; arrays are read-only.

    ``amplitude``, ``phase`` (functions,) lie within ``amplitudes``, ``phases``; ``x``, ``y``
    (functions * points, 1) are the measurements, ``group`` the sinusoid behind each.
    """

    amplitudes: Range
    phases: Range
    amplitude: NDArray[np.float64]
    phase: NDArray[np.float64]
    x: FloatArray
    y: FloatArray
    group: IntArray
    ids: NDArray[np.str_]
    patients: NDArray[np.str_]


@lru_cache(maxsize=1024)
def draw_waves(source: Sine, index: int, seed: int) -> Waves:
    """Draw one hospital; its randomness depends on its role and number only."""
    seat = source.roster()[index]
    role, number = place_of(index, source.hospitals, source.unseen, source.validation)
    rng = np.random.default_rng([seed, ROLES.index(role), number])
    amplitudes, phases = (_part(full, source.spread, rng) for full in (AMPLITUDE, PHASE))
    amplitude = rng.uniform(*amplitudes, size=source.functions)
    phase = rng.uniform(*phases, size=source.functions)
    group = np.repeat(np.arange(source.functions), source.points)
    x = rng.uniform(*SPAN, size=len(group)).astype(np.float32)
    y = _sine(amplitude[group], phase[group], x) + source.noise * rng.standard_normal(len(group))
    waves = Waves(
        amplitudes,
        phases,
        amplitude,
        phase,
        x[:, None],
        y[:, None].astype(np.float32),
        group,
        np.array([f"{seat.name}/{g}/{k % source.points}" for k, g in enumerate(group)]),
        np.array([f"{seat.name}/{g}" for g in group]),
    )
    for array in waves[2:]:
        array.setflags(write=False)
    return waves


def _part(full: Range, spread: float, rng: np.random.Generator) -> Range:
    """A part of length 1 - spread of the full range, at a random place in it."""
    low, high = full
    length = (1 - spread) * (high - low)
    start = low + rng.uniform(0, 1) * (high - low - length)
    return float(start), float(start + length)


def _sine(
    amplitude: NDArray[np.float64] | float, phase: NDArray[np.float64] | float, x: FloatArray
) -> NDArray[np.float64]:
    wave: NDArray[np.float64] = amplitude * np.sin(x.astype(np.float64) - phase)
    return wave


def _as_is(x: FloatArray) -> FloatArray:
    """Records (k, 1) are the network's input already."""
    return x
