"""What every source of tasks provides: a public roster, and one hospital's private records.

A *source* is a frozen dataclass whose fields are its yaml options (``client.tasks`` in sim.yaml).
Without opening a file it says who takes part (``roster``) and what the network must look like
(``spec``); ``hospital`` then opens the data of one hospital, and of that one only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from metaward.client.errors import DataError
from metaward.client.tasks.episode import Episode as Episode
from metaward.client.tasks.episode import FloatArray as FloatArray
from metaward.client.tasks.episode import IntArray as IntArray
from metaward.client.tasks.kinds import TaskKind
from metaward.client.tasks.preparation import UNSAID, Preparation
from metaward.client.tasks.roster import ROLES as ROLES
from metaward.client.tasks.roster import Role as Role
from metaward.client.tasks.roster import Seat as Seat


@dataclass(frozen=True)
class TaskSpec:
    """What the server and the network know about the tasks without seeing a record.

    ``outputs`` counts what the network gives for a record: N logits for N-way classification, the
    targets for regression. ``vocabulary`` counts the class names that the meta-training hospitals
    hold (0 where the kind has no classes): federated averaging needs a head of that size.
    ``canonical`` is true when label j means the same finding in every task, false when each task
    numbers its classes on its own. ``names`` are the public names of the ``vocabulary``; empty
    where classes have none, and are told apart by their numbers.
    """

    kind: TaskKind
    input_shape: tuple[int, ...]
    outputs: int
    vocabulary: int
    canonical: bool
    names: tuple[str, ...] = ()

    @property
    def classes(self) -> int:
        """The classes of a task, N; 0 where the kind has none."""
        return self.outputs if self.kind.classes else 0


@dataclass(frozen=True)
class TaskSize:
    """Records of one task of a training hospital: ``support`` and ``query``, of all its classes."""

    support: int
    query: int

    @property
    def records(self) -> int:
        """Support and query together."""
        return self.support + self.query


class Stored(NamedTuple):
    """Records as they lie in a hospital's file, or digests of them, and ``at`` (n,): which one each
    of its rows shows.

    The ledger knows a record by its content, so no seed and no option of a request may change it.
    """

    records: NDArray[Any]
    at: IntArray


Draw = Callable[["Hospital", np.random.Generator], Episode]
"""Draws one task from a hospital's own records."""


@dataclass(frozen=True)
class Hospital:
    """The private records of one hospital, ready to be drawn into episodes.

    ``x`` (n, ...) and ``y`` (n, ...) may be views into a file shared by several hospitals in a
    simulation: ``rows`` (m,) names the records that are this hospital's own. ``y`` holds labels as
    the kind of task defines them. Where it has classes they are class indices (n,) int64: 0 ..
    vocabulary - 1 are held by meta-training hospitals, higher ones only by others. Where tasks
    are functions, ``groups`` (n,) tells which one a record was measured on. ``ids`` (n,) are stable
    record identities, unique across the whole federation; ``patients`` (n,) names the patient of
    each record. ``view`` turns raw records (k, ...) into the network's input (k, *input_shape)
    float32. ``stored`` says what lies in the hospital's file behind each row; None where ``x`` is
    just that. ``note`` holds what ``metaward tasks show`` prints about this hospital (scanner, case
    mix, ...).
    """

    seat: Seat
    x: NDArray[Any]
    y: NDArray[Any]
    rows: IntArray
    ids: NDArray[Any]
    patients: NDArray[Any]
    draw: Draw
    view: Callable[[NDArray[Any]], FloatArray]
    groups: IntArray | None = None
    stored: Stored | None = None
    note: dict[str, str] = field(default_factory=dict)

    def as_stored(self, row: int) -> NDArray[Any]:
        """The record behind a row, as it lies in the hospital's file."""
        return np.asarray(self.stored.records[self.stored.at[row]] if self.stored else self.x[row])

    def episode(self, rng: np.random.Generator) -> Episode:
        """Draw one task from this hospital's own records."""
        return self.draw(self, rng)

    def without(self, rows: IntArray) -> Hospital:
        """The same hospital, to which these rows no longer belong.

        Only the classes that lose a row are looked through, so that taking out one task after
        another is not quadratic in the records.
        """
        lost = np.zeros(len(self.ids), np.bool_)
        lost[rows] = True
        other = replace(self, rows=self.rows[~lost[self.rows]])
        if "by_class" in vars(self):  # whoever draws by classes has asked for them
            less = set(np.unique(self.y[rows]).tolist())
            left = {c: r[~lost[r]] if c in less else r for c, r in self.by_class.items()}
            vars(other)["by_class"] = {c: r for c, r in left.items() if len(r)}
        return other

    @cached_property
    def by_class(self) -> dict[int, IntArray]:
        """This hospital's own rows, sorted by class index."""
        own = self.y[self.rows]
        return {int(c): self.rows[own == c] for c in np.flatnonzero(np.bincount(own))}


class TaskSource(Protocol):
    """An entry of ``TASKS``. ``hospital`` runs at the hospital; all other members open no file."""

    def __hash__(self) -> int: ...

    @property
    def preparation(self) -> Preparation:
        """How records become the network's input."""
        ...

    @property
    def records_option(self) -> str | None:
        """The option that sets how many records a hospital has; None if no single option does."""
        ...

    def roster(self) -> tuple[Seat, ...]:
        """All hospitals, in the order of their partition ids; no file is opened."""
        ...

    def spec(self) -> TaskSpec:
        """The public shape of the tasks; no file is opened."""
        ...

    def task_size(self) -> TaskSize:
        """How many records one task of a training hospital takes."""
        ...

    def declared_records(self) -> int | None:
        """Records of each training hospital; None where the options do not say how many."""
        ...

    def most_tasks(self, records: int) -> int:
        """The most disjoint tasks that a hospital's records can make, whatever their labels are."""
        ...

    def hospital(self, index: int, root: Path | None, seed: int) -> Hospital:
        """Open the records of hospital ``index`` as they are now; called for every request.

        ``root`` is the data folder (None when the user named none), ``seed`` the run's seed, used
        by procedural sources and by public splits. A file may be downloaded only under an option
        ``download``, which at a deployed hospital is its own setting. Raises ``DataError`` when a
        file is missing or damaged, or when the hospital holds too few records for one task.
        """
        ...


Ways = Annotated[int, Field(ge=2, le=1000)]
Count = Annotated[int, Field(ge=1, le=10_000)]


@dataclass(frozen=True)
class FewShot:
    """Options shared by all classification sources: N-way K-shot tasks."""

    ways: Ways = 3
    """N, the classes of a task."""
    shots: Count = 5
    """K, the support records of each class."""
    queries: Count = 10
    """The query records of each class."""
    canonical: bool = False
    """Whether label j means the same class in every task; otherwise each task numbers its classes
    on its own."""
    train_shots: Count | None = None
    """Support records of each class at meta-training hospitals; null: as `shots`. Noise matters
    less for larger tasks."""
    train_queries: Count | None = None
    """Query records of each class at meta-training hospitals; null: as `queries`."""

    records_option: ClassVar[str | None] = None
    preparation: ClassVar[Preparation] = UNSAID

    def task_size(self) -> TaskSize:
        """``ways`` times the records of a class."""
        shots, queries = self.sizes("train")
        return TaskSize(self.ways * shots, self.ways * queries)

    def declared_records(self) -> int | None:
        """None: only the files hold the number."""
        return None

    def most_tasks(self, records: int) -> int:
        """The number if any records could share a task."""
        return records // self.task_size().records

    def sizes(self, role: Role) -> tuple[int, int]:
        """Support and query records per class in the tasks of a hospital with this role."""
        if role == "train":
            return self.train_shots or self.shots, self.train_queries or self.queries
        return self.shots, self.queries


def draw_classes(few: FewShot, hospital: Hospital, rng: np.random.Generator) -> Episode:
    """Draw an N-way K-shot episode: N classes with enough records here, K + Q records of each.

    Support and query never share a record. Labels are numbered in the order drawn, or by class
    index when ``few.canonical``.
    """
    chosen = rng.choice(usable_classes(few, hospital), size=few.ways, replace=False)
    if few.canonical:
        chosen = np.sort(chosen)
    shots, queries = few.sizes(hospital.seat.role)
    need = shots + queries
    picks = np.stack([rng.choice(hospital.by_class[c], size=need, replace=False) for c in chosen])
    support, query = picks[:, :shots].ravel(), picks[:, shots:].ravel()
    return Episode(
        support_x=hospital.view(hospital.x[support]),
        support_y=np.repeat(np.arange(few.ways), shots),
        query_x=hospital.view(hospital.x[query]),
        query_y=np.repeat(np.arange(few.ways), queries),
        classes=chosen.astype(np.int64),
        support_rows=support,
        query_rows=query,
    )


def usable_classes(few: FewShot, hospital: Hospital) -> IntArray:
    """Indices of the classes with at least K + Q records here; ``DataError`` for fewer than N."""
    need = sum(few.sizes(hospital.seat.role))
    usable = [c for c, rows in hospital.by_class.items() if len(rows) >= need]
    if len(usable) < few.ways:
        raise DataError(
            f"hospital {hospital.seat.name}: {len(usable)} classes have at least "
            f"shots + queries = {need} records, but ways = {few.ways}; lower "
            "client.tasks.ways, shots or queries (train_shots or train_queries, where they are "
            "set), or give each hospital more records"
        )
    return np.asarray(usable, dtype=np.int64)


def draw_function(size: TaskSize, hospital: Hospital, rng: np.random.Generator) -> Episode:
    """Draw a regression task: one of the hospital's functions (``groups``), then records of it,
    none of them twice."""
    assert hospital.groups is not None
    functions, left = np.unique(hospital.groups[hospital.rows], return_counts=True)
    if left.max(initial=0) < size.records:
        raise DataError(
            f"hospital {hospital.seat.name}: no function has shots + queries = {size.records} "
            "records left; lower client.tasks.shots or queries"
        )
    function = rng.choice(functions[left >= size.records])
    own = hospital.rows[hospital.groups[hospital.rows] == function]
    picked = rng.choice(own, size=size.records, replace=False)
    support, query = picked[: size.support], picked[size.support :]
    return Episode(
        support_x=hospital.view(hospital.x[support]),
        support_y=hospital.y[support],
        query_x=hospital.view(hospital.x[query]),
        query_y=hospital.y[query],
        classes=np.empty(0, dtype=np.int64),
        support_rows=support,
        query_rows=query,
    )
