"""The built-in source ``phantom``: made-up medical images, for which no data are needed.

Every hospital has its own scanner, modality and case mix, and its own patients. Meta-training
hospitals hold the known findings; unseen hospitals hold findings (``novel`` of them) that no
meta-training hospital has ever seen, so a task there asks for adaptation, not for memory. Hospitals
set aside for validation hold known findings: the novel ones are for the final result alone. A
hospital is drawn when it is opened, from the run's seed, its role and its number alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from metaward.client.tasks.base import (
    ROLES,
    FewShot,
    FloatArray,
    Hospital,
    IntArray,
    Seat,
    TaskSpec,
    draw_classes,
)
from metaward.client.tasks.dealing import case_mix
from metaward.client.tasks.kinds import CLASSIFICATION
from metaward.client.tasks.phantom_anatomy import MODALITIES, SIDE, pose
from metaward.client.tasks.phantom_findings import FINDINGS, place
from metaward.client.tasks.preparation import GREY_VALUES, MADE_UP, NOBODYS, Preparation
from metaward.client.tasks.roster import place_of, seats
from metaward.client.tasks.scanner import draw_scanner

Modality = Literal["ct", "xray", "mri", "ultrasound"]
NAMES = tuple(FINDINGS)
CONTRAST = (0.45, 0.75)  # change of brightness that a finding makes, drawn for each image
EXPOSURE = (0.9, 1.1)  # factor on the brightness of a whole image


@dataclass(frozen=True)
class Phantom(FewShot):
    """Options of ``client.tasks.source: phantom``.

    Each hospital has a scanner and a case mix of its own.
    """

    hospitals: Annotated[int, Field(ge=1, le=10_000)] = 12
    """Hospitals that meta-train."""
    unseen: Annotated[int, Field(ge=0, le=10_000)] = 6
    """Hospitals that only evaluate the result."""
    validation: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Further hospitals, set aside to choose among the rounds; they hold the known findings."""
    records: Annotated[int, Field(ge=1, le=100_000)] = 300
    """Images of each hospital."""
    modalities: tuple[Modality, ...] = ("ct", "xray", "mri", "ultrasound")
    """The kinds of image, dealt to the hospitals in turn."""
    mixed: bool = False
    """Whether each patient of a hospital has a modality drawn from all of them."""
    findings: Annotated[int, Field(ge=2, le=len(NAMES))] = 11
    """Findings that meta-training hospitals know."""
    novel: Annotated[int, Field(ge=0, le=len(NAMES))] = 5
    """Findings that only unseen hospitals hold; 0: unseen hospitals hold the known ones."""
    held: Annotated[int, Field(ge=2, le=len(NAMES))] = 6
    """The most findings that one hospital holds."""
    skew: Annotated[float, Field(ge=0, le=100)] = 0.5
    """How uneven the case mix of a hospital is: Dirichlet shares with concentration 1 / skew; 0
    gives equal shares."""
    scanner: Annotated[float, Field(ge=0, le=2)] = 1.0
    """How much scanners differ; 0: not at all."""

    records_option = "records"
    preparation = Preparation(GREY_VALUES, MADE_UP, NOBODYS)

    def __post_init__(self) -> None:
        for rule, problem in self._rules():
            if not rule:
                raise ValueError(problem)

    def _rules(self) -> tuple[tuple[bool, str], ...]:
        """The rules between the options, each with the message for a breach of it."""
        need, most = self.ways * max(sum(self.sizes(r)) for r in ROLES), len(NAMES)
        unique = len(set(self.modalities)) == len(self.modalities) > 0
        return (
            (
                unique,
                f"modalities = {list(self.modalities)} must name at least one of "
                f"{', '.join(MODALITIES)}, none of them twice",
            ),
            (
                self.findings + self.novel <= most,
                f"findings + novel = {self.findings} + {self.novel} is more than the {most} "
                "findings that phantom can draw",
            ),
            (
                self.ways <= min(self.held, self.findings),
                f"ways = {self.ways} must not be above held = {self.held} nor "
                f"findings = {self.findings}",
            ),
            (
                self.novel == 0 or self.novel >= self.ways,
                f"novel = {self.novel} must be 0 or at least ways = {self.ways}, because an "
                "unseen hospital's task takes all its findings from the novel ones",
            ),
            (
                self.records >= need,
                f"records = {self.records} is below ways * (shots + queries) = {need}, "
                "the size of one task; raise records, or lower ways, shots or queries",
            ),
            (
                not self.canonical or (self.ways == self.findings and self.novel == 0),
                "canonical = true needs ways = findings and novel = 0, else label j would not "
                f"mean one finding (ways = {self.ways}, findings = {self.findings}, "
                f"novel = {self.novel})",
            ),
        )

    def roster(self) -> tuple[Seat, ...]:
        """``hospitals`` training seats, then ``unseen`` ones, then those for ``validation``."""
        return seats("phantom", self.hospitals, self.unseen, self.validation)

    def spec(self) -> TaskSpec:
        """N-way classification of one-channel 28 x 28 images."""
        names, shape = NAMES[: self.findings], (1, SIDE, SIDE)
        return TaskSpec(CLASSIFICATION, shape, self.ways, len(names), self.canonical, names)

    def declared_records(self) -> int:
        """The option ``records``."""
        return self.records

    def hospital(self, index: int, root: Path | None, seed: int) -> Hospital:
        """Draw the images of hospital ``index``; ``root`` is not used."""
        ward = draw_ward(self, index, seed)
        return Hospital(
            seat=self.roster()[index],
            x=ward.x,
            y=ward.y,
            rows=np.arange(self.records),
            ids=ward.ids,
            patients=ward.patients,
            draw=partial(draw_classes, self),
            view=to_input,
            note=ward.note,
        )


class Ward(NamedTuple):
    """Everything that is drawn for one hospital; the arrays are read-only."""

    x: NDArray[np.uint8]
    y: IntArray
    ids: NDArray[np.str_]
    patients: NDArray[np.str_]
    modality: NDArray[np.str_]
    note: dict[str, str]


def to_input(x: NDArray[np.uint8]) -> FloatArray:
    """Grey values (k, 28, 28) as network input (k, 1, 28, 28), 0..255 becoming -1..1."""
    return (x[:, None].astype(np.float32) - 127.5) / 127.5


@lru_cache(maxsize=1024)
def draw_ward(source: Phantom, index: int, seed: int) -> Ward:
    """Draw one hospital; its randomness depends on its role and number only."""
    seat = source.roster()[index]
    role, number = place_of(index, source.hospitals, source.unseen, source.validation)
    rng = np.random.default_rng([seed, ROLES.index(role), number])
    scanner = draw_scanner(source.scanner, rng)
    y = findings_of(source, seat, rng)
    who = visits(source.records, rng)
    modality = _modalities(source, number, rng)[who]
    x = scanner.render(_draw(modality, y, who, rng), rng)
    ids = np.array([f"{seat.name}/image-{k}" for k in range(len(y))])
    patients = np.array([f"{seat.name}/patient-{k}" for k in who])
    counts = zip(*np.unique(y, return_counts=True), strict=True)
    note = {
        "modality": ", ".join(np.unique(modality)),
        "scanner": str(scanner),
        "case mix": "; ".join(f"{NAMES[c]} {k}" for c, k in counts),
    }
    for array in (x, y, ids, patients, modality):
        array.setflags(write=False)
    return Ward(x, y, ids, patients, modality, note)


def findings_of(source: Phantom, seat: Seat, rng: np.random.Generator) -> IntArray:
    """Class index of each record (records,), of the findings that this hospital holds.

    Findings do not depend on the patient, so that recognising a patient never helps.
    """
    novel = seat.role == "unseen" and source.novel > 0
    first, count = (source.findings, source.novel) if novel else (0, source.findings)
    held = first + rng.permutation(count)[: source.held]
    each = sum(source.sizes(seat.role))
    return case_mix(held, source.ways, each, source.records, source.skew, rng)


def visits(records: int, rng: np.random.Generator) -> IntArray:
    """The patient's number (records,) behind each record; a patient comes one to three times."""
    return np.repeat(np.arange(records), rng.integers(1, 4, size=records))[:records]


def _modalities(source: Phantom, number: int, rng: np.random.Generator) -> NDArray[np.str_]:
    """The modality of each patient (records,): the hospital's own one, or any when mixed."""
    names = np.array(source.modalities)
    if source.mixed:
        return rng.choice(names, size=source.records)
    return np.repeat(names[number % len(names)], source.records)


def _draw(
    modality: NDArray[np.str_], y: IntArray, who: IntArray, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Images (n, 28, 28) before the scanner: every patient's anatomy with its finding."""
    image = np.empty((len(y), SIDE, SIDE), dtype=np.float32)
    for name in np.unique(modality):
        own = np.flatnonzero(modality == name)
        body = pose(rng, who[own])
        scene, organ = MODALITIES[name](body)
        for finding in np.unique(y[own]):
            chosen = np.flatnonzero(y[own] == finding)
            change = FINDINGS[NAMES[finding]](place(body, organ, chosen))
            scene[chosen] += change * rng.uniform(*CONTRAST, size=(len(chosen), 1, 1))
        image[own] = scene * rng.uniform(*EXPOSURE, size=(len(own), 1, 1))
    return np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)
