"""Four real hospitals: the UCI Heart Disease records of Cleveland, Hungary, Switzerland and VA.

The files ``heart/processed.<hospital>.data`` hold one patient per line, 14 columns, ``?`` =
missing, the last column 0 = healthy and 1 to 4 = disease (Janosi, Steinbrunn, Pfisterer and Detrano
1989, UCI Machine Learning Repository, CC BY 4.0). Preprocessing follows FLamby (Ogier du Terrail et
al. 2022, "FLamby: Datasets and benchmarks for cross-silo federated learning in realistic healthcare
settings"): columns 10 to 12 are dropped, then patients with a missing value, and 303 / 261 / 46 /
130 patients remain; chest pain and resting ECG become indicators of all but their first value, 13
features in all. FLamby divides by the statistics of the records; here public clinical reference
values take their place, so that no number derived from patients is needed before training.

In Switzerland one healthy patient remains, so it cannot fill a task with as many healthy as
diseased patients: it is left out unless ``episodes: natural`` is chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metaward.client.errors import DataError
from metaward.client.tasks.base import (
    Episode,
    FewShot,
    FloatArray,
    Hospital,
    IntArray,
    Seat,
    TaskSpec,
    draw_classes,
    usable_classes,
)
from metaward.client.tasks.files import DataFile, Stamp, frozen, stamp
from metaward.client.tasks.kinds import CLASSIFICATION
from metaward.client.tasks.preparation import Preparation, Step

Site = Literal["cleveland", "hungarian", "switzerland", "va"]


class Rows(NamedTuple):
    """Patients of a hospital as published: in the file, and complete once columns are dropped."""

    published: int
    complete: int


SITES = {
    "cleveland": Rows(303, 303),
    "hungarian": Rows(294, 261),
    "switzerland": Rows(123, 46),
    "va": Rows(200, 130),
}
DROPPED = (10, 11, 12)  # slope, ca, thal: hardly recorded outside Cleveland


class Column(NamedTuple):
    """One kept column: the values it can hold, and the reference that scales it."""

    name: str
    low: float
    high: float
    centre: float = 0.0
    unit: float = 1.0


# Scaled value = (value - centre) / unit. The references are round numbers of clinical guidelines,
# not estimates from these files: 120 mmHg is the upper bound of normal systolic pressure and 20
# the step to stage 2 hypertension (ACC/AHA 2017); 200 mg/dl is desirable cholesterol and 240 high
# (NCEP ATP III 2002); 145 beats a minute is 85 % of the maximal rate 220 - age at 50, the usual
# target of an exercise test; 1 mm of ST depression makes that test positive (ACC/AHA 2002).
COLUMNS = (
    Column("age", 1, 120, 50, 10),
    Column("sex", 0, 1),
    Column("cp", 1, 4),
    Column("trestbps", 0, 300, 120, 20),
    Column("chol", 0, 1000, 200, 40),
    Column("fbs", 0, 1),
    Column("restecg", 0, 2),
    Column("thalach", 30, 250, 145, 25),
    Column("exang", 0, 1),
    Column("oldpeak", -10, 15, 0, 1),
    Column("num", 0, 4),
)
WHOLE = ("sex", "cp", "fbs", "restecg", "exang", "num")
PLAIN = [i for i, c in enumerate(COLUMNS) if c.name not in ("cp", "restecg", "num")]
# No living patient has pressure or cholesterol 0: it means "not measured" and is scaled to 0.
UNMEASURED_AT_ZERO = [PLAIN.index(3), PLAIN.index(4)]
FEATURES = len(PLAIN) + 3 + 2


@dataclass(frozen=True)
class Heart(FewShot):
    """Healthy or diseased, from 13 clinical features; every hospital is a real one.

    The hospitals that are neither unseen, nor set aside, nor left out meta-train.
    """

    ways: Literal[2] = 2
    """Healthy or diseased."""
    canonical: bool = True
    """Whether label 1 is disease in every task."""
    unseen: tuple[Site, ...] = ("va",)
    """The hospitals that only evaluate the result."""
    validation: tuple[Site, ...] = ()
    """The hospitals that are set aside to choose among the rounds."""
    left_out: tuple[Site, ...] = ("switzerland",)
    """The hospitals that take no part."""
    episodes: Literal["balanced", "natural"] = "balanced"
    """`balanced` draws shots + queries patients of each class; `natural` draws twice as many of any
    class, at the hospital's own case mix, with at least one of each class in the support set."""

    preparation = Preparation(
        Step("not used", "Features are scaled by reference values of clinical guidelines."),
        Step(
            "no",
            "Three columns are left out, and patients with missing values: which values are "
            "missing counts as public, and so does that a file passes its checks.",
        ),
        "The Heart Disease data of the UCI repository, under CC BY 4.0.",
    )

    def __post_init__(self) -> None:
        named = (*self.unseen, *self.validation, *self.left_out)
        if len(set(named)) < len(named) or not set(named) < set(SITES):
            raise ValueError(
                f"unseen = {list(self.unseen)}, validation = {list(self.validation)}, "
                f"left_out = {list(self.left_out)}: each of "
                f"{', '.join(SITES)} may be named once, and one must remain to meta-train"
            )
        if self.episodes == "balanced" and "switzerland" not in self.left_out:
            raise ValueError(
                "episodes = balanced: switzerland has one healthy patient without missing values, "
                "too few for any balanced task; name it in left_out, or set episodes: natural"
            )
        if self.episodes == "natural" and not self.canonical:
            raise ValueError("episodes = natural needs canonical = true, which is the only choice")

    def roster(self) -> tuple[Seat, ...]:
        """The hospitals that meta-train, then the unseen ones, then those for validation."""
        others = (*self.unseen, *self.validation, *self.left_out)
        return (
            *(Seat(site, "train") for site in SITES if site not in others),
            *(Seat(site, "unseen") for site in self.unseen),
            *(Seat(site, "validation") for site in self.validation),
        )

    def spec(self) -> TaskSpec:
        """13 features, two classes."""
        return TaskSpec(CLASSIFICATION, (FEATURES,), 2, 2, self.canonical, ("healthy", "diseased"))

    def hospital(self, index: int, root: Path | None, seed: int) -> Hospital:
        """Open the file of one hospital; ``DataError`` when it cannot fill a task."""
        seat = self.roster()[index]
        file = _file(seat.name)
        path = file.locate(root)
        x, y, ids = _read(file, path, stamp(path))
        healthy, diseased = (y == 0).sum(), (y == 1).sum()
        hospital = Hospital(
            seat=seat,
            x=x,
            y=y,
            rows=np.arange(len(y)),
            ids=ids,
            patients=ids,
            draw=self._draw(),
            view=np.copy,
            note={"patients": f"{healthy} healthy, {diseased} diseased"},
        )
        (usable_classes if self.episodes == "balanced" else _enough)(self, hospital)
        return hospital

    def _draw(self) -> Callable[[Hospital, np.random.Generator], Episode]:
        return partial(draw_classes if self.episodes == "balanced" else draw_natural, self)


def draw_natural(few: FewShot, hospital: Hospital, rng: np.random.Generator) -> Episode:
    """Draw N x K support and N x Q query records at the hospital's own frequencies.

    One random record of each class is put into the support set first, because a class that is
    never shown cannot be learned; everything else is drawn without looking at the label.
    """
    _enough(few, hospital)
    shown = np.array([rng.choice(rows) for rows in hospital.by_class.values()])
    others = rng.permutation(np.setdiff1d(hospital.rows, shown))
    support_size, query_size = (few.ways * n for n in few.sizes(hospital.seat.role))
    support = rng.permutation(np.concatenate([shown, others[: support_size - len(shown)]]))
    query = others[support_size - len(shown) :][:query_size]
    return Episode(
        support_x=hospital.view(hospital.x[support]),
        support_y=hospital.y[support],
        query_x=hospital.view(hospital.x[query]),
        query_y=hospital.y[query],
        classes=np.arange(few.ways),
        support_rows=support,
        query_rows=query,
    )


def _enough(few: FewShot, hospital: Hospital) -> None:
    need = few.ways * sum(few.sizes(hospital.seat.role))
    if len(hospital.by_class) < few.ways or len(hospital.rows) < need:
        raise DataError(
            f"hospital {hospital.seat.name}: {len(hospital.rows)} patients, but a task takes "
            f"ways x (shots + queries) = {need}; lower client.tasks.shots or queries"
        )


def _file(site: str) -> DataFile:
    origin = "from https://archive.ics.uci.edu/dataset/45/heart+disease"
    return DataFile(f"heart/processed.{site}.data", origin)


@lru_cache(maxsize=len(SITES))
def _read(
    file: DataFile, path: Path, stamp: Stamp
) -> tuple[FloatArray, IntArray, NDArray[np.str_]]:
    """Features (n, 13), labels (n,) 0 healthy or 1 diseased, and ids of the complete patients."""
    site = path.name.split(".")[1]
    rows = SITES[site]
    table = _parse(file, path)
    if len(table) != rows.published:
        raise file.damaged(path, f"it holds {len(table)} patients, published are {rows.published}")
    kept = np.delete(table, DROPPED, axis=1)
    whole = np.flatnonzero(~np.isnan(kept).any(axis=1))
    if len(whole) != rows.complete:
        what = f"{len(whole)} patients have no missing value, published are {rows.complete}"
        raise file.damaged(path, what)
    ids = np.array([f"{site}/{line + 1:03d}" for line in whole])
    y = (kept[whole, -1] > 0).astype(np.int64)
    return frozen(encode(kept[whole])), frozen(y), frozen(ids)


def _parse(file: DataFile, path: Path) -> NDArray[np.float64]:
    """Numbers of the file (n, 14), NaN = missing; every value is checked against its column."""
    try:
        lines = [line.split(",") for line in path.read_text(encoding="ascii").split()]
        table = np.array([[np.nan if v == "?" else float(v) for v in line] for line in lines])
    except ValueError as error:
        raise file.damaged(path, f"it cannot be read ({error})") from error
    if table.ndim != 2 or table.shape[1] != len(COLUMNS) + len(DROPPED):
        raise file.damaged(path, f"it has shape {table.shape}, not (patients, 14)")
    for column, values in zip(COLUMNS, np.delete(table, DROPPED, axis=1).T, strict=True):
        known = values[~np.isnan(values)]
        fractional = column.name in WHOLE and (known % 1 > 0).any()
        if fractional or (known < column.low).any() or (known > column.high).any():
            limits = f"{column.low} to {column.high}"
            raise file.damaged(path, f"column {column.name} holds values outside {limits}")
    return table


def encode(kept: NDArray[np.float64]) -> FloatArray:
    """Kept columns (n, 11) -> features (n, 13): scaled, then chest pain 2-4 and resting ECG 1-2."""
    scale = np.array([(COLUMNS[i].centre, COLUMNS[i].unit) for i in PLAIN])
    plain = (kept[:, PLAIN] - scale[:, 0]) / scale[:, 1]
    unmeasured = kept[:, PLAIN][:, UNMEASURED_AT_ZERO] == 0
    plain[:, UNMEASURED_AT_ZERO] = np.where(unmeasured, 0, plain[:, UNMEASURED_AT_ZERO])
    pain = kept[:, [2]] == np.array([2, 3, 4])
    ecg = kept[:, [6]] == np.array([1, 2])
    return np.concatenate([plain, pain, ecg], axis=1).astype(np.float32)
