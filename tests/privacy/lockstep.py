"""Two worlds in lockstep, one with a unit and one in which its place is empty, through a whole run.

Both are asked for the same rounds with the same theta, that of world A; where noise is added, both
get world A's noisy sum. So nothing that was sent can tell the worlds apart, and all that may still
differ are the sums before their noise: given everything that left so far, how far can the next sum
move? That is what composition adds up, and what the ledger has to have charged for.

Nulled records are zeros to everything that reads, deals or charges them. To the network they are
not numbers, which a clipped vector counts as zero: a place that is empty, with its label. Where
nothing is clipped they are zeros there as well.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from types import ModuleType
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray

from metaward import privacy
from metaward.client import work
from metaward.client.desk import Desk
from metaward.client.guard import Guard
from metaward.client.schedule import Share
from metaward.client.tasks.base import Episode, Hospital, Stored, TaskSource
from metaward.privacy import Answer, Mark, Refusal, Release
from metaward.privacy.ledger import Ledger
from metaward.privacy.noise import Noise, SeededNoise
from metaward.privacy.noise import noisy as add_noise
from metaward.privacy.wire import Request
from tests.client.bedside import ask
from tests.privacy.ledger.ledger_desk import mu_squared, spent

Vector = NDArray[np.float64]
Names = frozenset[str]
Twin = Callable[[Names], TaskSource]
"""A source in which the values of these records are zeros, where that can be said to the source."""
INDEX, RUN = 0, "run"
ROOT = Path(os.environ["METAWARD_DATA"]) if os.environ.get("METAWARD_DATA") else None


class Sum(NamedTuple):
    """A clipped sum before its noise, and the scale of that noise."""

    total: Vector
    clip: float
    sigma: float


class Unit(NamedTuple):
    """The records of the unit that is nulled, and the keys under which it pays."""

    names: Names
    keys: frozenset[str]


@dataclass
class World:
    """One hospital in one of the worlds, and all that was seen of it.

    ``dealt`` are the rows and labels of all tasks, ``others`` the records of all other units, as
    networks see them. ``told`` is what else may not depend on a value where something is promised:
    refusals, and charges but for the keys of contents.
    ``noised`` are the noisy sums; in world B they are those of world A (``given``).
    """

    desk: Desk
    folder: Path
    twin: Twin
    nulled: Names = frozenset()
    given: World | None = None
    names: Names = frozenset()
    dealt: list[Any] = field(default_factory=list)
    told: list[Any] = field(default_factory=list)
    others: dict[str, set[bytes]] = field(default_factory=dict)
    sums: list[Sum] = field(default_factory=list)
    noised: list[Vector] = field(default_factory=list)
    mark: Mark | None = None

    def train(self, round: int, theta: NDArray[np.float32]) -> Answer:
        """The hospital's answer in one round, through its own app and its own ledger."""
        asked = Request(round, self.desk.json(), theta, run=RUN, mark=self.mark)
        with self._inside():
            answer = ask("train", asked, INDEX, simulation=str(self.folder))
            self.told.append((round, answer.code if isinstance(answer, Refusal) else "answered"))
            if isinstance(answer, Release):
                self.mark = answer.mark
        return answer

    def step(self, answer: Release) -> NDArray[np.float32]:
        """What the server adds to theta, noised by the server where that is its part."""
        mechanism, updates = self.desk.mechanism, answer.update[None]
        sigma = max((s.noise_multiplier for s in self._last_charge()), default=0.0)
        with self._inside():
            noise = SeededNoise(1, answer.round)
            found = mechanism.at_server(updates, lambda given: given.mean(axis=0), sigma, noise)
        return np.asarray(found, np.float32)

    @property
    def ledger(self) -> Ledger:
        """The hospital's ledger."""
        (path,) = self.folder.rglob("*.sqlite")
        return Ledger.open(path)

    def _last_charge(self) -> Sequence[Any]:
        protected = self.desk.mechanism.unit.protected
        return self.ledger.history().charges[-1].description.sums if protected else ()

    @contextmanager
    def _inside(self) -> Iterator[None]:
        """Wherever records are opened, dealt, charged or noised, this world is looked into."""
        charge, tasks_of = Guard.charge, work.tasks_of

        def charged(guard: Guard, key: Any, said: Any, owed: Any, *more: Any) -> Any:
            paid = {k: c.events for c in owed for k in c.keys if not k.startswith("content:")}
            self.told.append((key.round, said, paid, more))
            return charge(guard, key, said, owed, *more)

        def dealt(desk: Desk, hospital: Hospital, *more: Any) -> Share:
            share = tasks_of(desk, hospital, *more)
            self._look(share.episodes, hospital)
            return share

        with ExitStack() as stack:
            for patch in (
                mock.patch.object(work, "open_hospital", self._open),
                mock.patch.object(Guard, "charge", charged),
                mock.patch.object(work, "tasks_of", dealt),
                *(mock.patch.object(m, "noisy", self._noisy) for m in noising()),
            ):
                stack.enter_context(patch)
            yield

    def _open(self, source: TaskSource, index: int, root: Path | None, seed: int) -> Hospital:
        opened = self.twin(self.nulled).hospital(index, root, seed)
        seen_as = np.nan if self.desk.mechanism.unit.protected else 0.0
        return emptied(opened, self.nulled, seen_as)

    def _look(self, episodes: Sequence[Episode], hospital: Hospital) -> None:
        for e in episodes:
            for x, y, rows in (
                (e.support_x, e.support_y, e.support_rows),
                (e.query_x, e.query_y, e.query_rows),
            ):
                names = hospital.ids[rows].astype(str).tolist()
                self.dealt.append((names, hospital.patients[rows].tolist(), y.tolist()))
                for name, one in zip(names, x, strict=True):
                    if name not in self.names:
                        self.others.setdefault(name, set()).add(one.tobytes())

    def _noisy(self, total: Vector, clip: float, sigma: float, noise: Noise) -> Vector:
        self.sums.append(Sum(np.array(total, np.float64), clip, sigma))
        if self.given is not None:
            return self.given.noised[len(self.sums) - 1].copy()
        self.noised.append(add_noise(total, clip, sigma, noise))
        return self.noised[-1].copy()


@cache
def noising() -> list[ModuleType]:
    """All modules that add noise by ``noise.noisy``, also those that are only loaded when used."""
    for found in walk_packages(privacy.__path__, f"{privacy.__name__}."):
        import_module(found.name)
    loaded = [module for module in sys.modules.values() if isinstance(module, ModuleType)]
    using = [module for module in loaded if vars(module).get("noisy") is add_noise]
    return [module for module in using if module.__name__ != add_noise.__module__]


def emptied(hospital: Hospital, names: Names, seen_as: float) -> Hospital:
    """The hospital with these records as zeros, and as ``seen_as`` in the eyes of the network."""
    gone = np.isin(hospital.ids.astype(str), list(names))
    if not gone.any():
        return hospital
    n = np.arange(len(hospital.x))
    at = hospital.stored.at if hospital.stored else n
    records = np.array(hospital.stored.records if hospital.stored else hospital.x)
    records[at[gone]] = 0

    def view(x: NDArray[Any]) -> NDArray[np.float32]:
        rows, empty = x.T
        seen = np.array(hospital.view(hospital.x[rows]))
        seen[empty > 0] = seen_as
        return seen

    # two worlds that look different must not be equal, because a process keeps what it has seen
    marked = np.column_stack([n, gone * (2 if np.isnan(seen_as) else 1)])
    return replace(hospital, x=marked, view=view, stored=Stored(records, at))


def unit_of(desk: Desk, twin: Twin) -> Unit:
    """The unit of the first record that the first round works on."""
    unit, hospital = desk.mechanism.unit, twin(frozenset()).hospital(INDEX, ROOT, desk.seed)
    (first, *_) = work.tasks_of(desk, hospital, INDEX, 1).episodes
    task = np.concatenate([first.support_rows, first.query_rows])
    if unit.every_round:
        rows, keys = hospital.rows, {f"{unit.name}:{hospital.seat.name}"}
    else:
        owners = unit.owners(hospital)
        rows = task if unit.whole else np.flatnonzero(owners == owners[task[0]])
        keys = {f"{unit.key}:{owner}" for owner in owners[rows]}
    return Unit(frozenset(hospital.ids[rows].astype(str).tolist()), frozenset(keys))


def begun(desk: Desk, theta: NDArray[np.float32], step: NDArray[np.float32]) -> Any:
    """theta after the first round, which may have a worker of its own."""
    if desk.first is None:
        return theta + step
    setting, vectors = work.open_setting(desk), (torch.from_numpy(v) for v in (theta, step))
    return desk.first.settle(setting, *vectors).numpy().astype(np.float32)


@dataclass(frozen=True)
class Lived:
    """Both worlds after a whole run, and the unit in which they differ."""

    a: World
    b: World
    unit: Unit
    answers: list[tuple[Answer, Answer]]

    @property
    def charged(self) -> float:
        """mu^2 that the ledger has charged to the unit: to each of its keys at least."""
        ledger = self.a.ledger
        return min(mu_squared(spent(ledger, key)) for key in self.unit.keys)

    @property
    def moved(self) -> list[float]:
        """How far each sum has moved, in standard deviations of its noise."""
        pairs = zip(self.a.sums, self.b.sums, strict=True)
        return [float(np.linalg.norm(a.total - b.total)) / (a.sigma * a.clip) for a, b in pairs]


def live(desk: Desk, twin: Twin, folder: Path) -> Lived:
    """All rounds of the desk in both worlds."""
    unit = unit_of(desk, twin)
    a = World(desk, folder / "a", twin, names=unit.names)
    b = World(desk, folder / "b", twin, unit.names, a, unit.names)
    setting = work.open_setting(desk)
    theta = desk.learner.initial(setting, desk.seed).numpy().astype(np.float32)
    answers = []
    for round in range(1, desk.rounds + 1):
        pair = a.train(round, theta), b.train(round, theta)
        answers.append(pair)
        if all(isinstance(answer, Release) for answer in pair):
            steps = [world.step(answer) for world, answer in zip((a, b), pair, strict=True)]  # type: ignore[arg-type]
            theta = theta + steps[0] if round > 1 else begun(desk, theta, steps[0])
    return Lived(a, b, unit, answers)
