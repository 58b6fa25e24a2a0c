"""The built-in source ``beats``: made-up heartbeats, for which no data are needed.

Every patient has a heart and an electrode position of their own, every hospital a recorder and a
case mix. A beat is a sum of bell curves, one for each of its waves, as in McSharry, Clifford,
Tarassenko, Smith 2003 ("A dynamical model for generating synthetic electrocardiogram signals", IEEE
Trans. Biomed. Eng. 50), without their dynamics. What the kinds look like is textbook knowledge; no
recording was used. The records have the shape of those of source ``ecg``, so that a network can be
trained, or a clip norm measured, on beats that belong to nobody.
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
    FewShot,
    Hospital,
    IntArray,
    Seat,
    TaskSpec,
    draw_classes,
)
from metaward.client.tasks.dealing import case_mix
from metaward.client.tasks.ecg import ADC_MAX, ADC_MIN, SAMPLES, standardise
from metaward.client.tasks.kinds import CLASSIFICATION
from metaward.client.tasks.preparation import MADE_UP, NOBODYS, Preparation, Step
from metaward.client.tasks.roster import place_of, seats

Floats = NDArray[np.float64]

RATE = 180  # samples a second
UNITS = 200  # of the recorder, in a millivolt


class Wave(NamedTuple):
    """A bell curve: its height in millivolts, its centre and its deviation in milliseconds, from
    the annotated peak."""

    height: float
    centre: float
    width: float


P, T = Wave(0.15, -165, 22), Wave(0.30, 240, 42)
Q, R, S = Wave(-0.12, -28, 9), Wave(1.10, 0, 10), Wave(-0.25, 27, 10)
WIDE, OPPOSITE = Wave(1.50, 5, 38), Wave(-0.45, 230, 55)

# fmt: off
KINDS: dict[str, tuple[Wave, ...]] = {
    "normal":             (P, Q, R, S, T),
    "left bundle":        (P, Wave(0.75, -18, 20), Wave(0.85, 32, 24), Wave(-0.35, 235, 50)),
    "right bundle":       (P, Wave(0.80, -12, 10), Wave(-0.35, 18, 10), Wave(0.55, 52, 20), T),
    "early atrial":       (Wave(0.13, -105, 14), Wave(0.25, -290, 40), Q, R, S, T),
    "junctional":         (Wave(-0.12, 62, 16), Q, R, S, T),
    "early ventricular":  (WIDE, Wave(-0.30, 80, 25), OPPOSITE),
    "ventricular escape": (Wave(-1.20, 8, 42), Wave(0.35, -55, 20), Wave(0.50, 225, 55)),
    "fusion":             (P, Wave(1.25, 2, 22), Wave(-0.22, 60, 20), Wave(-0.08, 235, 50)),
    "paced":              (Wave(1.30, -62, 3), Wave(-0.95, 10, 40), Wave(0.55, 225, 50)),
    "pre-excited":        (Wave(0.14, -115, 18), Wave(0.35, -42, 22), Wave(1.00, 0, 13), S, T),
    "ischaemic":          (P, Q, R, Wave(-0.20, 100, 55), Wave(-0.28, 240, 38)),
    "injured":            (P, Q, R, Wave(0.35, 95, 60), Wave(0.45, 220, 45)),
}
# fmt: on
NAMES = tuple(KINDS)


@dataclass(frozen=True)
class Beats(FewShot):
    """Options of ``client.tasks.source: beats``.

    Unseen hospitals hold the same kinds of beat, of patients of their own.
    """

    hospitals: Annotated[int, Field(ge=1, le=10_000)] = 6
    """Hospitals that meta-train."""
    unseen: Annotated[int, Field(ge=0, le=10_000)] = 6
    """Hospitals that only evaluate the result."""
    validation: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Further hospitals, set aside to choose among the rounds."""
    records: Annotated[int, Field(ge=1, le=100_000)] = 2000
    """Beats of each hospital."""
    patients: Annotated[int, Field(ge=1, le=100_000)] = 20
    """Patients of each hospital, whose beats these are."""
    held: Annotated[int, Field(ge=2, le=len(NAMES))] = 6
    """The most kinds of beat that one hospital holds."""
    skew: Annotated[float, Field(ge=0, le=100)] = 0.5
    """How uneven the case mix of a hospital is: Dirichlet shares with concentration 1 / skew; 0
    gives equal shares."""

    records_option = "records"
    preparation = Preparation(
        Step(
            "yes", "Each beat is scaled by its own mean and deviation; no record touches another."
        ),
        MADE_UP,
        NOBODYS,
    )

    def __post_init__(self) -> None:
        need = self.ways * max(sum(self.sizes(role)) for role in ROLES)
        if self.ways > self.held:
            raise ValueError(f"ways = {self.ways} must not be above held = {self.held}")
        if self.records < need:
            raise ValueError(
                f"records = {self.records} is below ways * (shots + queries) = {need}, the size of "
                "one task; raise records, or lower ways, shots or queries"
            )
        if self.canonical and self.ways != len(NAMES):
            raise ValueError(
                f"canonical = true needs ways = held = {len(NAMES)}, the number of kinds, but ways "
                f"= {self.ways}"
            )

    def roster(self) -> tuple[Seat, ...]:
        """``hospitals`` training seats, then ``unseen`` ones, then those for ``validation``."""
        return seats("beats", self.hospitals, self.unseen, self.validation)

    def spec(self) -> TaskSpec:
        """One lead of 128 samples, each beat standardised by its own mean and deviation."""
        return TaskSpec(CLASSIFICATION, (1, SAMPLES), self.ways, len(NAMES), self.canonical, NAMES)

    def declared_records(self) -> int:
        """The option ``records``."""
        return self.records

    def hospital(self, index: int, root: Path | None, seed: int) -> Hospital:
        """Draw the beats of hospital ``index``; ``root`` is not used."""
        strips = draw_strips(self, index, seed)
        return Hospital(
            seat=self.roster()[index],
            x=strips.x,
            y=strips.y,
            rows=np.arange(self.records),
            ids=strips.ids,
            patients=strips.patients,
            draw=partial(draw_classes, self),
            view=standardise,
            note=strips.note,
        )


class Strips(NamedTuple):
    """Everything that is drawn for one hospital; the arrays are read-only."""

    x: NDArray[np.int16]
    y: IntArray
    ids: NDArray[np.str_]
    patients: NDArray[np.str_]
    note: dict[str, str]


@lru_cache(maxsize=1024)
def draw_strips(source: Beats, index: int, seed: int) -> Strips:
    """Draw one hospital; its randomness depends on its role and number only."""
    seat = source.roster()[index]
    role, number = place_of(index, source.hospitals, source.unseen, source.validation)
    rng = np.random.default_rng([seed, ROLES.index(role), number])
    held = rng.permutation(len(NAMES))[: source.held]
    each = sum(source.sizes(role))
    y = case_mix(held, source.ways, each, source.records, source.skew, rng)
    who = rng.integers(source.patients, size=len(y))
    x = recorded(waves(y, who, source.patients, rng), rng)
    ids = np.array([f"{seat.name}/beat-{k}" for k in range(len(y))])
    patients = np.array([f"{seat.name}/patient-{k}" for k in who])
    counts = zip(*np.unique(y, return_counts=True), strict=True)
    note = {"case mix": "; ".join(f"{NAMES[c]} {k}" for c, k in counts)}
    for array in (x, y, ids, patients):
        array.setflags(write=False)
    return Strips(x, y, ids, patients, note)


def waves(y: IntArray, who: IntArray, patients: int, rng: np.random.Generator) -> Floats:
    """Beats (n, 128) in millivolts of kinds ``y`` (n,) of the patients ``who`` (n,).

    A patient's waves differ from the textbook's by factors and shifts of their own; beats of one
    patient and kind differ a little.
    """
    time = (np.arange(SAMPLES) - SAMPLES // 2) / RATE * 1000
    beats = np.zeros((len(y), SAMPLES))
    tempo, gain = np.exp(rng.uniform(-0.2, 0.2, patients)), np.exp(rng.uniform(-0.4, 0.4, patients))
    for kind in np.unique(y):
        own = np.flatnonzero(y == kind)
        patient = who[own]
        for wave in KINDS[NAMES[kind]]:
            factors = np.exp(rng.normal(0, (0.30, 0.15), (patients, 2)))[patient]
            factors *= np.exp(rng.normal(0, (0.06, 0.04), (len(own), 2)))
            shift = rng.normal(0, 0.06, patients)[patient] + rng.normal(0, 0.01, len(own))
            height = wave.height * factors[:, :1]
            width = wave.width * factors[:, 1:] * tempo[patient, None]
            centre = (wave.centre * (1 + shift) * tempo[patient])[:, None]
            beats[own] += height * np.exp(-(((time - centre) / width) ** 2) / 2)
    return beats * gain[who, None]


def recorded(beats: Floats, rng: np.random.Generator) -> NDArray[np.int16]:
    """The beats (n, 128) as the hospital's recorder stores them: a baseline that wanders, hum of
    the mains, noise of muscles, and the steps of its converter."""
    n, time = len(beats), np.arange(SAMPLES) / RATE
    hum, noise, wander = rng.uniform(0, (0.03, 0.04, 0.15))
    mains = hum * np.sin(2 * np.pi * (50 * time + rng.uniform(0, 1, (n, 1))))
    slow = wander * np.sin(2 * np.pi * (rng.uniform(0.2, 0.6, (n, 1)) * time + rng.random((n, 1))))
    seen = beats + mains + slow + rng.normal(0, noise, beats.shape)
    stored: NDArray[np.int16] = np.clip(np.round(UNITS * seen), ADC_MIN, ADC_MAX).astype(np.int16)
    return stored
