"""Sinusoid hospitals: the paper's ranges, each hospital its own part, each task one sinusoid."""

import pickle
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from metaward.client.tasks import TASKS
from metaward.client.tasks.base import Hospital
from metaward.client.tasks.kinds import REGRESSION
from metaward.client.tasks.sine import AMPLITUDE, PHASE, Sine, draw_waves

SEED = 3


def opened(source: Sine, seed: int = SEED) -> list[Hospital]:
    return [source.hospital(index, None, seed) for index in range(len(source.roster()))]


@pytest.fixture(scope="module")
def wards() -> list[Hospital]:
    return opened(Sine())


def test_registered_with_its_public_shape() -> None:
    spec = Sine().spec()
    assert TASKS["sine"] is Sine
    assert (spec.kind, spec.input_shape, spec.outputs) == (REGRESSION, (1,), 1)
    assert (spec.vocabulary, spec.canonical) == (0, True)
    seats = Sine(hospitals=1, unseen=1).roster()
    assert [(s.name, s.role) for s in seats] == [("sine-01", "train"), ("unseen-01", "unseen")]


def test_too_few_points_are_refused() -> None:
    with pytest.raises(ValueError, match=r"points = 29 is below shots \+ queries = 30"):
        Sine(points=29)


@pytest.mark.parametrize("options", [{"spread": 1.0}, {"noise": -1.0}, {"shots": 0}])
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Sine).validate_python(options)


def test_same_arguments_give_the_same_bytes(wards: list[Hospital]) -> None:
    draw_waves.cache_clear()
    for index in (29, 0):
        again = Sine().hospital(index, None, SEED)
        assert again.x.tobytes() == wards[index].x.tobytes()
        assert again.y.tobytes() == wards[index].y.tobytes()
    assert Sine().hospital(0, None, SEED + 1).y.tobytes() != wards[0].y.tobytes()
    assert Sine(hospitals=99).hospital(99, None, SEED).y.tobytes() == wards[20].y.tobytes()


def test_records_have_the_promised_layout(wards: list[Hospital]) -> None:
    for hospital in wards:
        assert hospital.x.shape == hospital.y.shape == (2500, 1)
        assert hospital.x.dtype == hospital.y.dtype == np.float32
        assert np.abs(hospital.x).max() <= 5
        assert not hospital.y.flags.writeable
        assert hospital.groups is not None
        assert np.array_equal(np.bincount(hospital.groups), np.full(50, 50))


def test_no_record_and_no_patient_stands_twice(wards: list[Hospital]) -> None:
    assert len(np.unique(np.concatenate([h.ids for h in wards]))) == 30 * 2500
    assert len(np.unique(np.concatenate([h.patients for h in wards]))) == 30 * 50


@pytest.mark.parametrize("spread", [0.0, 0.5, 0.95])
def test_hospitals_keep_to_their_part_of_the_ranges(spread: float) -> None:
    source = Sine(spread=spread, functions=200)
    for index in range(10):
        waves = draw_waves(source, index, SEED)
        for full, part, drawn in (
            (AMPLITUDE, waves.amplitudes, waves.amplitude),
            (PHASE, waves.phases, waves.phase),
        ):
            assert part[1] - part[0] == pytest.approx((1 - spread) * (full[1] - full[0]))
            assert full[0] <= part[0] <= drawn.min()
            assert drawn.max() <= part[1] <= full[1] + 1e-12


def test_parts_differ_between_hospitals_unless_spread_is_zero() -> None:
    def parts(spread: float) -> set[tuple[float, float]]:
        return {draw_waves(Sine(spread=spread), k, SEED).amplitudes for k in range(10)}

    assert len(parts(0.5)) == 10
    assert parts(0.0) == {AMPLITUDE}


def test_measurements_lie_on_the_sinusoid_of_the_paper(wards: list[Hospital]) -> None:
    hospital, waves = wards[4], draw_waves(Sine(), 4, SEED)
    row = 7 * 50 + 3
    expected = waves.amplitude[7] * np.sin(float(hospital.x[row, 0]) - waves.phase[7])
    assert hospital.y[row, 0] == pytest.approx(expected, abs=1e-6)


def test_true_curve_passes_through_the_records(wards: list[Hospital]) -> None:
    episode = wards[25].episode(np.random.default_rng(0))
    assert wards[25].groups is not None
    group = int(wards[25].groups[episode.support_rows[0]])
    curve = Sine().true_curve(25, SEED, group, episode.query_x[:, 0])
    assert curve.shape == (20,)
    assert curve.dtype == np.float32
    np.testing.assert_allclose(curve, episode.query_y[:, 0], atol=1e-6)


def test_noise_has_its_deviation_and_leaves_the_curve() -> None:
    """20,000 normal draws: the sample deviation is within 3 % of 0.3 but for 1 run in 10^8."""
    clean, noisy = (
        Sine(noise=k, functions=200, points=100).hospital(0, None, SEED) for k in (0, 0.3)
    )
    assert np.array_equal(clean.x, noisy.x)
    assert (noisy.y - clean.y).std() == pytest.approx(0.3, rel=0.03)


def test_episode_is_one_sinusoid_with_disjoint_records(wards: list[Hospital]) -> None:
    rng = np.random.default_rng(1)
    drawn = set()
    for _ in range(200):
        episode = wards[0].episode(rng)
        rows = np.concatenate([episode.support_rows, episode.query_rows])
        assert wards[0].groups is not None
        groups = set(wards[0].groups[rows].tolist())
        assert len(groups) == 1
        drawn |= groups
        assert len(np.unique(rows)) == 30
        assert episode.support_x.shape == episode.support_y.shape == (10, 1)
        assert episode.query_x.shape == episode.query_y.shape == (20, 1)
        assert episode.support_y.dtype == np.float32
        assert episode.classes.shape == (0,)
        assert episode.classes.dtype == np.int64
        np.testing.assert_array_equal(wards[0].y[episode.query_rows], episode.query_y)
    assert len(drawn) > 40


def test_hospitals_survive_pickling(wards: list[Hospital]) -> None:
    copy = pickle.loads(pickle.dumps(wards[0]))
    one, two = (h.episode(np.random.default_rng(1)) for h in (wards[0], copy))
    assert np.array_equal(one.support_x, two.support_x)


def test_a_roster_is_made_once() -> None:
    """Every request asks for it, so that a round would cost the square of the hospitals."""
    assert Sine(hospitals=50).roster() is Sine(hospitals=50).roster()
    assert len(Sine(hospitals=51, unseen=1).roster()) == 52
