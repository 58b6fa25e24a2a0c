"""What every source of tasks must keep."""

from dataclasses import fields, replace
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest

from metaward.client.errors import DataError
from metaward.client.tasks import TASKS
from metaward.client.tasks.base import Episode, FewShot, TaskSource, TaskSpec
from metaward.client.tasks.preparation import NOT_SAID, UNSAID, Covered
from metaward.client.tasks.sine import Sine
from tests.needed import needed, usual


def modest(cls: type[TaskSource]) -> TaskSource:
    """The source with few hospitals where it lets us choose, so that contracts stay quick."""
    wanted = {"hospitals": 2, "unseen": 1, "records": 120}
    counts = [f.name for f in fields(cls) if type(f.default) is int]  # type: ignore[arg-type]
    return cls(**{key: value for key, value in wanted.items() if key in counts}, **needed(cls))


@pytest.mark.parametrize("name", TASKS)
def test_source_says_who_takes_part_without_opening_a_file(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = usual(TASKS[name])
    monkeypatch.setattr("builtins.open", lambda *_, **__: pytest.fail("opened a file"))
    monkeypatch.setattr("pathlib.Path.open", lambda *_, **__: pytest.fail("opened a file"))
    monkeypatch.setattr("numpy.load", lambda *_, **__: pytest.fail("opened a file"))
    seats, spec = source.roster(), source.spec()
    monkeypatch.undo()
    assert len({seat.name for seat in seats}) == len(seats)
    assert {seat.role for seat in seats} == {"train", "unseen"}
    assert seats == usual(TASKS[name]).roster()
    assert spec.outputs >= 1
    assert all(length >= 1 for length in spec.input_shape)
    assert (spec.vocabulary == 0) == (not spec.kind.classes)


@pytest.mark.parametrize("name", TASKS)
def test_source_needs_no_data_or_says_where_to_get_it(name: str) -> None:
    source = modest(TASKS[name])
    try:
        hospitals = [source.hospital(i, None, 5) for i in range(len(source.roster()))]
    except DataError:
        with pytest.raises(DataError, match=r"(?s)data\.root.*METAWARD_DATA"):
            source.hospital(0, None, 5)
        return
    again = replace(source).hospital(0, None, 5)  # type: ignore[type-var]
    other = replace(source).hospital(0, None, 6)  # type: ignore[type-var]
    spec, size = source.spec(), source.task_size()
    for seat, hospital in zip(source.roster(), hospitals, strict=True):
        assert hospital.seat == seat
        if seat.role == "train":
            drawn = hospital.episode(np.random.default_rng(2))
            assert (len(drawn.support_rows), len(drawn.query_rows)) == (size.support, size.query)
            assert source.declared_records() in (None, len(hospital.rows))
        own = hospital.ids[hospital.rows]
        assert len(set(own.tolist())) == len(own)
        one = hospital.episode(np.random.default_rng(3))
        assert_episode(one, spec)
        assert not set(one.support_rows) & set(one.query_rows)
        assert set(one.support_rows) | set(one.query_rows) <= set(hospital.rows.tolist())
        repeated = hospital.episode(np.random.default_rng(3))
        assert repeated.support_x.tobytes() == one.support_x.tobytes()
        fresh = hospital.episode(np.random.default_rng(4))
        assert fresh.support_x.tobytes() != one.support_x.tobytes()
    for one, two in pairwise(hospitals):
        assert not set(one.ids[one.rows].tolist()) & set(two.ids[two.rows].tolist())
    first = hospitals[0].episode(np.random.default_rng(3)).query_x
    assert again.episode(np.random.default_rng(3)).query_x.tobytes() == first.tobytes()
    assert other.episode(np.random.default_rng(3)).query_x.tobytes() != first.tobytes()


@pytest.mark.parametrize("name", TASKS)
def test_source_says_how_large_its_tasks_are_and_how_it_prepares_records(name: str) -> None:
    source = usual(TASKS[name])
    size = source.task_size()
    assert min(size.support, size.query) >= 1
    assert source.most_tasks(size.records - 1) == 0
    assert source.most_tasks(size.records) == 1
    for step in (source.preparation.scaling, source.preparation.beforehand):
        assert step not in UNSAID
        assert step.covered in get_args(Covered)
        assert len(step.words.split()) > 4
    assert source.preparation.origin != NOT_SAID
    option, declared = source.records_option, source.declared_records()
    if option is not None:
        assert declared is not None
        twice = replace(source, **{option: 2 * declared})  # type: ignore[type-var]
        assert twice.declared_records() == 2 * declared
    if declared is not None:
        assert 1 <= source.most_tasks(declared) <= declared // size.records


def test_tasks_of_sine_come_of_one_sinusoid_each() -> None:
    """50 points make one task of 30, so that 20 of each sinusoid are left over; of 2,499 records it
    is not known whose they are."""
    source = Sine(shots=10, queries=20, functions=50, points=50)
    assert source.declared_records() == 2500
    assert source.most_tasks(2500) == 50
    assert source.most_tasks(2499) == 2499 // 30


def test_a_source_that_does_not_say_how_it_prepares_records_is_not_covered() -> None:
    scaling, beforehand, origin = FewShot.preparation
    assert {scaling.covered, beforehand.covered} == {"no"}
    assert origin == NOT_SAID


def assert_episode(one: Episode, spec: TaskSpec) -> None:
    for x, y in ((one.support_x, one.support_y), (one.query_x, one.query_y)):
        assert x.shape == (len(y), *spec.input_shape)
        assert x.dtype == np.float32
        assert np.isfinite(x).all()
        if spec.kind.classes:
            assert y.dtype == np.int64
            assert set(y.tolist()) == set(range(spec.outputs))
        else:
            assert y.shape == (len(x), spec.outputs)
            assert y.dtype == np.float32
    assert len(one.classes) == (spec.outputs if spec.kind.classes else 0)
