"""Omniglot: both splits, turned classes, and every way the file can be wrong."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metaward.client.errors import DataError
from metaward.client.tasks.base import Hospital
from metaward.client.tasks.omniglot import ALPHABET_OF, ALPHABETS, CHARACTERS, Omniglot, render

DATA = os.environ.get("METAWARD_DATA")
real = pytest.mark.skipif(not DATA, reason="METAWARD_DATA is not set: no Omniglot drawings")
Arrays = dict[str, np.ndarray[Any, Any]]


def names() -> list[str]:
    return [f"{a}/character{k + 1:02d}" for a, n in ALPHABETS.items() for k in range(n)]


def made_up() -> Arrays:
    """White paper; pixels (0, 0..2) hold the drawing's number, so that each can be told apart."""
    images = np.full((CHARACTERS, 20, 28, 28), 255, np.uint8)
    number = np.arange(CHARACTERS * 20).reshape(CHARACTERS, 20)
    for digit in range(3):
        images[:, :, 0, digit] = number // 64**digit % 64
    evaluation = (ALPHABET_OF >= 30).astype(np.uint8)
    return {"images": images, "names": np.array(names()), "is_evaluation": evaluation}


def number_of(pictures: np.ndarray[Any, Any], turn: int = 0) -> list[int]:
    """The drawing's number in the corner of upright pictures (k, 1, 28, 28), read back."""
    upright = np.rot90(pictures, -turn, axes=(2, 3))
    digits = np.round(255 * (1 - upright[:, 0, 0, :3])).astype(int)
    return (digits @ [1, 64, 64**2]).tolist()  # type: ignore[no-any-return]


def write(root: Path, arrays: Arrays) -> Path:
    (root / "omniglot").mkdir(exist_ok=True)
    np.savez(root / "omniglot" / "omniglot28.npz", **arrays)
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("data"), made_up())


def opened(source: Omniglot, root: Path) -> list[Hospital]:
    return [source.hospital(i, root, seed=0) for i in range(len(source.roster()))]


def test_published_sizes() -> None:
    assert len(ALPHABETS) == 50
    assert CHARACTERS == 1623
    assert sum(list(ALPHABETS.values())[:30]) == 964


def test_alphabets_split_is_the_authors_one() -> None:
    source = Omniglot()
    roster = source.roster()
    assert [s.name for s in roster] == list(ALPHABETS)
    assert [s.role for s in roster] == ["train"] * 30 + ["unseen"] * 20
    assert source.spec().vocabulary == 964
    assert Omniglot(rotations=True).spec().vocabulary == 4 * 964
    few = Omniglot(hospitals=3, unseen=2)
    assert [s.name for s in few.roster()] == [
        "Alphabet_of_the_Magi",
        "Anglo-Saxon_Futhorc",
        "Arcadian",
        "Angelic",
        "Atemayar_Qelisayer",
    ]
    assert few.spec().vocabulary == 20 + 29 + 26


@pytest.mark.parametrize("rotations", [False, True])
def test_published_split_holds_out_423_characters(root: Path, rotations: bool) -> None:
    source = Omniglot(split="published", rotations=rotations)
    roster = source.roster()
    assert [s.name for s in roster] == [*ALPHABETS, "held-out"]
    assert [s.role for s in roster] == ["train"] * 50 + ["unseen"]
    turns = 4 if rotations else 1
    assert source.spec().vocabulary == 1200 * turns
    hospitals = opened(source, root)
    train = {c for h in hospitals[:-1] for c in h.by_class}
    assert train == set(range(1200 * turns))
    assert set(hospitals[-1].by_class) == set(range(1200 * turns, 1200 * turns + 423))
    drawn_from = ALPHABET_OF[np.unique(hospitals[-1].ids[hospitals[-1].rows]) // 20]
    assert len(set(drawn_from.tolist())) > 40


def test_deal_shuffles_the_published_split_only(root: Path) -> None:
    def held_out(deal: int, seed: int) -> list[int]:
        hospital = Omniglot(split="published", deal=deal).hospital(50, root, seed)
        return np.unique(hospital.ids[hospital.rows] // 20).tolist()  # type: ignore[no-any-return]

    assert held_out(0, 0) == held_out(0, 1) != held_out(1, 0)
    assert Omniglot(deal=0).spec() == Omniglot(deal=1).spec()


@pytest.mark.parametrize("rotations", [False, True])
@pytest.mark.parametrize("split", ["alphabets", "published"])
def test_no_drawing_stands_in_two_hospitals(root: Path, split: Any, rotations: bool) -> None:
    hospitals = opened(Omniglot(split=split, rotations=rotations), root)
    owned = [set(h.ids[h.rows].tolist()) for h in hospitals]
    assert sum(map(len, owned)) == len(set().union(*owned)) == 1623 * 20
    for hospital, ids in zip(hospitals, owned, strict=True):
        copies = 4 if rotations and hospital.seat.role == "train" else 1
        assert len(hospital.rows) == copies * len(ids)
    assert all(h.x is hospitals[0].x for h in hospitals)


def test_people_are_disjoint_by_alphabet_but_not_in_the_published_split(root: Path) -> None:
    people = [set(h.patients[h.rows].tolist()) for h in opened(Omniglot(), root)]
    assert all(len(p) == 20 for p in people)
    assert len(set().union(*people)) == 1000
    shuffled = [set(h.patients[h.rows].tolist()) for h in opened(Omniglot(split="published"), root)]
    assert shuffled[-1] & set().union(*shuffled[:-1])


def test_an_episode_shows_the_drawings_it_names(root: Path) -> None:
    hospital = Omniglot(ways=14, shots=5, queries=15).hospital(30, root, seed=0)
    episode = hospital.episode(np.random.default_rng(0))
    assert episode.support_x.shape == (70, 1, 28, 28)
    assert episode.query_x.shape == (210, 1, 28, 28)
    assert episode.support_x.dtype == np.float32
    seen = number_of(np.concatenate([episode.support_x, episode.query_x]))
    rows = np.concatenate([episode.support_rows, episode.query_rows])
    assert seen == hospital.ids[rows].tolist()
    assert len(set(seen)) == 280
    labels = np.concatenate([episode.support_y, episode.query_y])
    # class index 964 is Angelic's first character, which is character 964 of the file
    assert episode.classes[labels].tolist() == (np.array(seen) // 20).tolist()


def test_turned_classes_show_turned_drawings_of_one_character(root: Path) -> None:
    hospital = Omniglot(rotations=True).hospital(2, root, seed=0)
    first = 20 + 29  # class of Arcadian's first character
    for turn in range(4):
        rows = hospital.by_class[first + turn * 964]
        pictures = hospital.view(hospital.x[rows])
        drawings = [first * 20 + k for k in range(20)]
        assert number_of(pictures, turn) == drawings
        assert hospital.ids[rows].tolist() == drawings
    unseen = Omniglot(rotations=True).hospital(30, root, seed=0)
    assert len(unseen.by_class) == 20
    assert (unseen.x[unseen.rows] % 4 == 0).all()


def test_render_by_hand() -> None:
    image = np.full((1, 28, 28), 255, np.uint8)
    image[0, 0, 27] = 0  # ink at the top right
    pictures = render(image, np.array([0, 1, 2, 3]))
    for picture, corner in zip(pictures, [(0, 27), (0, 0), (27, 0), (27, 27)], strict=True):
        assert picture[0][corner] == 1
        assert picture.sum() == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shots": 10, "queries": 11}, "shots .* queries = 21.*20 drawings"),
        ({"hospitals": 31}, "hospitals = 31.*1 to 30"),
        ({"split": "published", "unseen": 2}, "unseen = 2.*one unseen"),
        ({"ways": 20}, "ways = 20: too few characters in Blackfoot.*, Inuktitut.*1 more"),
        ({"ways": 21, "rotations": True}, "ways = 21: too few characters in Angelic"),
        ({"ways": 20, "split": "published"}, "ways = 20: too few.*rotations: true"),
    ],
)
def test_contradicting_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Omniglot(**options)


@pytest.mark.parametrize("split", ["alphabets", "published"])
def test_twenty_ways_need_rotations(split: Any, root: Path) -> None:
    for hospital in opened(Omniglot(ways=20, rotations=True, split=split), root):
        assert hospital.episode(np.random.default_rng(0)).support_x.shape[0] == 20


def swap(array: Any) -> Any:
    array = array.copy()
    array[[19, 20]] = array[[20, 19]]
    return array


def repeat(array: Any) -> Any:
    array = array.copy()
    array[1] = array[0]
    return array


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("images", lambda x: x[:-1], r"'images' is \(1622"),
        ("images", lambda x: x[:, :19], "'images' is"),
        ("images", lambda x: x[..., :8, :8].astype(np.float32), "'images' is .*float32"),
        ("images", lambda x: 255 - x, "inverted"),
        ("names", swap, "character 19 is of Anglo-Saxon_Futhorc, but Alphabet_of_the_Magi"),
        ("names", repeat, "twice"),
        ("is_evaluation", lambda x: 1 - x, "is_evaluation"),
    ],
)
def test_damaged_files_are_refused(
    tmp_path: Path, key: str, change: Callable[[Any], Any], message: str
) -> None:
    arrays = made_up()
    write(tmp_path, {**arrays, key: change(arrays[key])})
    with pytest.raises(DataError, match=rf"omniglot28.npz is damaged: .*{message}.*brendenlake"):
        Omniglot().hospital(0, tmp_path, seed=0)


def test_truncated_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"omniglot28.npz does not exist.*brendenlake"):
        Omniglot().hospital(0, tmp_path, seed=0)
    path = write(tmp_path, made_up()) / "omniglot" / "omniglot28.npz"
    path.write_bytes(path.read_bytes()[:5_000_000])
    with pytest.raises(DataError, match="cannot be read"):
        Omniglot().hospital(0, tmp_path, seed=0)


@real
@pytest.mark.parametrize("split", ["alphabets", "published"])
def test_real_hospitals_fill_the_published_tasks(split: Any) -> None:
    source = Omniglot(split=split, ways=20, shots=5, queries=15, rotations=True)
    for hospital in opened(source, Path(str(DATA))):
        episode = hospital.episode(np.random.default_rng(0))
        assert episode.query_x.shape == (300, 1, 28, 28)
        assert 0 <= episode.query_x.min() < episode.query_x.max() <= 1
        assert episode.query_x.mean() < 0.3  # thin ink on background 0


@real
def test_real_nearest_centroid_reaches_its_known_floor() -> None:
    """5-way 1-shot on raw pixels over the published split: about 43 % (chance 20 %)."""
    hospital = Omniglot(split="published").hospital(50, Path(str(DATA)), seed=0)
    rng, right = np.random.default_rng(0), []
    for _ in range(200):
        episode = hospital.episode(rng)
        far = ((episode.query_x[:, None] - episode.support_x[None]) ** 2).sum(axis=(2, 3, 4))
        right.append((far.argmin(axis=1) == episode.query_y).mean())
    assert abs(np.mean(right) - 0.435) < 0.04
