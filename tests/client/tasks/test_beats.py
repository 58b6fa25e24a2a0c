"""Made-up heartbeats: shaped like real ones, kinds that can be told apart, unlike hospitals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from metaward.client.tasks import TASKS
from metaward.client.tasks.base import Hospital
from metaward.client.tasks.beats import KINDS, NAMES, Beats, draw_strips
from metaward.client.tasks.ecg import ADC_MAX, ADC_MIN, Ecg

SEED = 4
SMALL = Beats(hospitals=3, unseen=2, records=300)


@pytest.fixture(scope="module")
def wards() -> list[Hospital]:
    return [SMALL.hospital(index, None, SEED) for index in range(5)]


def test_records_have_the_shape_of_real_ones() -> None:
    assert TASKS["beats"] is Beats
    assert SMALL.spec().input_shape == Ecg().spec().input_shape
    assert SMALL.spec().kind == Ecg().spec().kind
    strips = draw_strips(SMALL, 0, SEED)
    assert strips.x.dtype == np.int16
    assert ADC_MIN <= strips.x.min() < strips.x.max() <= ADC_MAX
    assert not strips.x.flags.writeable


def test_same_arguments_give_the_same_bytes(wards: list[Hospital]) -> None:
    draw_strips.cache_clear()
    again = SMALL.hospital(1, None, SEED)
    assert again.x.tobytes() == wards[1].x.tobytes()
    assert np.array_equal(again.y, wards[1].y)
    assert SMALL.hospital(1, None, SEED + 1).x.tobytes() != wards[1].x.tobytes()


def test_no_record_and_no_patient_is_in_two_hospitals(wards: list[Hospital]) -> None:
    assert len(np.unique(np.concatenate([h.ids for h in wards]))) == 5 * 300
    patients = [set(h.patients) for h in wards]
    assert len(set.union(*patients)) == sum(map(len, patients))
    assert all(len(own) <= SMALL.patients for own in patients)


def test_every_hospital_can_fill_a_task_of_its_own_kinds(wards: list[Hospital]) -> None:
    for hospital in wards:
        kinds = np.unique(hospital.y)
        assert SMALL.ways <= len(kinds) <= SMALL.held
        episode = hospital.episode(np.random.default_rng(1))
        assert set(episode.classes) <= set(kinds)
        assert episode.support_x.shape == (15, 1, 128)


@pytest.mark.parametrize("kind", range(len(NAMES)))
def test_a_kind_looks_like_itself_and_not_like_another(kind: int) -> None:
    """Patients apart: means over one half of the patients find the other half's beats."""
    strips = draw_strips(Beats(hospitals=1, held=len(NAMES), records=4000, skew=0), 0, SEED)
    half = np.array([int(name.rpartition("-")[2]) % 2 for name in strips.patients])
    x = SMALL.hospital(0, None, SEED).view(strips.x)[:, 0]
    means = np.stack([x[(strips.y == k) & (half == 0)].mean(axis=0) for k in range(len(NAMES))])
    own = x[(strips.y == kind) & (half == 1)]
    nearest = ((own[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == kind).mean() > 3 / len(KINDS)


def test_beats_of_one_patient_are_more_alike_than_those_of_two() -> None:
    strips = draw_strips(Beats(hospitals=1, held=3, records=1000, patients=8), 0, SEED)
    x = SMALL.hospital(0, None, SEED).view(strips.x)[:, 0]
    for kind in np.unique(strips.y):
        own, who = x[strips.y == kind], strips.patients[strips.y == kind]
        within = np.mean([own[who == p].var(axis=0).mean() for p in np.unique(who)])
        assert within < 0.6 * own.var(axis=0).mean()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ways": 7}, "ways = 7 must not be above held = 6"),
        ({"records": 20}, r"records = 20 is below ways \* \(shots \+ queries\) = 45"),
        ({"canonical": True}, "canonical = true needs ways = held = 12"),
        ({"held": 13}, "less than or equal to 12"),
        ({"patients": 0}, "greater than or equal to 1"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TypeAdapter(Beats).validate_python(options)
