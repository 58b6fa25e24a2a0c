"""Heart disease: FLamby's rows, public scaling, and every way a file can be wrong."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from metaward.client.errors import DataError
from metaward.client.tasks.heart import FEATURES, SITES, Heart, encode

DATA = os.environ.get("METAWARD_DATA")
real = pytest.mark.skipif(not DATA, reason="METAWARD_DATA is not set: no heart disease files")
HEALTHY = {"cleveland": 164, "hungarian": 163, "switzerland": 1, "va": 29}  # complete patients
Lines = list[list[str]]


def made_up(site: str) -> Lines:
    """As many patients as published, as many of them complete, and as many of those healthy."""
    rng = np.random.default_rng(list(SITES).index(site))
    lines = []
    for i in range(SITES[site].published):
        sick = i >= HEALTHY[site]
        line = [
            f"{rng.integers(30, 75)}.0",
            str(i % 2),
            str(1 + i % 4),
            str(rng.integers(90, 180)),
            str(rng.integers(120, 400)),
            "0",
            str(i % 3),
            str(rng.integers(80, 190)),
            "1",
            f"{rng.integers(-20, 40) / 10}",
            "?",
            "?",
            "?",
            str(1 + i % 4) if sick else "0",
        ]
        if i >= SITES[site].complete:
            line[3 + i % 5] = "?"
        lines.append(line)
    return lines


def write(root: Path, site: str, lines: Lines) -> Path:
    (root / "heart").mkdir(exist_ok=True)
    text = "\n".join(",".join(line) for line in lines) + "\n"
    (root / "heart" / f"processed.{site}.data").write_text(text)
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("data")
    for site in SITES:
        write(where, site, made_up(site))
    return where


FOUR = Heart(left_out=(), episodes="natural")


def test_roster_follows_the_options() -> None:
    assert [(s.name, s.role) for s in Heart().roster()] == [
        ("cleveland", "train"),
        ("hungarian", "train"),
        ("va", "unseen"),
    ]
    assert [s.name for s in Heart(unseen=("cleveland", "va")).roster()] == [
        "hungarian",
        "cleveland",
        "va",
    ]
    assert len(FOUR.roster()) == 4
    spec = Heart().spec()
    assert (spec.input_shape, spec.outputs, spec.vocabulary) == ((FEATURES,), 2, 2)
    assert spec.canonical


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unseen": ("va", "va")}, "unseen = .*named once"),
        ({"unseen": ("switzerland",)}, "named once"),
        ({"unseen": ("mars",)}, r"\['mars'\].*cleveland"),
        ({"unseen": ("va", "cleveland", "hungarian")}, "one must remain"),
        ({"left_out": ()}, "switzerland has one healthy patient.*episodes: natural"),
        ({"episodes": "natural", "canonical": False}, "canonical"),
    ],
)
def test_contradicting_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Heart(**options)


def test_encode_by_hand() -> None:
    kept = np.array(
        [
            [60, 1, 1, 140, 240, 1, 0, 170, 1, 2.5, 3],
            [50, 0, 4, 0, 0, 0, 2, 120, 0, -1.0, 0],  # pressure and cholesterol not measured
        ]
    )
    expected = [
        [1, 1, 1, 1, 1, 1, 1, 2.5, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, -1, 0, -1, 0, 0, 1, 0, 1],
    ]
    np.testing.assert_allclose(encode(kept), expected)
    assert encode(kept).dtype == np.float32


def test_features_of_a_patient_do_not_depend_on_other_patients(root: Path, tmp_path: Path) -> None:
    lines = made_up("cleveland")
    lines[1:] = [[*line[:3], "199", *line[4:]] for line in lines[1:]]
    write(tmp_path, "cleveland", lines)
    before, after = (Heart().hospital(0, where, 0).x for where in (root, tmp_path))
    np.testing.assert_array_equal(before[0], after[0])
    assert (before[1:] != after[1:]).any()


def test_rows_kept_and_disjoint(root: Path) -> None:
    hospitals = [FOUR.hospital(i, root, seed=0) for i in range(4)]
    assert [len(h.rows) for h in hospitals] == [303, 261, 46, 130]
    ids = np.concatenate([h.ids[h.rows] for h in hospitals])
    assert len(set(ids.tolist())) == len(ids) == 740
    assert [int((h.y == 0).sum()) for h in hospitals] == list(HEALTHY.values())
    assert not hospitals[0].x.flags.writeable


def test_balanced_episode(root: Path) -> None:
    hospital = Heart().hospital(2, root, seed=0)
    episode = hospital.episode(np.random.default_rng(0))
    assert hospital.seat.name == "va"
    assert episode.support_x.shape == (10, FEATURES)
    assert episode.query_x.shape == (20, FEATURES)
    np.testing.assert_array_equal(episode.query_y, hospital.y[episode.query_rows])
    assert np.bincount(episode.support_y).tolist() == [5, 5]
    assert not set(episode.support_rows.tolist()) & set(episode.query_rows.tolist())
    episode.support_x[:] = 0  # a copy: the hospital's records stay as they are
    assert hospital.x[episode.support_rows].any()


def test_natural_episodes_follow_the_case_mix(root: Path) -> None:
    hospital, rng = FOUR.hospital(1, root, seed=0), np.random.default_rng(0)
    assert hospital.seat.name == "hungarian"
    share = []
    for _ in range(400):
        episode = hospital.episode(rng)
        assert len(episode.support_y) == 10
        assert len(episode.query_y) == 20
        assert set(episode.support_y.tolist()) == {0, 1}
        rows = np.concatenate([episode.support_rows, episode.query_rows])
        assert len(set(rows.tolist())) == 30
        np.testing.assert_array_equal(episode.query_y, hospital.y[episode.query_rows])
        share.append(episode.query_y.mean())
    # 98 of 261 are ill; 400 x 20 draws: standard error of the mean 0.0054, four of them allowed
    assert abs(np.mean(share) - 98 / 261) < 0.022


def test_switzerland_takes_part_in_natural_episodes(root: Path) -> None:
    hospital = FOUR.hospital(2, root, seed=0)
    assert hospital.seat.name == "switzerland"
    episode = hospital.episode(np.random.default_rng(1))
    assert episode.support_y.sum() == 9
    assert episode.query_y.all()
    assert hospital.note == {"patients": "1 healthy, 45 diseased"}


def test_too_large_tasks_name_hospital_and_way_out(root: Path) -> None:
    with pytest.raises(DataError, match=r"hospital va: 1 classes.*= 35.*lower"):
        Heart(queries=30).hospital(2, root, seed=0)
    wide = Heart(left_out=(), episodes="natural", queries=19)
    with pytest.raises(DataError, match=r"hospital switzerland: 46 patients.*= 48; lower"):
        wide.hospital(2, root, seed=0)


def put(row: int, column: int, value: str) -> Callable[[Lines], Lines]:
    def change(lines: Lines) -> Lines:
        lines[row][column] = value
        return lines

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda lines: lines[:-1], "302 patients, published are 303"),
        (put(3, 0, "?"), "302 patients have no missing value, published are 303"),
        (put(3, 0, "nan"), "302 patients have no missing value"),
        (put(3, 13, "5"), "column num holds values outside 0 to 4"),
        (put(3, 13, "0.5"), "column num"),
        (put(3, 2, "0"), "column cp holds values outside 1 to 4"),
        (put(3, 6, "3"), "column restecg"),
        (put(3, 4, "inf"), "column chol"),
        (put(3, 7, "x"), "cannot be read"),
        (put(3, 7, "é"), "cannot be read"),
        (lambda lines: [line[:-1] for line in lines], r"shape \(303, 13\)"),
        (lambda lines: [*lines[:5], lines[5][:7], *lines[6:]], "cannot be read"),
        (lambda lines: [], "shape"),
    ],
)
def test_damaged_files_are_refused(
    tmp_path: Path, damage: Callable[[Lines], Lines], message: str
) -> None:
    write(tmp_path, "cleveland", damage(made_up("cleveland")))
    with pytest.raises(DataError, match=rf"processed.cleveland.data is damaged: .*{message}.*uci"):
        Heart().hospital(0, tmp_path, seed=0)


def test_each_hospital_reads_its_own_file_only(tmp_path: Path) -> None:
    write(tmp_path, "va", made_up("va"))
    assert len(Heart().hospital(2, tmp_path, seed=0).rows) == 130
    with pytest.raises(DataError, match=r"processed.cleveland.data does not exist"):
        Heart().hospital(0, tmp_path, seed=0)
    with pytest.raises(DataError, match=r"processed.cleveland.data is needed.*METAWARD_DATA"):
        Heart().hospital(0, None, seed=0)


@real
def test_real_rows_are_those_of_flamby() -> None:
    hospitals = [FOUR.hospital(i, Path(str(DATA)), seed=0) for i in range(4)]
    assert [(h.seat.name, len(h.rows)) for h in hospitals] == [
        ("cleveland", 303),
        ("hungarian", 261),
        ("switzerland", 46),
        ("va", 130),
    ]
    assert [int((h.y == 0).sum()) for h in hospitals] == [164, 163, 1, 29]
    assert all(np.isfinite(h.x).all() for h in hospitals)
    # first patient of Cleveland: 63, male, typical angina, 145 mmHg, 233 mg/dl, ...
    first = [1.3, 1, 1.25, 0.825, 1, 0.2, 0, 2.3, 0, 0, 0, 0, 1]
    np.testing.assert_allclose(hospitals[0].x[0], first, atol=1e-6)


@real
@pytest.mark.parametrize("episodes", ["balanced", "natural"])
def test_real_hospitals_fill_the_default_task(episodes: Literal["balanced", "natural"]) -> None:
    source = Heart(episodes=episodes)
    for i, seat in enumerate(source.roster()):
        episode = source.hospital(i, Path(str(DATA)), 0).episode(np.random.default_rng(0))
        assert episode.query_x.shape == (20, FEATURES), seat
