"""Hospitals that are set aside for validation, at every source that has them.

They hold records of nobody else and no novel class, and leave all other hospitals as they are.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metaward.client.tasks.base import Hospital, Seat
from metaward.client.tasks.ecg import Ecg
from metaward.client.tasks.heart import Heart
from metaward.client.tasks.medmnist import MedMnist
from metaward.client.tasks.omniglot import ALPHABETS, Omniglot
from metaward.client.tasks.phantom import Phantom
from metaward.client.tasks.phantom_files import pooled
from metaward.client.tasks.roster import place_of, seats
from metaward.client.tasks.sine import Sine
from tests.client.tasks import test_ecg, test_heart, test_medmnist, test_omniglot

DATA = os.environ.get("METAWARD_DATA")
real = pytest.mark.skipif(not DATA, reason="METAWARD_DATA is not set: no real data")
SEED = 5
COUNTS = {"train": 240, "val": 120, "test": 96}

ADDED = {
    "phantom": (Phantom(hospitals=3, unseen=2, records=60), 2),
    "sine": (Sine(hospitals=3, unseen=2), 2),
    "medmnist": (MedMnist(hospitals=3, unseen=2, shots=2, queries=3), 2),
}
"""Sources that make further hospitals for validation."""
SET_ASIDE = {
    "ecg": (Ecg(), 2),
    "omniglot": (Omniglot(hospitals=6, unseen=2), 2),
    "published": (Omniglot(split="published", rotations=True), 3),
    "heart": (Heart(), ("hungarian",)),
}
"""Sources whose data are fixed: some of the hospitals that trained are set aside."""
EVERY = ADDED | SET_ASIDE


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with made-up files of every source."""
    where = tmp_path_factory.mktemp("data")
    test_ecg.write(where, test_ecg.made_up())
    test_omniglot.write(where, test_omniglot.made_up())
    for site in test_heart.SITES:
        test_heart.write(where, site, test_heart.made_up(site))
    return where


@pytest.fixture
def opened(root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[Hospital]]:
    monkeypatch.setattr(test_medmnist, "COUNTS", COUNTS)
    files = test_medmnist.Folder(root, monkeypatch)
    for flag in ("breastmnist", "pneumoniamnist"):
        files.write(flag, test_medmnist.made_up(flag))

    def open_all(source: Any) -> list[Hospital]:
        return [source.hospital(i, root, SEED) for i in range(len(source.roster()))]

    return open_all


def with_validation(name: str) -> tuple[Any, Any]:
    """The source without hospitals for validation and with some."""
    plain, some = EVERY[name]
    return plain, replace(plain, validation=some)  # type: ignore[type-var]


def content(hospital: Hospital) -> list[bytes]:
    return [hospital.as_stored(row).tobytes() for row in hospital.rows.tolist()]


def owned(hospital: Hospital) -> set[Any]:
    return set(hospital.ids[hospital.rows].tolist())


@pytest.mark.parametrize("name", EVERY)
def test_by_default_nobody_is_set_aside(name: str) -> None:
    plain, some = with_validation(name)
    assert {seat.role for seat in plain.roster()} == {"train", "unseen"}
    assert {seat.role for seat in some.roster()} == {"train", "unseen", "validation"}
    assert [seat.judges for seat in some.roster()] == [s.role != "train" for s in some.roster()]


@pytest.mark.parametrize("name", EVERY)
def test_all_that_train_or_stay_unseen_hold_what_they_held(name: str, opened: Any) -> None:
    before = {hospital.seat: hospital for hospital in opened(with_validation(name)[0])}
    after = [h for h in opened(with_validation(name)[1]) if h.seat.role != "validation"]
    for hospital in after:
        same = before[hospital.seat]
        assert content(hospital) == content(same)
        assert owned(hospital) == owned(same)
    if name in ADDED:
        assert [h.seat for h in after] == list(before), "every partition id is as it was"
        for hospital in after:
            same = before[hospital.seat]
            assert hospital.y[hospital.rows].tolist() == same.y[same.rows].tolist()
            one, other = (h.episode(np.random.default_rng(1)) for h in (hospital, same))
            assert one.query_x.tobytes() == other.query_x.tobytes()


@pytest.mark.parametrize("name", EVERY)
def test_they_share_no_record_and_no_patient_with_anybody(name: str, opened: Any) -> None:
    hospitals = opened(with_validation(name)[1])
    aside = [h for h in hospitals if h.seat.role == "validation"]
    for one in aside:
        for other in hospitals:
            if one is not other:
                assert not owned(one) & owned(other)
                assert not set(content(one)) & set(content(other))
                patients = [set(h.patients[h.rows].tolist()) for h in (one, other)]
                # the published split of Omniglot has the same people on all sides
                assert not patients[0] & patients[1] or other.seat.name == "held-out"


@pytest.mark.parametrize("name", EVERY)
def test_they_judge_by_tasks_of_the_size_of_the_unseen_ones(name: str, opened: Any) -> None:
    _, source = with_validation(name)
    if hasattr(source, "train_shots"):
        source = replace(source, train_shots=1, train_queries=2)
    sizes = {}
    for hospital in opened(source):
        task = hospital.episode(np.random.default_rng(0))
        sizes.setdefault(hospital.seat.role, set()).add((len(task.support_y), len(task.query_y)))
    assert sizes["validation"] == sizes["unseen"]
    assert len(sizes["unseen"]) == 1


@pytest.mark.parametrize("name", ["phantom", "medmnist"])
def test_they_hold_no_class_that_is_novel_at_the_unseen_ones(name: str, opened: Any) -> None:
    _, source = with_validation(name)
    if name == "medmnist":
        source = replace(source, datasets=("breastmnist",), unseen_datasets=("pneumoniamnist",))
    known = source.spec().vocabulary
    for hospital in opened(source):
        novel = [label >= known for label in hospital.by_class]
        assert set(novel) == {hospital.seat.role == "unseen"}


def test_characters_set_aside_are_neither_in_the_vocabulary_nor_rotated(opened: Any) -> None:
    plain, source = with_validation("published")
    aside = [h for h in opened(source) if h.seat.role == "validation"]
    assert [h.seat.name for h in aside] == list(ALPHABETS)[-3:]
    lost = sum(len(h.by_class) for h in aside)
    assert source.spec().vocabulary == plain.spec().vocabulary - 4 * lost
    assert min(label for h in aside for label in h.by_class) >= source.spec().vocabulary
    train = {label for h in opened(source) if h.seat.role == "train" for label in h.by_class}
    assert train == set(range(source.spec().vocabulary))


def test_medmnist_takes_them_from_the_official_val_split(opened: Any) -> None:
    _, source = with_validation("medmnist")
    aside = [h for h in opened(source) if h.seat.role == "validation"]
    assert [h.seat.name for h in aside] == [
        "breastmnist-validation-01",
        "pneumoniamnist-validation-01",
    ]
    for hospital in aside:
        flag = hospital.seat.name.split("-")[0]
        assert owned(hospital) == {f"{flag}/val/{row:06d}" for row in range(COUNTS["val"])}


@real
@pytest.mark.parametrize(("flag", "val"), [("breastmnist", 78), ("pneumoniamnist", 516)])
def test_real_copies_are_left_out_of_val(flag: str, val: int) -> None:
    """8 pneumonia images of val stand in train, too."""
    source = MedMnist(datasets=(flag,), hospitals=2, unseen=1, validation=1)
    hospitals = [source.hospital(i, Path(str(DATA)), 0) for i in range(4)]
    assert len(hospitals[3].rows) == val
    contents = [x.tobytes() for h in hospitals for x in h.x[h.rows]]
    assert len(set(contents)) == len(contents)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ecg(validation=6), "validation = 6: of 6 training hospitals at least one"),
        (lambda: Omniglot(validation=30), "validation = 30: of 30 training hospitals"),
        (lambda: Omniglot(hospitals=2, validation=2), "validation = 2: of 2 training hospitals"),
        (lambda: Heart(validation=("va",)), "each of cleveland, .* may be named once"),
        (lambda: Heart(validation=("cleveland", "hungarian")), "one must remain to meta-train"),
    ],
)
def test_one_hospital_must_be_left_to_train(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_seats_and_places_agree() -> None:
    roster = seats("a", 3, 2, 1)
    assert roster[-1] == Seat("validation-01", "validation")
    assert [seat.name for seat in roster[:4]] == ["a-01", "a-02", "a-03", "unseen-01"]
    for index, seat in enumerate(roster):
        role, number = place_of(index, 3, 2, 1)
        assert (role, f"{number + 1:02d}") == (seat.role, seat.name[-2:])
    with pytest.raises(IndexError):
        place_of(6, 3, 2, 1)


def test_phantom_files_keep_them_in_val() -> None:
    source, _ = with_validation("phantom")
    plain = replace(source, modalities=("ct",))  # type: ignore[type-var]
    more = replace(plain, validation=2)
    one, other = pooled(plain, "ct", SEED), pooled(more, "ct", SEED)
    assert len(other["val_images"]) == len(one["val_images"]) + 2 * 60
    for name in ("train_images", "test_images"):
        assert other[name].tobytes() == one[name].tobytes()
