"""Hospitals whose records are arrays in a program; ``register.tasks`` makes a source of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, make_dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metaward.client.tasks.base import (
    Count,
    Episode,
    FewShot,
    FloatArray,
    Hospital,
    IntArray,
    Role,
    Seat,
    TaskSize,
    TaskSource,
    TaskSpec,
    draw_classes,
    draw_function,
)
from metaward.client.tasks.kinds import CLASSIFICATION, REGRESSION
from metaward.client.tasks.preparation import Preparation, Step
from metaward.plugins import of_protocol

AS_GIVEN = Preparation(
    Step("no", "Arrays are used as the program gave them; its author knows where they came from."),
    Step("no", "What was done to the arrays before is known to those who made them."),
)


class Names(NamedTuple):
    """The name of each record (n,), and of its patient (n,)."""

    ids: NDArray[np.str_]
    patients: NDArray[np.str_]


class Records:
    """The records of one hospital, as arrays.

    ``x`` (n, *input_shape) float32, ``y`` (n,) labels or (n, targets) float32, ``patients`` (n,)
    and ``functions`` (n,) are copies of what was given, and read-only.
    """

    def __init__(
        self,
        name: str,
        x: ArrayLike,
        y: ArrayLike,
        role: Role = "train",
        patients: ArrayLike | None = None,
        functions: ArrayLike | None = None,
    ) -> None:
        """Take the arrays of one hospital.

        Args:
            name: the hospital's name, different from all others'.
            x: records (n, *input_shape), as the network will see them.
            y: the label of each record (n,), whole numbers or text; or targets (n, targets),
                numbers with a decimal point, for regression.
            role: "train" to help meta-training, "unseen" to judge its result, "validation" to
                choose among its rounds.
            patients: the patient of each record (n,); None: every record has a patient of its own.
            functions: for regression, the function that a record was measured on (n,): the records
                of a task share one. None: there is one function.

        Raises:
            ValueError: arrays of different lengths, or values that are not finite.
        """
        self.name, self.role = name, role
        self.x: FloatArray = np.array(x, np.float32)
        given: NDArray[Any] = np.array(y)
        self.regression = given.dtype.kind == "f"
        self.y = given.astype(np.float32) if self.regression else given
        n = len(self.x) if self.x.ndim else 0
        self.patients: NDArray[Any] = np.arange(n) if patients is None else np.array(patients)
        self.functions: NDArray[Any] = np.zeros(n) if functions is None else np.array(functions)
        self._check(n)
        for array in (self.x, self.y, self.patients, self.functions):
            array.setflags(write=False)

    @cached_property
    def _unique(self) -> Names:
        """Names of records and patients that no other hospital of the federation uses."""
        given = (range(len(self.x)), self.patients.tolist())
        return Names(*(np.array([f"{self.name}/{one}" for one in names]) for names in given))

    def _check(self, n: int) -> None:
        where = f"records of {self.name}"
        if self.x.ndim < 2 or n == 0 or not np.isfinite(self.x).all():
            raise ValueError(
                f"{where}: x has shape {self.x.shape}; give (n, *input_shape), n from 1, with "
                "finite values"
            )
        if self.regression and not (self.y.ndim == 2 and np.isfinite(self.y).all()):
            raise ValueError(
                f"{where}: y has decimal points and shape {self.y.shape}; give finite targets "
                "(n, targets), or labels (n,) that are whole numbers or text"
            )
        if not self.regression and self.y.ndim != 1:
            raise ValueError(f"{where}: labels have shape {self.y.shape}; give (n,)")
        lengths = {"y": self.y, "patients": self.patients, "functions": self.functions}
        for key, array in lengths.items():
            if len(array) != n:
                raise ValueError(f"{where}: {n} records, but {len(array)} {key}")


@dataclass(frozen=True, eq=False)
class _Federation:
    """All hospitals, checked against each other.

    ``labels`` are those of the training hospitals, then the others', sorted; empty for targets.
    """

    hospitals: tuple[Records, ...]
    labels: tuple[Any, ...]
    trained: int

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one record."""
        return self.hospitals[0].x.shape[1:]

    def seats(self) -> tuple[Seat, ...]:
        """The seats, in the order in which the hospitals were given."""
        return tuple(Seat(one.name, one.role) for one in self.hospitals)

    def smallest(self) -> int:
        """How many records the training hospital with the fewest has."""
        return min((len(one.x) for one in self.hospitals if one.role == "train"), default=0)

    def hospital(
        self,
        index: int,
        y: NDArray[Any],
        draw: Callable[[Hospital, np.random.Generator], Episode],
        functions: IntArray | None = None,
    ) -> Hospital:
        """One hospital's records, under names that are unique in the federation."""
        one = self.hospitals[index]
        seat, rows, names = self.seats()[index], np.arange(len(one.x)), one._unique
        return Hospital(seat, one.x, y, rows, names.ids, names.patients, draw, _as_is, functions)


class _OfClasses(FewShot):
    """N-way tasks of arrays with labels."""

    federation: ClassVar[_Federation]
    preparation: ClassVar[Preparation] = AS_GIVEN

    def roster(self) -> tuple[Seat, ...]:
        """The hospitals, in the order in which they were given."""
        return self.federation.seats()

    def spec(self) -> TaskSpec:
        """N-way classification of such records."""
        shape, known = self.federation.input_shape, self.federation.trained
        names = tuple(map(str, self.federation.labels[:known]))
        return TaskSpec(CLASSIFICATION, shape, self.ways, known, self.canonical, names)

    def declared_records(self) -> int:
        """Those of the smallest training hospital."""
        return self.federation.smallest()

    def hospital(self, index: int, root: Path | None, seed: int) -> Hospital:
        """The hospital's arrays; neither ``root`` nor ``seed`` is used."""
        number = {label: k for k, label in enumerate(self.federation.labels)}
        labels = self.federation.hospitals[index].y.tolist()
        y = np.array([number[label] for label in labels], np.int64)
        return self.federation.hospital(index, y, partial(draw_classes, self))


@dataclass(frozen=True)
class _OfTargets:
    """Regression tasks of arrays with targets."""

    shots: Count = 10
    """The support records of a task."""
    queries: Count = 20
    """The query records of a task."""

    federation: ClassVar[_Federation]
    records_option: ClassVar[str | None] = None
    preparation: ClassVar[Preparation] = AS_GIVEN

    def roster(self) -> tuple[Seat, ...]:
        """The hospitals, in the order in which they were given."""
        return self.federation.seats()

    def spec(self) -> TaskSpec:
        """Regression from such records to such targets."""
        targets = self.federation.hospitals[0].y.shape[1]
        return TaskSpec(REGRESSION, self.federation.input_shape, targets, 0, canonical=True)

    def task_size(self) -> TaskSize:
        """The sizes in the options."""
        return TaskSize(self.shots, self.queries)

    def declared_records(self) -> int:
        """Those of the smallest training hospital."""
        return self.federation.smallest()

    def most_tasks(self, records: int) -> int:
        """The number if any records could share a task."""
        return records // self.task_size().records

    def hospital(self, index: int, root: Path | None, seed: int) -> Hospital:
        """The hospital's arrays; neither ``root`` nor ``seed`` is used."""
        one = self.federation.hospitals[index]
        functions = np.unique(one.functions, return_inverse=True)[1].astype(np.int64)
        draw = partial(draw_function, self.task_size())
        return self.federation.hospital(index, one.y, draw, functions)


def as_source(name: str, thing: Any) -> type[Any]:
    """The registry entry for a class with all of ``TaskSource``, or for a list of ``Records``."""
    if isinstance(thing, type):
        return of_protocol(TaskSource)(name, thing)
    hospitals = tuple(thing) if isinstance(thing, Sequence) else ()
    if not hospitals or not all(isinstance(one, Records) for one in hospitals):
        raise TypeError(f"{name}: give a class, or a list of one Records for each hospital")
    federation = _federation(name, hospitals)
    base = _OfTargets if hospitals[0].regression else _OfClasses
    return make_dataclass(
        name.title().replace("_", ""),
        [],
        bases=(base,),
        namespace={"federation": federation},
        frozen=True,
    )


def _federation(name: str, hospitals: tuple[Records, ...]) -> _Federation:
    """``ValueError`` where hospitals do not fit each other."""
    names = [one.name for one in hospitals]
    if len(set(names)) < len(names):
        raise ValueError(f"{name}: hospitals {names}; give each a name of its own")
    shapes = {(one.x.shape[1:], one.regression, one.y.shape[1:]) for one in hospitals}
    if len(shapes) > 1:
        raise ValueError(
            f"{name}: the hospitals hold records of shapes {sorted({s[0] for s in shapes})} and "
            f"targets of shapes {sorted({s[2] for s in shapes})}; all must be alike"
        )
    if hospitals[0].regression:
        return _Federation(hospitals, (), 0)
    trained = {label for one in hospitals if one.role == "train" for label in one.y.tolist()}
    others = {label for one in hospitals for label in one.y.tolist()} - trained
    return _Federation(hospitals, (*sorted(trained), *sorted(others)), len(trained))


def _as_is(x: FloatArray) -> FloatArray:
    """Arrays are the network's input already."""
    return x
