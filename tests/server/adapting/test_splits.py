"""Splits by patient: nobody on both sides, every class on both, and errors that name the class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaward.client.tasks.folder_files import Read
from metaward.errors import InputError
from metaward.server.adapting.records import Labelled
from metaward.server.adapting.splits import PatientSplit, final_support, split

NOTHING = Read(*(np.zeros(0) for _ in range(5)), where=())  # type: ignore[arg-type]


def held(labels: list[int], patients: list[int]) -> Labelled:
    y, who = np.array(labels), np.unique(patients, return_inverse=True)[1]
    names = tuple("abcdef"[: y.max() + 1])
    return Labelled(Path("ward"), np.zeros((len(y), 1), np.float32), y, who, names, NOTHING)


def check(one: PatientSplit, ward: Labelled) -> None:
    assert not set(ward.patients[one.support]) & set(ward.patients[one.judges])
    for side in (one.support, one.judges):
        assert len(set(side.tolist())) == len(side)
        assert set(ward.y[side]) == set(range(len(ward.classes)))


@given(st.data())
def test_a_patient_is_on_one_side(data: st.DataObject) -> None:
    people = data.draw(st.integers(12, 40))
    patients = [p for p in range(people) for _ in range(data.draw(st.integers(1, 4)))]
    labels = [data.draw(st.integers(0, 2)) for _ in patients]
    shots = data.draw(st.sampled_from([1, 2, None]))
    ward = held([0, 1, 2] * 6 + labels, [100 + k for k in range(18)] + patients)
    one = split(ward, shots, np.random.default_rng(0))
    check(one, ward)
    if shots:
        assert np.bincount(ward.y[one.support]).tolist() == [shots] * 3


def test_patients_with_records_of_every_class() -> None:
    ward = held([0, 1, 0, 1] * 6, [k // 4 for k in range(24)])
    one = split(ward, 3, np.random.default_rng(1))
    check(one, ward)
    assert len(one.support) == 6
    assert len(one.judges) == 16  # two of six patients support


def test_all_shots_hold_a_fifth_out_and_fit_to_everything() -> None:
    ward = held([0] * 20 + [1] * 10, list(range(30)))
    one = split(ward, None, np.random.default_rng(0))
    check(one, ward)
    assert np.bincount(ward.y[one.judges]).tolist() == [4, 2]
    assert final_support(ward, None, one).tolist() == list(range(30))
    assert final_support(ward, 4, one) is one.support


def test_splits_differ_and_repeat() -> None:
    ward = held([0, 1] * 20, list(range(40)))
    first, again, other = (split(ward, 3, np.random.default_rng([0, k])) for k in (0, 0, 1))
    assert first.support.tolist() == again.support.tolist()
    assert first.support.tolist() != other.support.tolist()


@pytest.mark.parametrize(
    ("labels", "patients", "shots", "words"),
    [
        ([0, 0, 0, 1], [0, 1, 2, 3], 1, ["class b has 1 record;", "leave the class out"]),
        ([0, 0, 0, 1], [0, 1, 2, 3], None, ["class b has 1 record;"]),
        ([0] * 9 + [1] * 4, list(range(13)), 5, ["class b has 4 records", "--shots 3"]),
        ([0] * 9 + [1] * 4, [*range(9), 9, 9, 9, 9], 2, ["class b", "1 patient:", "--shots"]),
    ],
)
def test_too_few_records_are_named(
    labels: list[int], patients: list[int], shots: int | None, words: list[str]
) -> None:
    with pytest.raises(InputError) as stop:
        split(held(labels, patients), shots, np.random.default_rng(0))
    assert all(word in str(stop.value) for word in words), str(stop.value)
