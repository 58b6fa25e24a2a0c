"""Medical images: MedMNIST sets of every size, or a folder that ``metaward phantom`` wrote.

Yang et al. (2023, "MedMNIST v2: a large-scale lightweight benchmark for 2D and 3D biomedical image
classification", Scientific Data 10:41). Meta-training hospitals draw from the official train
split, unseen hospitals from the official test split, and hospitals set aside for validation from
the official val split. A hospital holds one data set, so a task never mixes the findings of two.

A record is ``set/split/row`` at every size, so that no size gives an old record a new budget.

MedMNIST names no patients: every image counts as a patient of its own here, so a guarantee "for a
patient" is really a guarantee for an image.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from metaward.client.errors import DataError
from metaward.client.tasks.base import (
    ROLES,
    FewShot,
    Hospital,
    IntArray,
    Role,
    Seat,
    Stored,
    TaskSpec,
    draw_classes,
    usable_classes,
)
from metaward.client.tasks.dealing import deal_evenly, deal_skewed
from metaward.client.tasks.files import Stamp, frozen, stamp
from metaward.client.tasks.kinds import CLASSIFICATION
from metaward.client.tasks.medmnist_files import (
    Pool,
    Split,
    open_file,
    originals,
    read_pool,
)
from metaward.client.tasks.medmnist_images import Projection, to_input
from metaward.client.tasks.medmnist_questions import Questions
from metaward.client.tasks.medmnist_sets import SIDE, Facts, How, Size, check_forms, facts
from metaward.client.tasks.preparation import GREY_VALUES, Preparation, Step
from metaward.client.tasks.roster import place_of
from metaward.client.tasks.scanner import Scanner, draw_scanner

SPLIT_OF: dict[Role, Split] = {"train": "train", "unseen": "test", "validation": "val"}


@dataclass(frozen=True)
class MedMnist(FewShot):
    """N-way K-shot recognition of findings in MedMNIST images.

    ``hospitals`` are dealt the ``datasets`` in turn, and ``unseen`` hospitals the
    ``unseen_datasets`` (empty: the same as ``datasets``; naming others leaves whole modalities
    out of meta-training). ``partition`` says how hospitals that hold the same set differ:

    - ``dirichlet``: by case mix, Dirichlet shares of each class with concentration 1 / ``skew``
      (0: equal shares); every hospital is first dealt one task's records of ``ways`` classes;
    - ``scanner``: by the machine that took the images; ``scanner`` scales how much machines differ;
    - ``modality``: not at all; only the set itself differs from hospital to hospital.

    ``canonical`` needs one set and all its classes. An image of ChestMNIST may show several
    findings, so each of its tasks asks for one of them: two classes, records with it and without
    it. They are dealt by the first finding that they show, or none. The classes of RetinaMNIST are
    grades, whose order is not used.
    """

    ways: Annotated[int, Field(ge=2, le=1000)] = 2
    """N, the classes of a task."""
    datasets: tuple[str, ...] = ("breastmnist", "pneumoniamnist")
    """The sets that meta-training hospitals hold."""
    unseen_datasets: tuple[str, ...] = ()
    """The sets that unseen hospitals hold; an empty list: the same ones."""
    partition: Literal["dirichlet", "scanner", "modality"] = "dirichlet"
    """How hospitals that hold the same set differ: `dirichlet` by case mix, `scanner` by the
    machine that took the images, `modality` not at all."""
    hospitals: Annotated[int, Field(ge=1, le=10_000)] = 6
    """Hospitals that meta-train."""
    unseen: Annotated[int, Field(ge=0, le=10_000)] = 4
    """Hospitals that only evaluate the result."""
    validation: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Further hospitals, set aside to choose among the rounds; they hold the `datasets`."""
    skew: Annotated[float, Field(ge=0, le=100)] = 1.0
    """How uneven the case mix of a hospital is under `dirichlet`; 0 gives equal shares."""
    scanner: Annotated[float, Field(ge=0, le=2)] = 1.0
    """How much machines differ under `scanner`; 0: not at all."""
    size: Size = 28
    """Pixels along each axis, of the files that are read; 3-D sets have 28 and 64."""
    channels: Literal[1, 3] | None = None
    """The number of channels that all images are converted to: with 3 a grey image becomes three
    equal channels, with 1 colours become grey; null: images stay as they are."""
    projection: How = "mean"
    """How volumes of the 3-D sets become images; `none`: they stay volumes."""
    axis: Literal[0, 1, 2] = 0
    """The axis along which volumes are projected."""
    download: bool = False
    """Whether a simulation downloads a missing file. A deployed hospital decides for itself: it
    downloads where its own node config says `download=true`."""

    preparation = Preparation(
        GREY_VALUES,
        Step(
            "no",
            "Images were cropped and resized beforehand, by the authors of MedMNIST. That a file "
            "has its published MD5 counts as public. Copies of images are left out of breastmnist "
            "and pneumoniamnist by a public list of rows, never by comparing records.",
        ),
        "MedMNIST, under CC BY 4.0 but for dermamnist (CC BY-NC 4.0).",
    )

    def __post_init__(self) -> None:
        for key, sets, count in (
            ("datasets", self.datasets, self.hospitals),
            ("unseen_datasets", self.unseen_datasets, self.unseen or len(self.unseen_datasets)),
        ):
            if len(set(sets)) < len(sets) or (key == "datasets" and not sets):
                raise ValueError(f"{key} = {list(sets)}: name each set once, and at least one")
            if count < len(sets):
                raise ValueError(f"{key} = {list(sets)}: {count} hospitals cannot hold them all")
        known = [facts(flag) for flag in self.all_sets]
        self._check_classes(known)
        check_forms(known, self.size, self.projection, self.channels)
        if self.partition == "modality" and len(known) < 2:
            raise ValueError("partition = modality: name at least two datasets")

    def _check_classes(self, known: list[Facts]) -> None:
        classes = {f.flag: len(f.classes) for f in known}
        several = [f.flag for f in known if f.several]
        if several and self.ways != 2:
            raise ValueError(
                f"ways = {self.ways}: {several[0]} may show several findings at once, so a task "
                "asks for one of them; set ways to 2"
            )
        if self.ways > min(classes.values()):
            raise ValueError(f"ways = {self.ways}: a data set has fewer classes: {classes}")
        if self.canonical and (len(classes) > 1 or self.ways != min(classes.values())):
            raise ValueError(
                "canonical = true: label j means the same finding everywhere only with one data "
                f"set and ways = its classes, but ways = {self.ways} and classes are {classes}"
            )

    @property
    def all_sets(self) -> tuple[str, ...]:
        """The training sets, then those that only unseen hospitals hold."""
        return tuple(dict.fromkeys((*self.datasets, *self.unseen_datasets)))

    def offset(self, flag: str) -> int:
        """Index of the set's first class."""
        return sum(len(facts(f).classes) for f in self.all_sets[: self.all_sets.index(flag)])

    def sets_of(self, role: Role) -> tuple[str, ...]:
        """The sets that hospitals of this role hold."""
        return (role == "unseen" and self.unseen_datasets) or self.datasets

    def place(self, index: int) -> Place:
        """Which share of which set hospital ``index`` holds."""
        counts = (self.hospitals, self.unseen, self.validation)
        role, number = place_of(index, *counts)
        sets, count = self.sets_of(role), counts[ROLES.index(role)]
        which = number % len(sets)
        return Place(role, sets[which], number // len(sets), len(range(which, count, len(sets))))

    def roster(self) -> tuple[Seat, ...]:
        """Meta-training hospitals, then unseen ones, then those for validation, named after the set
        they hold."""
        count = self.hospitals + self.unseen + self.validation
        return tuple(self.place(i).seat for i in range(count))

    def spec(self) -> TaskSpec:
        """``size`` pixels along two axes, or three; the vocabulary counts the classes of
        ``datasets``."""
        first = facts(self.datasets[0])
        shape = (self.channels or first.channels, *[self.size] * first.space(self.projection))
        names = tuple(name for flag in self.datasets for name in facts(flag).classes)
        return TaskSpec(CLASSIFICATION, shape, self.ways, len(names), self.canonical, names)

    def hospital(self, index: int, root: Path | None, seed: int) -> Hospital:
        """Open one hospital's share of its set; ``seed`` decides which records it gets."""
        place = self.place(index)
        path = open_file(place.flag, self.size, root, self.download)
        share = _share(self, place, seed, path, stamp(path))
        first, names = self.offset(place.flag), facts(place.flag).counted_as
        own = share.y[share.rows] - first
        several = None if share.shown is None else Questions(share.shown, first)
        counts = Counter(names[c] for c in own.tolist()).most_common()
        hospital = Hospital(
            seat=place.seat,
            x=share.x,
            y=share.y,
            rows=share.rows,
            ids=share.ids,
            patients=share.ids,
            draw=partial(several.draw if several else draw_classes, self),
            view=partial(to_input, channels=self.spec().input_shape[0]),
            stored=share.stored,
            note={
                "modality": place.flag,
                "scanner": str(share.scanner or "as published"),
                "case mix": "; ".join(f"{name} {count}" for name, count in counts),
            },
        )
        (several.usable if several else usable_classes)(self, hospital)
        return hospital


class Place(NamedTuple):
    """Share ``number`` of ``shares`` of the split of a data set that ``role`` draws from."""

    role: Role
    flag: str
    number: int
    shares: int

    @property
    def seat(self) -> Seat:
        """The hospital's public name and role."""
        role = "" if self.role == "train" else f"{self.role}-"
        return Seat(f"{self.flag}-{role}{self.number + 1:02d}", self.role)

    def rng(self, seed: int, *more: int) -> np.random.Generator:
        """The random stream of this set and role, the same whichever other sets take part."""
        return np.random.default_rng([seed, *self.flag.encode(), ROLES.index(self.role), *more])


class OwnRecords(NamedTuple):
    """The records of one hospital; all arrays are read-only."""

    x: NDArray[np.uint8]
    y: IntArray
    rows: IntArray
    ids: NDArray[np.str_]
    stored: Stored
    scanner: Scanner | None
    shown: NDArray[np.bool_] | None


@lru_cache(maxsize=256)
def _share(source: MedMnist, place: Place, seed: int, path: Path, stamp: Stamp) -> OwnRecords:
    """Deal one hospital its records, and render them as its scanner does."""
    pool, y, shares = _dealt(source, place._replace(number=0), seed, path, stamp)
    rows = shares[place.number]
    if source.partition != "scanner":
        stored = Stored(pool.stored, np.arange(len(y)))
        return OwnRecords(pool.images, y, rows, pool.ids, stored, None, pool.shown)
    rng = place.rng(seed, place.number)
    scanner = draw_scanner(source.scanner, rng)
    scanner = scanner._replace(blur=scanner.blur * (source.size / SIDE))
    seen = frozen(scanner.render(pool.images[rows], rng))
    own, stored = np.arange(len(rows)), Stored(pool.stored, rows)
    shown = None if pool.shown is None else frozen(pool.shown[rows])
    return OwnRecords(seen, frozen(y[rows]), own, frozen(pool.ids[rows]), stored, scanner, shown)


@lru_cache(maxsize=32)
def _dealt(
    source: MedMnist, place: Place, seed: int, path: Path, stamp: Stamp
) -> tuple[Pool, IntArray, tuple[IntArray, ...]]:
    """The split, its class indices, and the rows of each of its hospitals."""
    projection, split = Projection(source.projection, source.axis), SPLIT_OF[place.role]
    pool = read_pool(path, stamp, place.flag, split, projection, source.size)
    rows = originals(place.flag, path, split)
    labels = pool.labels[rows]
    by_class = [rows[labels == c] for c in np.unique(labels)]
    need, rng = sum(source.sizes(place.role)), place.rng(seed)
    if source.partition == "dirichlet" and source.skew:
        plenty = sum(len(own) >= need * place.shares for own in by_class)
        if plenty < source.ways:
            raise DataError(
                f"{path}: {plenty} classes of the {split} split have shots + queries = {need} "
                f"records for each of {place.shares} hospitals, but ways = {source.ways}; lower "
                "client.tasks.hospitals, unseen, validation, shots or queries, or name more "
                "datasets"
            )
        dealt = deal_skewed(by_class, place.shares, source.ways, need, 1 / source.skew, rng)
    else:
        dealt = deal_evenly(by_class, place.shares, rng)
    return pool, frozen(pool.labels + source.offset(place.flag)), dealt
