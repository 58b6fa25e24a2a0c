"""Noised sums of several tasks at once are those of one task after the other, noise included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metaward.client.inner import Setting
from metaward.client.inner.at_once import AUTO, AtOnce, Batched, OneByOne
from metaward.client.tasks.base import Episode
from metaward.privacy import Batch, Opening, Rehearsal, Session
from metaward.privacy.clipping import clipped_units, task_vectors
from metaward.privacy.mechanisms import noisy_sums
from metaward.privacy.noise import SeededNoise
from metaward.privacy.session import use
from tests.contracts.requests import squares
from tests.extending.normalised import Normalised
from tests.mechanisms import protecting
from tests.privacy.attacked import CASES, LEARNERS, episodes, records, start

GRADIENTS = ("reptile", "reptile in batches", "fomaml", "fomaml, local rate", "maml", "proto_maml")
PAIRS = [(n, c) for n in GRADIENTS for c in CASES if "proto" not in n or CASES[c][1].kind.classes]
CLIP = 0.05  # most records' gradients are longer
UNITS = ("record", "patient")


def tasks_of(case: str) -> list[Episode]:
    """Five tasks without common records, of which two are smaller, each in a way of its own."""
    spec, found = CASES[case][1], list[Episode]()
    for seed, first in ((1, 0), (2, 24), (3, 48)):
        for e in episodes(records(spec, seed)):
            s, q = e.support_rows + first, e.query_rows + first
            found.append(replace(e, support_rows=s, query_rows=q))
    return [found[0], cut(found[1], "query"), *found[2:4], cut(found[4], "support")]


def cut(episode: Episode, part: str) -> Episode:
    """The same task with three records in this part."""
    names = [f"{part}_{name}" for name in ("x", "y", "rows")]
    return replace(episode, **{name: getattr(episode, name)[:3] for name in names})


def opened(unit: str, uses: Sequence[Any], **options: Any) -> Session:
    """A session with noise; a patient has two records of one task."""
    mechanism = protecting(unit, clip_norm=CLIP, **options)
    owners = np.arange(72) // (1 if unit == "record" else 2)
    sigma = {one.kind: 0.7 for one in uses}
    return mechanism.session(Opening(uses, sigma, owners, SeededNoise(4)))


def update(name: str, case: str, unit: str, at_once: AtOnce) -> Tensor:
    """One update in float64, priced by a rehearsal."""
    setting, learner = Setting(*CASES[case], at_once=at_once), LEARNERS[name]
    theta, tasks, rehearsal = start(setting, learner), tasks_of(case), Rehearsal()

    def once(theta: Tensor, session: Session) -> Tensor:
        return learner.update(setting, theta, tasks, session, np.random.default_rng(5)).delta

    once(theta.float(), rehearsal)
    return once(theta, opened(unit, rehearsal.uses))


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tasks each pass took."""
    seen = list[int]()

    def counted(one: Any, given: Any, x: Tensor, y: Tensor, chunk: int) -> Any:
        seen.append(len(x))
        return task_vectors(one, given, x, y, chunk)

    monkeypatch.setattr(noisy_sums, "task_vectors", counted)
    return seen


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(("name", "case"), PAIRS)
def test_updates_are_those_of_one_task_after_the_other(
    name: str, case: str, unit: str, passes: list[int]
) -> None:
    """The noise is drawn in the same order, whichever tasks are computed at once."""
    alone = update(name, case, unit, OneByOne())
    assert passes == []
    for at_once in (Batched(2), Batched(64), AUTO.on("cpu", torch.nn.Linear(1, 1))):
        found = update(name, case, unit, at_once)
        torch.testing.assert_close(found, alone, rtol=0, atol=1e-12)
    assert alone.abs().max() > 1e-4
    assert (max(passes, default=0) > 2) == ("local rate" not in name)  # it has one task at a time


# ------------------------------------------------------------------------------ sessions

X = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
TASKS = Batch(X, X.sum(dim=2).sin(), np.arange(12).reshape(3, 4))
PHI = torch.linspace(-1, 2, 15, dtype=torch.float64).view(3, 5)
MASK = torch.tensor([True, True, False, True, True])


def gradients(session: Session, tasks: Batch = TASKS) -> Tensor:
    return session.gradients(squares, PHI, tasks, "support", MASK)[0]


def asked(tasks: Batch = TASKS) -> list[Any]:
    return [use("support", batch) for batch in tasks.unstack()]


@pytest.mark.parametrize("unit", UNITS)
def test_where_units_are_drawn_it_is_one_after_the_other(unit: str, passes: list[int]) -> None:
    """A task's draw and its noise follow each other in the source."""
    found = gradients(opened(unit, asked(), sampling_rate=0.5))
    other = Session.gradients(
        opened(unit, asked(), sampling_rate=0.5), squares, PHI, TASKS, "support", MASK
    )
    assert passes == []
    assert torch.equal(found, other[0])


def test_a_session_that_changes_a_sum_is_asked_for_each(passes: list[int]) -> None:
    """One derived from ours, which only knows what becomes of one sum."""
    opening = Opening(asked(), {"support": 0.0}, np.arange(12), SeededNoise(0))
    session = Normalised(clip_norm=CLIP).session(opening)
    lengths = gradients(session).norm(dim=1)
    assert passes == []
    assert (lengths > 0).all()


def test_tasks_of_many_records_are_taken_alone(
    passes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tasks at a time where memory has room for eight vectors, none where it has for seven."""
    for room, expected in ((8, [3]), (7, [])):
        passes.clear()
        monkeypatch.setattr(noisy_sums, "rows", lambda d, gpu, room=room: room)
        found = gradients(opened("record", asked()))
        assert passes == expected
        other = Session.gradients(opened("record", asked()), squares, PHI, TASKS, "support", MASK)
        torch.testing.assert_close(found, other[0], rtol=0, atol=1e-12)


def test_a_record_that_is_not_finite_counts_as_zero() -> None:
    """In its own task; a patient's other records still count, and no other task sees it."""
    broken = TASKS._replace(x=X.clone())
    broken.x[1, 2] = torch.nan
    for unit in UNITS:
        found, whole = (gradients(opened(unit, asked()), tasks) for tasks in (broken, TASKS))
        assert torch.isfinite(found).all()
        assert [torch.equal(a, b) for a, b in zip(found, whole, strict=True)] == [True, False, True]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("gone", range(6))
def test_a_unit_moves_its_own_task_by_no_more_than_the_clip_norm(unit: str, gone: int) -> None:
    """And no other task, not by the last bit. A unit is nulled as one whose loss is flat."""
    one = 1 if unit == "record" else 2
    task, rows = divmod(gone * 2, 4)[0], slice(gone * 2 % 4, gone * 2 % 4 + one)
    nulled = TASKS._replace(x=X.clone(), y=TASKS.y.clone())
    nulled.x[task, rows] = 0
    mechanism, uses = protecting(unit, clip_norm=CLIP), asked()

    def sums(tasks: Batch) -> Tensor:
        opening = Opening(uses, {"support": 0.0}, np.arange(12) // one, SeededNoise(0))
        return gradients(mechanism.session(opening), tasks) * 4

    moved = (sums(TASKS) - sums(nulled)).norm(dim=1)
    assert 0.99 * CLIP < moved[task] <= CLIP * (1 + 1e-12)
    assert moved.count_nonzero() == 1


def test_vectors_are_exact_sums_of_each_task() -> None:
    """Clipped sums of a task's vectors do not depend on who is computed beside it."""
    together = [*task_vectors(lambda p, x, y: p * x * y, [PHI], TASKS.x, TASKS.y, 3)]
    for chunk in (1, 2):
        parts = [*task_vectors(lambda p, x, y: p * x * y, [PHI], TASKS.x, TASKS.y, chunk)]
        assert [part.shape for part in parts] == [(4, 5)] * 3
        for own, other in zip(parts, together, strict=True):
            slots = torch.arange(4)
            assert torch.equal(
                clipped_units([own], slots, CLIP, 2.0**-50),
                clipped_units([other], slots, CLIP, 2.0**-50),
            )
