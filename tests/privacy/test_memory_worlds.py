"""Two worlds, one with a unit and one without, whose noisy sums came out the same.

That is the only way in which a guarantee lets the worlds be compared: given all that the noise has
answered so far, how far can the next sum move? With a learner that remembers the answer must stay:
by the clip norm, where the unit is in the sum and was charged for it; not at all anywhere else.
Then whatever is kept, or leaves, is the same in both worlds to the byte.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from metaward.client import work
from metaward.client.inner import ALGORITHMS, Kept
from metaward.client.memory import PATTERN
from metaward.client.tasks.base import Episode, Hospital
from metaward.privacy import UNITS, Opening, Release, Session, Use, optimizer
from metaward.privacy.ledger import Ledger
from metaward.privacy.mechanisms import noisy_sums, whole
from metaward.privacy.noise import Noise, SeededNoise
from metaward.sim import Sim
from tests.client.bedside import ask, request
from tests.client.scaffold import SETTINGS, Scaffold
from tests.mechanisms import protecting, spelled
from tests.privacy.ledger.ledger_desk import spent
from tests.server.small import small

ROUNDS = 8
LONG = (f"server.rounds={ROUNDS}", f"server.checkpoint.keep={ROUNDS}")
Sum = NDArray[np.float64]


@dataclass
class World:
    """Every sum before its noise, and what the noise made of it; ``given`` answers instead."""

    given: Sequence[Sum] | None = None
    sums: list[Sum] = field(default_factory=list)
    answers: list[Sum] = field(default_factory=list)

    def noisy(self, total: Sum, clip: float, sigma: float, noise: Noise) -> Sum:
        self.sums.append(np.array(total))
        if self.given is not None:
            return self.given[len(self.sums) - 1]
        self.answers.append(noise.gaussian(len(total)) * sigma * clip + total)
        return self.answers[-1]


@pytest.fixture(autouse=True)
def plugged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ALGORITHMS, "scaffold", Scaffold)


def moved(one: World, other: World) -> list[float]:
    return [float(np.linalg.norm(a - b)) for a, b in zip(one.sums, other.sums, strict=True)]


# --------------------------------------------------------- record and patient: at a hospital


def of(unit: str) -> Sim:
    return small(*SETTINGS, *LONG, spelled(unit, "epsilon: 8.0"))


def lived(
    world: World, folder: Path, unit: str, gone: str | None, patch: pytest.MonkeyPatch
) -> tuple[list[bytes], dict[str, bytes]]:
    """All releases of some rounds at one hospital, and all that its learner kept.

    Where ``gone`` is nulled its values are not numbers, which counts as a vector of zeros.
    """
    open_hospital = work.open_hospital

    def without(*arguments: Any) -> Hospital:
        hospital = open_hospital(*arguments)
        if gone is None:
            return hospital
        x = hospital.x.copy()
        x[UNITS[unit].owners(hospital) == gone] = np.nan
        return replace(hospital, x=x)

    run = of(unit)
    work._dealt.cache_clear()
    with patch.context() as inside:
        inside.setattr(work, "open_hospital", without)
        for module in (noisy_sums, optimizer):
            inside.setattr(module, "noisy", world.noisy)
        config = {"simulation": str(folder)}
        answers = [ask("train", request(run, round=n + 1), **config) for n in range(ROUNDS)]
    work._dealt.cache_clear()
    updates = [answer.update.tobytes() for answer in answers if isinstance(answer, Release)]
    assert len(updates) == ROUNDS, answers
    return updates, {path.name: path.read_bytes() for path in sorted(folder.rglob(PATTERN))}


def vectors(files: dict[str, bytes]) -> list[bytes]:
    """What was kept, without the digests of replies, in which the ledgers' random names are."""
    return [content.split(b"\n", 2)[2] for content in files.values()]


@pytest.mark.parametrize("unit", ["record", "patient"])
def test_only_charged_noisy_sums_tell_a_unit_from_none(
    unit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = of(unit).desk()
    hospital = work.open_hospital(desk.source, 0, None, desk.seed)
    (task, *_) = work.tasks_of(desk, hospital, 0, 1).episodes
    gone = str(UNITS[unit].owners(hospital)[task.support_rows[0]])
    full = World()
    left, files = lived(full, tmp_path / "with", unit, None, monkeypatch)
    nulled = World(full.answers)
    left_without, files_without = lived(nulled, tmp_path / "without", unit, gone, monkeypatch)
    assert left == left_without
    assert vectors(files) == vectors(files_without)
    assert len(set(vectors(files))) == ROUNDS, "something was kept in every round"
    distances = moved(full, nulled)
    (path,) = (tmp_path / "with").rglob("*.sqlite")
    paid = sum(event.count for event in spent(Ledger.open(path), f"{unit}:{gone}"))
    assert 0 < paid < len(distances)
    assert Counter(distance > 0 for distance in distances)[True] == paid
    assert max(distances) <= 1.0, "the clip norm"


def test_what_was_kept_does_matter_to_later_sums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the test above would hold for a learner that forgets."""
    one, other = World(), World()
    lived(one, tmp_path / "a", "record", None, monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(Scaffold, "remembers", False)
        patch.setattr(work, "_keep", lambda *_: None)
        lived(other, tmp_path / "b", "record", None, monkeypatch)
    distances = moved(one, other)
    assert distances[:2] == [0.0, 0.0], "nothing was kept before the first round"
    assert set(distances[2::2]) == {0.0}, "a first step is taken at theta"
    assert all(distance > 0 for distance in distances[3::2])


# ---------------------------------------------------------------- task: why it is refused


def played(world: World, gone: bool, patch: pytest.MonkeyPatch) -> list[Kept]:
    """Two rounds of two tasks each under mechanism task; a task of round 1 may be nulled."""
    run = small(*SETTINGS)
    setting, learner = work.open_setting(run.desk()), Scaffold(lr=0.02, steps=2)
    hospital = work.open_hospital(run.client.tasks, 0, None, run.seed)
    theta, kept = learner.initial(setting, 1), []
    patch.setattr(whole, "noisy", world.noisy)
    for number in (1, 2):
        tasks = work.tasks_of(run.desk(), hospital, 0, number).episodes[:1]
        nulled = tuple(_empty(task) if gone and number == 1 else task for task in tasks)
        uses = [Use("update", tuple(task.support_rows.tolist())) for task in tasks]
        opening = Opening(uses, {"update": 1.0}, np.arange(len(hospital.ids)), SeededNoise(number))
        session: Session = protecting("task").session(opening)
        rng = np.random.default_rng(0)
        update = learner.update(setting, theta, nulled, session, rng)
        kept.append(update.keep)
        setting, theta = setting.recalling(update.keep), theta + update.delta
    return kept


def _empty(task: Episode) -> Episode:
    return replace(task, support_y=np.zeros_like(task.support_y))


def test_under_mechanism_task_what_was_kept_moves_a_task_that_paid_for_itself_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The task of round 2 is the same in both worlds, and so is all that the noise has answered."""
    full = World()
    kept = played(full, False, monkeypatch)
    nulled = World(full.answers)
    kept_without = played(nulled, True, monkeypatch)
    assert not torch.equal(kept[0]["control"], kept_without[0]["control"])
    first, second = moved(full, nulled)
    assert first > 0
    assert second > 0.01, "no charge of the task of round 1 covers this"
