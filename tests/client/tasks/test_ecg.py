"""Heartbeats: the split by patients, the tasks, and every way the file can be wrong."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metaward.client.errors import DataError
from metaward.client.tasks.base import Hospital
from metaward.client.tasks.ecg import DS1, DS2, GROUP_OF, GROUPS, Ecg, standardise

DATA = os.environ.get("METAWARD_DATA")
real = pytest.mark.skipif(not DATA, reason="METAWARD_DATA is not set: no MIT-BIH beats to read")
Arrays = dict[str, np.ndarray[Any, Any]]


def made_up() -> Arrays:
    """48 records of 66 beats, 16 each of N, A, V and R and a few j and /, in the file's layout."""
    kinds = np.array([*"NAVR"] * 16 + ["j", "/"])
    record = np.repeat(sorted({*DS1, *DS2, 102, 104, 107, 217, 202}), len(kinds))
    symbol = np.tile(kinds, len(record) // len(kinds))
    x = np.random.default_rng(0).integers(-1024, 1024, (len(record), 128))
    aami = np.array([GROUP_OF[kind] for kind in symbol])
    return {
        "x": x.astype(np.int16),
        "symbol": symbol,
        "aami": aami,
        "record": record.astype(np.int16),
    }


def write(root: Path, arrays: Arrays) -> Path:
    (root / "ecg").mkdir(exist_ok=True)
    np.savez(root / "ecg" / "mitbih_beats.npz", **arrays)
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("data"), made_up())


def opened(source: Ecg, root: Path) -> list[Hospital]:
    return [source.hospital(i, root, seed=0) for i in range(len(source.roster()))]


def test_lists_are_those_of_de_chazal_without_the_second_record_of_a_patient() -> None:
    assert len(DS1) == len(set(DS1)) == 22
    assert len(DS2) == len(set(DS2)) == 21
    assert not set(DS1) & set(DS2)
    assert not {102, 104, 107, 217, 202} & {*DS1, *DS2}  # paced, and 202 = patient of 201


@pytest.mark.parametrize("deal", [0, 1, 8])
@pytest.mark.parametrize(("hospitals", "unseen"), [(6, 6), (1, 1), (22, 21), (5, 3)])
def test_each_patient_is_dealt_once_and_on_its_own_side(
    deal: int, hospitals: int, unseen: int
) -> None:
    source = Ecg(hospitals=hospitals, unseen=unseen, deal=deal)
    groups = [source.members(i) for i, _ in enumerate(source.roster())]
    train = [r for g in groups[:hospitals] for r in g]
    held_out = [r for g in groups[hospitals:] for r in g]
    assert sorted(train) == sorted(DS1)
    assert sorted(held_out) == sorted(DS2)
    assert all(groups)
    assert [seat.role for seat in source.roster()] == ["train"] * hospitals + ["unseen"] * unseen
    assert len({seat.name for seat in source.roster()}) == hospitals + unseen


def test_deal_changes_the_groups_and_the_run_seed_does_not(root: Path) -> None:
    assert Ecg(deal=0).members(0) != Ecg(deal=1).members(0)
    one, other = (Ecg().hospital(0, root, seed=s) for s in (0, 1))
    np.testing.assert_array_equal(one.rows, other.rows)


def test_no_record_and_no_patient_stands_in_two_hospitals(root: Path) -> None:
    hospitals = opened(Ecg(), root)
    for what in ("ids", "patients"):
        owned = [set(getattr(h, what)[h.rows].tolist()) for h in hospitals]
        assert sum(map(len, owned)) == len(set().union(*owned))
    assert len(np.unique(hospitals[0].ids)) == len(hospitals[0].ids)
    assert 202 not in hospitals[0].patients


def test_hospitals_share_one_read_only_array(root: Path) -> None:
    hospitals = opened(Ecg(), root)
    assert all(h.x is hospitals[0].x and h.y is hospitals[0].y for h in hospitals)
    assert not any(a.flags.writeable for a in (hospitals[0].x, hospitals[0].y, hospitals[0].ids))


def test_an_episode_holds_what_the_file_holds(root: Path) -> None:
    source, arrays = Ecg(ways=3, shots=5, queries=10), made_up()
    hospital = source.hospital(7, root, seed=0)
    episode = hospital.episode(np.random.default_rng(3))
    assert episode.support_x.shape == (15, 1, 128)
    assert episode.query_x.shape == (30, 1, 128)
    rows = np.concatenate([episode.support_rows, episode.query_rows])
    labels = np.concatenate([episode.support_y, episode.query_y])
    assert len(set(rows.tolist())) == 45
    names = [source.names[episode.classes[label]] for label in labels]
    assert names == arrays["symbol"][rows].tolist()
    assert set(arrays["record"][rows].tolist()) <= set(source.members(7))
    x = arrays["x"][rows].astype(np.float64)
    expected = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    seen = np.concatenate([episode.support_x, episode.query_x])[:, 0]
    np.testing.assert_allclose(seen, expected, rtol=1e-4, atol=1e-5)


def test_a_flat_beat_becomes_zero_and_units_do_not_matter() -> None:
    flat = standardise(np.full((2, 128), 7, np.int16))
    np.testing.assert_array_equal(flat, np.zeros((2, 1, 128), np.float32))
    beats = np.random.default_rng(0).integers(-500, 500, (3, 128)).astype(np.int16)
    np.testing.assert_allclose(standardise(beats), standardise(2 * beats + 7), atol=1e-5)
    assert standardise(beats).dtype == np.float32


def test_spec_and_roster_need_no_file() -> None:
    spec = Ecg(ways=4).spec()
    assert (spec.input_shape, spec.outputs, spec.vocabulary) == ((1, 128), 4, 15)
    assert Ecg(labels="aami").spec().vocabulary == 5
    assert Ecg(labels="aami").names == GROUPS


def test_aami_labels_and_chosen_kinds(root: Path) -> None:
    hospital = Ecg(labels="aami").hospital(0, root, seed=0)
    patients = len(Ecg().members(0))
    # N + R + j are 33 beats a record, A is 16, V is 16, and the one paced beat is Q
    assert {c: len(r) for c, r in hospital.by_class.items()} == {
        0: 33 * patients,
        1: 16 * patients,
        2: 16 * patients,
        4: patients,
    }
    two = Ecg(kinds=("V", "N"), ways=2, canonical=True)
    assert two.spec().vocabulary == 2
    assert two.spec().canonical
    opened_two = two.hospital(0, root, seed=0)
    assert {c: len(r) for c, r in opened_two.by_class.items()} == {
        0: 16 * patients,
        1: 16 * patients,
    }
    assert opened_two.episode(np.random.default_rng(0)).classes.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ("N", "X")}, "kinds = .*'X'.*allowed"),
        ({"kinds": ("N", "N")}, "kinds"),
        ({"kinds": ("N", "V"), "ways": 3}, "ways = 3: allowed is 2 to 2"),
        ({"labels": "aami", "ways": 6}, "ways = 6"),
        ({"canonical": True}, "canonical = true needs ways = 15"),
    ],
)
def test_contradicting_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Ecg(**options)


def test_too_small_a_hospital_names_itself_and_the_way_out(root: Path) -> None:
    with pytest.raises(DataError, match=r"hospital ds1-00: 3 classes.*ways = 4.*deal"):
        Ecg(hospitals=22, kinds=("N", "V", "A", "j"), ways=4).hospital(0, root, seed=0)


def spoil(key: str, change: Callable[[Any], Any]) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {**arrays, key: change(arrays[key])}


def put(value: Any, row: int = 5) -> Callable[[Any], Any]:
    def change(array: Any) -> Any:
        array = array.copy()
        array[row] = value
        return array

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (spoil("x", lambda x: x[:, :64]), r"'x' is \(.*not \(n, 128\)"),
        (spoil("x", lambda x: put(np.nan)(x.astype(np.float32))), "'x' is .*float32"),
        (spoil("x", put(1024)), "recorder's range"),
        (spoil("x", lambda x: x[:-1]), "differ in length"),
        (spoil("symbol", put("Z")), "unknown kinds.*'Z'"),
        (spoil("symbol", put("E")), "disagree in row 5"),
        (spoil("aami", put("Z")), "disagree in row 5"),
        (spoil("record", put(999)), "not ordered"),
        (lambda a: {k: v[a["record"] != 101] for k, v in a.items()}, r"no beat of records \[101\]"),
    ],
)
def test_damaged_files_are_refused(
    tmp_path: Path, damage: Callable[[Arrays], Arrays], message: str
) -> None:
    write(tmp_path, damage(made_up()))
    source = Ecg(hospitals=1)
    with pytest.raises(DataError, match=rf"mitbih_beats.npz is damaged: .*{message}.*physionet"):
        source.hospital(0, tmp_path, seed=0)


def test_truncated_file_and_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mitbih_beats.npz does not exist.*physionet"):
        Ecg().hospital(0, tmp_path, seed=0)
    path = write(tmp_path, made_up()) / "ecg" / "mitbih_beats.npz"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match="cannot be read"):
        Ecg().hospital(0, tmp_path, seed=0)


@real
@pytest.mark.parametrize("labels", ["symbol", "aami"])
def test_real_every_default_hospital_fills_its_tasks(labels: Any) -> None:
    source = Ecg(labels=labels)
    hospitals = opened(source, Path(str(DATA)))
    assert len(hospitals) == 12
    for hospital in hospitals:
        episode = hospital.episode(np.random.default_rng(0))
        assert episode.support_x.shape == (15, 1, 128)
        assert np.isfinite(episode.query_x).all()
        assert (np.diff(np.sort(episode.classes)) > 0).all()


@real
def test_real_counts_are_those_of_the_database() -> None:
    hospitals = opened(Ecg(), Path(str(DATA)))
    assert len(hospitals[0].x) == 109_451
    train, held_out = (sum(len(h.rows) for h in hospitals[i : i + 6]) for i in (0, 6))
    record = np.asarray(hospitals[0].patients)
    assert train == np.isin(hospitals[0].ids // 10_000, DS1).sum()
    assert held_out == np.isin(hospitals[0].ids // 10_000, DS2).sum()
    assert len(np.unique(record)) == 47
    kinds = Ecg(hospitals=1, unseen=1)
    by_class = kinds.hospital(0, Path(str(DATA)), 0).by_class
    assert len(by_class[kinds.names.index("F")]) == 414  # fusion beats of DS1, de Chazal's table
