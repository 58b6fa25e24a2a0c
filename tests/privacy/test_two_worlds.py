"""Whole runs in two worlds that differ in one nulled unit: nothing but charged sums may differ.

Every mechanism with every unit, every source and every learner of the registries is taken in, where
they go together; a new one needs no line here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any
from unittest import mock

import numpy as np
import pytest
from medmnist import INFO
from torch import Tensor
from torch.nn import functional

from metaward.client import work
from metaward.client.desk import LOSS, Desk
from metaward.client.errors import DataError
from metaward.client.inner import ALGORITHMS
from metaward.client.inner.warm_up import WarmUp
from metaward.client.losses import Focal
from metaward.client.losses.own import as_loss
from metaward.client.models import MODELS, Architecture
from metaward.client.models.mlp import Mlp
from metaward.client.schedule import Dealt, deal
from metaward.client.tasks import TASKS
from metaward.client.tasks.arrays import Records, as_source
from metaward.client.tasks.base import Hospital
from metaward.client.tasks.folder import OwnFiles
from metaward.client.tasks.folder_windows import Recording
from metaward.client.tasks.medmnist import MedMnist
from metaward.privacy import MECHANISMS, UNITS, Answer, Mechanism, Release, Unit
from tests.client.tasks.test_medmnist import Folder
from tests.client.tasks.test_medmnist_forms import separable
from tests.needed import needed
from tests.privacy.lockstep import INDEX, ROOT, Lived, Names, Twin, live

MODEST = {
    "hospitals": 2,
    "unseen": 2,
    "records": 40,
    "functions": 3,
    "points": 6,
    "shots": 1,
    "queries": 2,
    "steps": 2,
    "orientations": 1,
    "rank": 2,
    "clip_norm": 2.0**-10,
}
"""Small tasks, few steps, and a clip norm so small that every vector is clipped: then a unit moves
the sums as far as it may."""
SEED = 5
NOBODY: Names = frozenset()
REAL = (
    pytest.mark.skipif(ROOT is None, reason="METAWARD_DATA is not set: the source has no files"),
    pytest.mark.long,
)
"""Sources with files take minutes."""
QUICK = ("metric", "reptile", "maml")
"""Learners of which the first that fits is enough for a source: who is dealt into which task
depends on no learner, and every learner is played on the sources of arrays."""


def modest(cls: type[Any], **options: Any) -> Any:
    """A part with the options of ``MODEST`` that it has."""
    numbers = {f.name for f in fields(cls) if type(f.default) in (int, float)}
    chosen = {name: MODEST[name] for name in numbers & MODEST.keys()}
    return cls(**chosen, **needed(cls), **options)


# ------------------------------------------------------------------------------ the sources


@cache
def of_arrays(targets: bool, gone: Names) -> type[Any]:
    """A source of arrays that hold zeros where records are gone."""
    rng, hospitals, n = np.random.default_rng(1), [], 36
    for name in ("a", "b"):
        x = rng.normal(size=(n, 4)) + 1
        y = rng.normal(size=(n, 1)) if targets else np.arange(n) % 3
        x[[f"{name}/{k}" in gone for k in range(n)]] = 0
        hospitals.append(Records(name, x, y, patients=np.arange(n) // 6))
    made: type[Any] = as_source("arrays", hospitals)
    return made


@cache
def of_files() -> type[Any]:
    """The source ``folder``, with a data folder that is written for it."""
    root, rng = Path(mkdtemp()), np.random.default_rng(1)
    for name in ("north", "south"):
        (root / name).mkdir()
        x, patient = rng.normal(size=(36, 4)) + 1, np.arange(36) // 6
        np.savez(root / name / "records.npz", x=x, y=np.arange(36) % 3, patient=patient)

    class Written(OwnFiles):
        def hospital(self, index: int, root_: Path | None, seed: int) -> Hospital:
            return super().hospital(index, root, seed)

    return Written


APART, BEATS, STEPS = 210, 36, 100
"""Samples from beat to beat, beats, and samples a second: what one beat is charged for, a second to
either side, holds no sample of another."""


@cache
def of_recordings(gone: Names) -> type[Any]:
    """The source ``folder`` with recordings (WFDB), whose signal is silent around beats that are
    gone: whatever is made of the others is then made without them."""
    root, rng = Path(mkdtemp()), np.random.default_rng(1)
    for name in ("north", "south"):
        (root / name).mkdir()
        for patient in range(BEATS // 6):
            write_beats(root / name, f"p{patient}", f"{name}/p{patient}", rng, gone)

    class Recorded(OwnFiles):
        def hospital(self, index: int, root_: Path | None, seed: int) -> Hospital:
            return super().hospital(index, root, seed)

    return Recorded


def write_beats(place: Path, name: str, owner: str, rng: np.random.Generator, gone: Names) -> None:
    """Six beats of one patient; a beat is known by its recording and its sample."""
    wfdb = pytest.importorskip("wfdb")
    at = APART // 2 + APART * np.arange(6)
    signal = rng.integers(-800, 800, (APART * 6, 1)).astype(np.int64)
    for sample in (one for one in at if f"{owner}/{one}" in gone):
        signal[sample - APART // 2 : sample + APART // 2] = 0
    facts = {"fs": STEPS, "units": ["mV"], "sig_name": ["I"], "fmt": ["16"]}
    scale = {"adc_gain": [200.0], "baseline": [0]}
    wfdb.wrsamp(name, d_signal=signal, write_dir=str(place), **facts, **scale)
    wfdb.wrann(name, "atr", at, symbol=list("NVA" * 2), write_dir=str(place))


@cache
def of_images() -> type[Any]:
    """The source ``medmnist``, with a data folder of made-up sets that is written for it."""
    root, patch = Path(mkdtemp()), pytest.MonkeyPatch()
    with patch.context() as blessed:
        for flag in ("chestmnist", "nodulemnist3d"):
            Folder(root, blessed).write(flag, separable(flag))
        entries = {flag: INFO[flag] for flag in ("chestmnist", "nodulemnist3d")}

    class Pictured(MedMnist):
        def hospital(self, index: int, root_: Path | None, seed: int) -> Hospital:
            with mock.patch.dict(INFO, entries):
                return super().hospital(index, root, seed)

    return Pictured


IMAGES: dict[str, dict[str, Any]] = {
    "findings": {"datasets": ("chestmnist",)},
    "volumes": {"datasets": ("nodulemnist3d",), "projection": "none"},
}
"""Forms of MedMNIST that the default options leave out."""
ARRAYS = {"arrays": False, "targets": True}
FILES = {
    "train": ("north", "south"),
    "unseen": ("west",),
    "classes": ("0", "1", "2"),
    "shape": (4,),
}


BEAT: dict[str, Any] = {
    **{key: FILES[key] for key in ("train", "unseen")},
    "classes": ("N", "V", "A"),
    "shape": (1, 12),
    "recording": Recording(rate=40.0, centred=True),
}
"""Windows that are resampled, and have their own mean taken off."""


def twin_of(name: str) -> Twin:
    """The source of this name; those of arrays and recordings are told which records are gone."""
    if name == "recordings":
        return lambda gone: modest(of_recordings(gone), **BEAT)
    if name == "files":
        written = modest(of_files(), **FILES)
        return lambda gone: written
    if name in IMAGES:
        pictured = modest(of_images(), **IMAGES[name])
        return lambda gone: pictured
    if name in ARRAYS:
        return lambda gone: modest(of_arrays(ARRAYS[name], gone))
    source = modest(TASKS[name])
    return lambda gone: source


@cache
def opened(name: str) -> Hospital | None:
    """The first hospital; None where it needs files that are not here."""
    try:
        found: Hospital = twin_of(name)(NOBODY).hospital(INDEX, ROOT, SEED)
    except DataError:
        return None
    return found


@cache
def needs_files(name: str) -> bool:
    """Whether the source makes nothing up."""
    try:
        twin_of(name)(NOBODY).hospital(INDEX, None, SEED)
    except DataError:
        return True
    return False


# ------------------------------------------------------------------------- all combinations


def mechanisms() -> Iterator[Mechanism]:
    """Every mechanism with every unit that it can protect."""
    for cls in MECHANISMS.values():
        for unit in UNITS.values():
            if cls.serves(unit):
                yield modest(cls, **({"unit": unit} if unit.protected else {}))


@dataclass(frozen=True)
class Case:
    """A mechanism with its unit, a source and a learner; and whether the first round warms up."""

    mechanism: Mechanism
    source: str
    learner: str
    warm_up: WarmUp | None = None

    @cached_property
    def network(self) -> Architecture | None:
        """The first network that all parts go together with; None where there is none."""
        networks = [Mlp((3,)), *map(modest, MODELS.values())]
        return next((n for n in networks if not list(self.on(n, 1).conflicts())), None)

    @property
    def desk(self) -> Desk:
        """With this network, two rounds a pass, and a third pass that is half done."""
        assert self.network is not None
        return self.on(self.network, ceil(tasks_of(self.source, self.mechanism.unit) / 2))

    def on(self, network: Architecture, tasks: int) -> Desk:
        """Five rounds of so many tasks."""
        source, learner = twin_of(self.source)(NOBODY), modest(ALGORITHMS[self.learner])
        first, rounds = self.warm_up, 5
        return Desk(
            source, network, learner, self.mechanism, tasks, "passes", SEED, rounds, 1, first
        )

    def __str__(self) -> str:
        parts = [self.mechanism.name, self.mechanism.unit.name, self.source, self.learner]
        return "-".join([*parts, *(["warm_up"] if self.warm_up else [])])


@cache
def tasks_of(source: str, unit: Unit) -> int:
    """How many tasks the first hospital's records make."""
    made = opened(source)
    return len(deal(made, unit, np.random.default_rng(SEED))) if made else 1


WRITTEN = (*IMAGES, "recordings")
"""Sources whose files are written for the test."""


def cases() -> Iterator[Any]:
    """Every case; all of a source but the first learner for each mechanism, and the warm-ups, take
    long where another source has the same ones."""
    for source in (*TASKS, *ARRAYS, "files", *WRITTEN):
        real = source in TASKS and needs_files(source)
        if source == "folder":  # it is among them as "files"
            continue
        first = list(quick(source))
        for case in first if real or source in WRITTEN else every(source):
            seldom = source not in ARRAYS and case not in first and case.warm_up is None
            marks = REAL if real else (pytest.mark.long,) if seldom else ()
            yield pytest.param(case, id=str(case), marks=marks)


def every(source: str) -> Iterator[Case]:
    """Each mechanism with each learner that fits, with a warm-up and without."""
    for learner in ALGORITHMS:
        for mechanism in mechanisms():
            for warm_up in (None, WarmUp(centre=True)):
                case = Case(mechanism, source, learner, warm_up)
                if case.network is not None:
                    yield case


def quick(source: str) -> Iterator[Case]:
    """Each mechanism with the first learner of ``QUICK`` that fits."""
    for mechanism in mechanisms():
        fitting = (Case(mechanism, source, learner, None) for learner in QUICK)
        yield next(case for case in fitting if case.network is not None)


def check(lived: Lived) -> None:
    """That the worlds differ in nothing but sums, and in these by no more than was charged."""
    a, b, unit = lived.a, lived.b, lived.a.desk.mechanism.unit
    assert a.dealt == b.dealt, "tasks differ"
    assert a.others == b.others, "another record is seen differently"
    assert {len(seen) for seen in a.others.values()} <= {1}, "a record looks alike in all rounds"
    if not unit.protected:
        return
    assert a.told == b.told, "charges or refusals differ"
    assert [one[1:] for one in a.sums] == [one[1:] for one in b.sums], "clip norms and noise"
    if not unit.noise_at_server:
        left, left_without = zip(*lived.answers, strict=True)
        assert updates(left) == updates(left_without), "something else leaves than noised sums"
    learns = a.desk.learner.initial(work.open_setting(a.desk), SEED).numel() > 0
    moved = sum(distance**2 for distance in lived.moved)
    assert learns == (moved > 0), "the unit is in no sum"
    assert moved <= lived.charged * (1 + 1e-6), "sums moved further than was charged"


def updates(answers: Sequence[Answer]) -> list[bytes]:
    return [answer.update.tobytes() for answer in answers if isinstance(answer, Release)]


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where there is such a place, because ledgers wait for the disk at every step."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sources of arrays under their names, as a program registers them."""
    for name, targets in ARRAYS.items():
        monkeypatch.setitem(TASKS, name, of_arrays(targets, NOBODY))
    monkeypatch.setitem(TASKS, "files", of_files())
    monkeypatch.setitem(TASKS, "pictures", of_images())
    monkeypatch.setitem(TASKS, "recordings", of_recordings(NOBODY))


@pytest.mark.parametrize("case", list(cases()))
@pytest.mark.usefixtures("named")
def test_nothing_but_charged_sums_tells_the_worlds_apart(case: Case, folder: Path) -> None:
    check(live(case.desk, twin_of(case.source), folder))


# --------------------------------------------------------------------- weights and own losses


def steep(outputs: Tensor, labels: Tensor) -> Tensor:
    """A loss from elsewhere."""
    return functional.cross_entropy(outputs, labels, reduction="none").square()


LEARNING = {
    "focal": {"loss": Focal(gamma=2.0), "class_weights": (("0", 50.0), ("2", 0.1))},
    "own": {"loss": as_loss("steep", steep)()},
}


@pytest.mark.parametrize("chosen", LEARNING)
@pytest.mark.parametrize("learner", ["reptile", "maml", "proto_maml", "embedding"])
@pytest.mark.parametrize("unit", ["record", "patient"])
@pytest.mark.usefixtures("named")
def test_a_weighted_loss_moves_sums_no_further(
    unit: str, learner: str, chosen: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weight is in a record's own vector before that is clipped."""
    mechanism = next(m for m in mechanisms() if m.unit.name == unit)
    assert LOSS.plugins is not None
    monkeypatch.setitem(LOSS.plugins.entries, "steep", type(LEARNING["own"]["loss"]))

    def twin(gone: Names) -> Any:
        return modest(of_arrays(False, gone), canonical=True)

    desk = Case(mechanism, "arrays", learner).desk
    assert desk is not None
    weighted = replace(desk, source=twin(NOBODY), **LEARNING[chosen])  # type: ignore[arg-type]
    lived = live(weighted, twin, folder)
    check(lived)
    assert max(lived.moved) > 0
    assert {"answered"} == {said[1] for said in lived.a.told if len(said) == 2}


# ------------------------------------------------------------------------ that it finds faults

TASK, RECORD = (next(m for m in mechanisms() if m.unit.name == name) for name in ("task", "record"))


def faulty(desk: Desk, twin: Twin, folder: Path, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        check(live(desk, twin, folder))


@pytest.mark.usefixtures("named")
def test_tasks_that_every_pass_deals_anew_are_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The records of one task are then in several later ones, and each of these is clipped."""
    no_refusals = replace(TASK, epsilon=100.0, noise_multiplier=1.0)  # type: ignore[call-arg]
    case = Case(no_refusals, "arrays", "fomaml")

    def anew(desk: Desk, hospital: Hospital, index: int) -> Dealt:
        return lambda number: deal(
            hospital, desk.mechanism.unit, np.random.default_rng([SEED, number])
        )

    monkeypatch.setattr(work, "_dealer", anew)
    monkeypatch.setattr(work, "_fixed_tasks", lambda *_: "the same")
    faulty(case.desk, twin_of(case.source), folder, "sums moved further than was charged")


@cache
def picky(gone: Names) -> type[Any]:
    """A source that leaves records without any value out."""

    class Picky(of_arrays(False, gone)):  # type: ignore[misc]
        def hospital(self, index: int, root: Path | None, seed: int) -> Hospital:
            found: Hospital = super().hospital(index, root, seed)
            return replace(found, rows=found.rows[found.x.any(axis=1)])

    return Picky


def test_a_roster_that_depends_on_values_is_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TASKS, "arrays", of_arrays(False, NOBODY))
    desk = Case(RECORD, "arrays", "fomaml").desk
    monkeypatch.setitem(TASKS, "arrays", picky(NOBODY))
    desk = replace(desk, source=modest(picky(NOBODY)))
    faulty(desk, lambda gone: modest(picky(gone)), folder, "tasks differ")


def test_a_network_input_that_depends_on_other_records_is_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values that are scaled by the hospital's own mean, for example."""
    monkeypatch.setitem(TASKS, "arrays", of_arrays(False, NOBODY))

    def centred(gone: Names) -> Any:
        return Centred(modest(of_arrays(False, gone)))

    faulty(Case(RECORD, "arrays", "fomaml").desk, centred, folder, "another record")


@dataclass(frozen=True)
class Centred:
    """A source whose records have the hospital's mean taken off."""

    source: Any

    def hospital(self, index: int, root: Path | None, seed: int) -> Hospital:
        found: Hospital = self.source.hospital(index, root, seed)
        return replace(found, x=found.x - found.x.mean(axis=0))
