"""Hospitals whose records are arrays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from metaward.client.desk import SOURCE
from metaward.client.errors import DataError
from metaward.client.schedule import deal
from metaward.client.tasks.arrays import Records, as_source
from metaward.privacy.units import UNITS
from tests.contracts.test_sources import assert_episode

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3, 4))
Y = np.arange(60) % 5


def federation(**options: Any) -> Any:
    """Labels 3, 4 are known to the unseen hospital alone."""
    train = [Records(name, X[Y < 3], Y[Y < 3]) for name in ("a", "b")]
    return as_source("mine", [*train, Records("c", X, Y, "unseen")])(**options)


def functions(**options: Any) -> Any:
    groups = np.repeat(["f", "g", "h"], 20)
    held = [Records(name, X, X[:, 0, :2], functions=groups) for name in ("a", "b")]
    return as_source("mine", [*held, Records("c", X, X[:, 0, :2], "unseen")])(**options)


def test_what_everybody_may_know() -> None:
    source = federation(ways=2, shots=3, queries=4)
    assert [(seat.name, seat.role) for seat in source.roster()] == [
        ("a", "train"),
        ("b", "train"),
        ("c", "unseen"),
    ]
    spec = source.spec()
    assert (spec.input_shape, spec.outputs, spec.vocabulary) == ((3, 4), 2, 3)
    assert source.declared_records() == 36
    assert source.task_size().records == 14
    assert source.most_tasks(36) == 2
    assert hash(source) == hash(replace(source))
    assert source == replace(source)
    assert source != replace(source, shots=2)


def test_tasks_are_drawn_from_the_hospitals_own_records() -> None:
    source = federation(ways=3, shots=2, queries=4)
    hospital = source.hospital(2, None, 0)
    one = hospital.episode(np.random.default_rng(1))
    assert_episode(one, source.spec())
    for x, rows in ((one.support_x, one.support_rows), (one.query_x, one.query_rows)):
        assert np.array_equal(x, X[rows].astype(np.float32))
    assert (one.classes[one.support_y] == Y[one.support_rows]).all()
    assert not set(one.support_rows) & set(one.query_rows)


def test_labels_of_training_hospitals_come_first() -> None:
    """Whatever they are called: a name that only an unseen hospital holds has a higher number."""
    names = np.array(["z", "y", "a"])
    train = Records("one", X[Y < 2], names[Y[Y < 2]])
    source = as_source("mine", [train, Records("two", X[Y < 3], names[Y[Y < 3]], "unseen")])()
    assert source.spec().vocabulary == 2
    assert set(source.hospital(0, None, 0).y.tolist()) == {0, 1}
    labels = dict(
        zip(names[Y[Y < 3]].tolist(), source.hospital(1, None, 0).y.tolist(), strict=True)
    )
    assert labels == {"y": 0, "z": 1, "a": 2}


def test_records_and_patients_have_names_of_their_own() -> None:
    patients = np.repeat(np.arange(12), 5)
    held = [Records(name, X, Y, patients=patients) for name in ("a", "b")]
    source = as_source("mine", held)(ways=2, shots=2, queries=2)
    one, two = (source.hospital(i, None, 0) for i in range(2))
    assert len({*one.ids.tolist(), *two.ids.tolist()}) == 120
    assert len({*one.patients.tolist(), *two.patients.tolist()}) == 24
    assert one.patients[:5].tolist() == ["a/0"] * 5
    for task in deal(one, UNITS["patient"], np.random.default_rng(0)):
        assert len(task.support_rows) == 4


def test_targets_make_tasks_of_one_function_each() -> None:
    source = functions(shots=5, queries=6)
    spec = source.spec()
    assert (spec.kind.classes, spec.outputs, spec.vocabulary) == (False, 2, 0)
    assert (source.declared_records(), source.most_tasks(60)) == (60, 5)
    hospital = source.hospital(1, None, 0)
    one = hospital.episode(np.random.default_rng(1))
    assert_episode(one, spec)
    rows = np.concatenate([one.support_rows, one.query_rows])
    assert len(set((rows // 20).tolist())) == 1
    assert np.array_equal(one.query_y, X[one.query_rows, 0, :2].astype(np.float32))
    with pytest.raises(DataError, match=r"no function has shots \+ queries = 25 records"):
        functions(shots=5, queries=20).hospital(0, None, 0).episode(np.random.default_rng(1))


def test_arrays_are_copied_and_read_only() -> None:
    x, y = X.copy(), Y.copy()
    held = Records("a", x, y)
    x[:], y[:] = 0, 0
    assert held.x.any()
    assert held.y.any()
    with pytest.raises(ValueError, match="read-only"):
        held.x[0] = 1


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"x": np.zeros(3)}, r"records of a: x has shape \(3,\)"),
        ({"x": np.zeros((0, 3)), "y": []}, "n from 1"),
        ({"x": np.full((60, 3), np.nan)}, "finite values"),
        ({"y": Y[:5]}, "60 records, but 5 y"),
        ({"y": Y / 2}, r"y has decimal points and shape \(60,\)"),
        ({"y": np.full((60, 1), np.inf)}, "give finite targets"),
        ({"y": np.zeros((60, 1), int)}, r"labels have shape \(60, 1\)"),
        ({"patients": [1]}, "60 records, but 1 patients"),
        ({"functions": [1, 2]}, "60 records, but 2 functions"),
    ],
)
def test_arrays_that_do_not_fit(arrays: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Records("a", **({"x": X, "y": Y} | arrays))


@pytest.mark.parametrize(
    ("hospitals", "text"),
    [
        ([Records("a", X, Y), Records("a", X, Y)], "give each a name of its own"),
        ([Records("a", X, Y), Records("b", X[:, 0], Y)], "all must be alike"),
        ([Records("a", X, Y), Records("b", X, X[:, 0])], "all must be alike"),
    ],
)
def test_hospitals_that_do_not_fit_each_other(hospitals: list[Records], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        as_source("mine", hospitals)


def test_options_keep_to_those_of_tasks() -> None:
    faults: list[str] = []
    assert replace(federation(), shots=3).shots == 3
    with pytest.raises(TypeError):
        federation(hospitals=3)
    assert SOURCE.build({"source": "mine"}, "client.tasks", faults) is None
