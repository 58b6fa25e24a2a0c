"""Phantom hospitals: pure in their seed, strangers to each other, and neither trivial nor blank."""

import pickle
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from metaward.client.tasks import TASKS
from metaward.client.tasks.base import Hospital
from metaward.client.tasks.kinds import CLASSIFICATION
from metaward.client.tasks.phantom import (
    NAMES,
    Modality,
    Phantom,
    draw_ward,
    findings_of,
    to_input,
    visits,
)
from metaward.client.tasks.phantom_anatomy import MODALITIES, SIDE, Body, pose
from metaward.client.tasks.phantom_findings import FINDINGS, place

SEED = 7


def opened(source: Phantom, seed: int = SEED) -> list[Hospital]:
    return [source.hospital(index, None, seed) for index in range(len(source.roster()))]


@pytest.fixture(scope="module")
def wards() -> list[Hospital]:
    return opened(Phantom())


def content(hospital: Hospital) -> tuple[bytes, ...]:
    parts = (hospital.x, hospital.y, hospital.ids, hospital.patients, hospital.rows)
    return tuple(part.tobytes() for part in parts)


# ------------------------------------------------------------------------------ public side
def test_registered_with_its_public_shape() -> None:
    source = Phantom(ways=4, hospitals=3, unseen=2)
    assert TASKS["phantom"] is Phantom
    assert [(seat.name, seat.role) for seat in source.roster()] == [
        ("phantom-01", "train"),
        ("phantom-02", "train"),
        ("phantom-03", "train"),
        ("unseen-01", "unseen"),
        ("unseen-02", "unseen"),
    ]
    spec = source.spec()
    assert (spec.kind, spec.input_shape, spec.outputs) == (CLASSIFICATION, (1, 28, 28), 4)
    assert (spec.vocabulary, spec.canonical) == (11, False)


def test_option_names_every_modality_and_finding_that_is_drawn() -> None:
    assert get_args(Modality) == tuple(MODALITIES) == Phantom().modalities
    assert tuple(FINDINGS) == NAMES
    assert all(FINDINGS[name].__name__ == name for name in NAMES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modalities": ()}, r"modalities = \[\] must name at least one of ct, xray, mri"),
        ({"modalities": ("ct", "ct")}, r"modalities = \['ct', 'ct'\] .* none of them twice"),
        ({"findings": 12}, r"findings \+ novel = 12 \+ 5 is more than the 16"),
        ({"held": 2}, "ways = 3 must not be above held = 2 nor findings = 11"),
        ({"ways": 12, "held": 14}, "ways = 12 must not be above held = 14 nor findings = 11"),
        ({"novel": 2}, "novel = 2 must be 0 or at least ways = 3"),
        ({"records": 44}, r"records = 44 is below ways \* \(shots \+ queries\) = 45"),
        ({"canonical": True}, "canonical = true needs ways = findings and novel = 0"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Phantom(**options)


@pytest.mark.parametrize(
    "options", [{"scanner": -0.1}, {"skew": -1.0}, {"hospitals": 0}, {"findings": 17}]
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Phantom).validate_python(options)


# ------------------------------------------------------------------------------ one hospital
def test_same_arguments_give_the_same_bytes(wards: list[Hospital]) -> None:
    draw_ward.cache_clear()
    again = [Phantom().hospital(index, None, SEED) for index in reversed(range(18))]
    assert [content(hospital) for hospital in wards] == [content(h) for h in reversed(again)]
    assert [hospital.note for hospital in wards] == [h.note for h in reversed(again)]


def test_another_seed_gives_other_hospitals(wards: list[Hospital]) -> None:
    other = Phantom().hospital(0, None, SEED + 1)
    assert content(other) != content(wards[0])
    assert other.note["scanner"] != wards[0].note["scanner"]


def test_more_hospitals_leave_the_others_as_they_are(wards: list[Hospital]) -> None:
    wider = Phantom(hospitals=200, unseen=50)
    assert content(wider.hospital(0, None, SEED)) == content(wards[0])
    assert content(wider.hospital(200, None, SEED)) == content(wards[12])


def test_opening_one_of_200_hospitals_draws_that_one_only() -> None:
    draw_ward.cache_clear()
    Phantom(hospitals=200).hospital(150, None, SEED)
    assert draw_ward.cache_info().currsize == 1


def test_records_have_the_promised_layout(wards: list[Hospital]) -> None:
    for hospital in wards:
        assert hospital.x.shape == (300, SIDE, SIDE)
        assert hospital.x.dtype == np.uint8
        assert hospital.y.shape == hospital.ids.shape == hospital.patients.shape == (300,)
        assert hospital.y.dtype == hospital.rows.dtype == np.int64
        assert not hospital.x.flags.writeable
        assert hospital.x.std() > 20
        assert set(hospital.note) == {"modality", "scanner", "case mix"}


def test_view_maps_grey_values_to_minus_one_to_one() -> None:
    x = np.array([0, 255], dtype=np.uint8).repeat(SIDE * SIDE).reshape(2, SIDE, SIDE)
    seen = to_input(x)
    assert seen.shape == (2, 1, SIDE, SIDE)
    assert seen.dtype == np.float32
    assert (seen[0] == -1).all()
    assert (seen[1] == 1).all()


def test_hospitals_survive_pickling(wards: list[Hospital]) -> None:
    copy = pickle.loads(pickle.dumps(wards[0]))
    one, two = (h.episode(np.random.default_rng(1)) for h in (wards[0], copy))
    assert np.array_equal(one.support_x, two.support_x)


def test_patients_come_one_to_three_times(wards: list[Hospital]) -> None:
    counts = np.concatenate([np.unique(h.patients, return_counts=True)[1] for h in wards])
    assert set(counts) == {1, 2, 3}


def test_images_of_one_patient_share_their_anatomy() -> None:
    rng = np.random.default_rng(3)
    who = np.repeat(np.arange(40), 2)
    still = pose(rng, who)
    body = Body(still.x[:1].repeat(80, axis=0), still.y[:1].repeat(80, axis=0), who, rng)
    for name, modality in MODALITIES.items():
        image, _ = modality(body)
        same = np.abs(image[0::2] - image[1::2]).mean()
        other = np.abs(image[0:-2:2] - image[2::2]).mean()
        assert same < (0.7 if name == "ultrasound" else 0.01) * other, name


def test_finding_says_nothing_about_the_patient() -> None:
    source = Phantom(records=20_000, skew=0)
    rng = np.random.default_rng(0)
    y = findings_of(source, source.roster()[0], rng)
    who = visits(len(y), rng)
    follow = who[1:] == who[:-1]
    assert (y[1:] == y[:-1])[follow].mean() == pytest.approx(1 / 6, abs=0.015)


# ------------------------------------------------------------------------------ episodes
@settings(max_examples=25, deadline=None)
@given(
    ways=st.integers(2, 5),
    shots=st.integers(1, 3),
    queries=st.integers(1, 4),
    skew=st.floats(0, 100),
    novel=st.sampled_from([0, 5]),
    mixed=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_every_hospital_can_fill_a_task(seed: int, **options: Any) -> None:
    source = Phantom(records=60, hospitals=2, unseen=2, **options)
    for hospital in opened(source, seed):
        episode = hospital.episode(np.random.default_rng(seed))
        n_support, n_query = source.ways * source.shots, source.ways * source.queries
        assert episode.support_x.shape == (n_support, 1, 28, 28)
        assert episode.query_x.shape == (n_query, 1, 28, 28)
        rows = np.concatenate([episode.support_rows, episode.query_rows])
        assert len(np.unique(rows)) == n_support + n_query
        labels = np.concatenate([episode.support_y, episode.query_y])
        assert np.array_equal(episode.classes[labels], hospital.y[rows])
        novel = source.novel > 0 and hospital.seat.role == "unseen"
        assert ((episode.classes >= source.findings) == novel).all()


def test_canonical_tasks_number_findings_alike() -> None:
    source = Phantom(ways=4, findings=4, novel=0, canonical=True)
    for hospital in opened(source):
        episode = hospital.episode(np.random.default_rng(0))
        assert episode.classes.tolist() == [0, 1, 2, 3]


# ------------------------------------------------------------------------------ the federation
def test_no_record_stands_twice(wards: list[Hospital]) -> None:
    ids = np.concatenate([hospital.ids for hospital in wards])
    images = {image.tobytes() for hospital in wards for image in hospital.x}
    assert len(np.unique(ids)) == len(images) == 18 * 300
    owners = [set(hospital.patients) for hospital in wards]
    assert sum(map(len, owners)) == len(set.union(*owners))


def test_novel_findings_stand_in_unseen_hospitals_only(wards: list[Hospital]) -> None:
    train = np.concatenate([hospital.y for hospital in wards[:12]])
    unseen = np.concatenate([hospital.y for hospital in wards[12:]])
    assert set(train) == set(range(11))
    assert set(unseen) == set(range(11, 16))


def test_without_novel_findings_unseen_hospitals_hold_the_known_ones() -> None:
    unseen = np.concatenate([h.y for h in opened(Phantom(novel=0))[12:]])
    assert unseen.max() < 11


def test_findings_of_and_scanner_differ(wards: list[Hospital]) -> None:
    assert len({hospital.note["case mix"] for hospital in wards}) == len(wards)
    assert len({hospital.note["scanner"] for hospital in wards}) == len(wards)


def test_skew_makes_the_findings_of_uneven() -> None:
    def largest(skew: float) -> float:
        source = Phantom(skew=skew, records=2000)
        seats = source.roster()[:12]
        mixes = [
            findings_of(source, seat, np.random.default_rng(k)) for k, seat in enumerate(seats)
        ]
        return float(np.mean([np.unique(y, return_counts=True)[1].max() / 2000 for y in mixes]))

    assert largest(0) < 0.21 < 0.25 < largest(0.5) < largest(5)
    assert largest(100) > 0.9


def test_scanner_strength_zero_means_one_scanner_for_all() -> None:
    assert len({h.note["scanner"] for h in opened(Phantom(scanner=0))}) == 1


def test_scanner_changes_the_image_and_not_the_patient() -> None:
    plain, shifted = (Phantom(scanner=k).hospital(0, None, SEED) for k in (0.0, 1.0))
    assert np.array_equal(plain.y, shifted.y)
    assert (plain.x != shifted.x).mean() > 0.5
    alike = [
        np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(plain.x, shifted.x, strict=True)
    ]
    assert min(alike) > 0.7


def test_modalities_are_dealt_in_turn(wards: list[Hospital]) -> None:
    dealt = [hospital.note["modality"] for hospital in wards]
    assert dealt[:5] == ["ct", "xray", "mri", "ultrasound", "ct"]
    assert dealt[12:] == ["ct", "xray", "mri", "ultrasound", "ct", "xray"]


def test_mixed_hospitals_keep_a_patient_in_one_modality() -> None:
    ward = draw_ward(Phantom(mixed=True), 0, SEED)
    assert set(ward.modality) == set(MODALITIES)
    pairs = set(zip(ward.patients, ward.modality, strict=True))
    assert len(pairs) == len(np.unique(ward.patients))


# ------------------------------------------------------------------------------ the pictures
@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("finding", FINDINGS)
def test_every_finding_shows_in_every_modality(modality: str, finding: str) -> None:
    rng = np.random.default_rng(5)
    body = pose(rng, np.arange(200))
    image, organ = MODALITIES[modality](body)
    assert image.shape == (200, SIDE, SIDE)
    change = FINDINGS[finding](place(body, organ, slice(None)))
    assert np.isfinite(change).all()
    assert np.abs(change).max() < 2.5
    touched = (np.abs(change) > 0.3).sum(axis=(1, 2))
    assert np.quantile(touched, 0.05) >= 4
    assert np.quantile(touched, 0.95) < 0.35 * SIDE * SIDE


def test_raw_pixels_say_something_but_not_much(wards: list[Hospital]) -> None:
    """Nearest centroid, 3-way 5-shot on unseen hospitals: above chance (1/3), far from solved."""
    rng = np.random.default_rng(0)
    scores = [centroid_accuracy(wards[12 + k % 6], rng) for k in range(300)]
    assert 0.45 < np.mean(scores) < 0.65


def centroid_accuracy(hospital: Hospital, rng: np.random.Generator) -> float:
    episode = hospital.episode(rng)
    centres = episode.support_x.reshape(3, 5, -1).mean(axis=1)
    queries = episode.query_x.reshape(len(episode.query_y), -1)
    distance = np.linalg.norm(queries[:, None] - centres[None], axis=2)
    return float((distance.argmin(axis=1) == episode.query_y).mean())
