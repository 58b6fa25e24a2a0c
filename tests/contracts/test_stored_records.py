"""What a record's value may decide (nothing but itself), and what a request may (not its keys).

Neighbours are two worlds in one of which a record's value was nulled, its label and place kept. Who
is dealt which records, into which tasks and under which names, must be equal in both; and no other
record may reach the network changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metaward.client import work
from metaward.client.charging import contents
from metaward.client.schedule import deal
from metaward.client.tasks.arrays import Records, as_source
from metaward.client.tasks.base import Hospital, TaskSource
from metaward.client.tasks.ecg import Ecg
from metaward.client.tasks.heart import SITES, Heart
from metaward.client.tasks.medmnist import MedMnist
from metaward.client.tasks.omniglot import Omniglot
from metaward.privacy import UNITS
from tests.client.bedside import RECORD
from tests.client.tasks import (
    test_ecg,
    test_heart,
    test_medmnist,
    test_medmnist_forms,
    test_omniglot,
)

SMALL = {"ways": 2, "shots": 1, "queries": 2}


Arrays = dict[str, Any]


class Files:
    """A source's files in a new folder; in the world of ``null`` a record's value is zeros.

    The record has a copy, so that whoever looks for copies finds one more in the other world.
    """

    def __init__(self, root: Path, patch: pytest.MonkeyPatch, null: bool) -> None:
        root.mkdir()
        self.root, self.patch, self.null = root, patch, null

    def write(self, source: type[TaskSource]) -> Path:
        writers = {"MedMnist": self.images, "Ecg": self.beats, "Omniglot": self.drawings}
        {**writers, "Heart": self.patients}.get(source.__name__, lambda: None)()
        return self.root

    def images(self) -> None:
        folder = test_medmnist.Folder(self.root, self.patch)
        for flag, classes, shape in (
            ("breastmnist", 2, (28, 28)),
            ("nodulemnist3d", 2, (28, 28, 28)),
            ("retinamnist", 5, (28, 28, 3)),
        ):
            arrays = test_medmnist.made_up(flag, classes, shape)
            folder.write(flag, self.changed(arrays, "train_images", 3, 7))
        chest = test_medmnist_forms.separable("chestmnist", 64)
        folder.write("chestmnist", self.changed(chest, "train_images", 3, 7), size=64)

    def beats(self) -> None:
        test_ecg.write(self.root, self.changed(test_ecg.made_up(), "x", 0, 1))

    def drawings(self) -> None:
        arrays = test_omniglot.made_up()
        shape = arrays["images"].shape
        flat = {**arrays, "images": arrays["images"].reshape(-1, 28, 28)}
        changed = self.changed(flat, "images", 0, 1)
        test_omniglot.write(self.root, {**changed, "images": changed["images"].reshape(shape)})

    def patients(self) -> None:
        """The nulled patient has the smallest values: a file with smaller ones is refused."""
        for site in SITES:
            lines = test_heart.made_up(site)
            lines[0] = lines[1][:-1] + lines[0][-1:]
            if self.null:
                lines[0] = ["1", "0", "1", "0", "0", "0", "0", "30", "0", "0", *lines[0][10:]]
            test_heart.write(self.root, site, lines)

    def changed(self, arrays: Arrays, key: str, row: int, copy: int) -> Arrays:
        arrays[key][copy] = arrays[key][row]
        if self.null:
            arrays[key][row] = 0
        return arrays


def own_arrays(null: bool, targets: bool) -> TaskSource:
    rng = np.random.default_rng(1)
    hospitals = []
    for name in ("a", "b"):
        x = rng.normal(size=(60, 4))
        x[1] = x[0]
        if null and name == "a":
            x[0] = 0
        y = rng.normal(size=(60, 1)) if targets else np.arange(60) % 3
        hospitals.append(Records(name, x, y))
    made: TaskSource = as_source("own", hospitals)(shots=1, queries=2)
    return made


Made = Callable[[bool], TaskSource]
SOURCES: dict[str, Made] = {
    "dirichlet": lambda _: MedMnist(**SMALL, datasets=("breastmnist",), hospitals=3, unseen=1),
    "scanner": lambda _: MedMnist(
        **SMALL, datasets=("breastmnist",), partition="scanner", hospitals=3, unseen=1
    ),
    "volumes": lambda _: MedMnist(**SMALL, datasets=("nodulemnist3d",), hospitals=3, unseen=1),
    "volumes as they are": lambda _: MedMnist(
        **SMALL, datasets=("nodulemnist3d",), projection="none", hospitals=3, unseen=1
    ),
    "several findings": lambda _: MedMnist(
        **SMALL, datasets=("chestmnist",), size=64, hospitals=3, unseen=1
    ),
    "several findings by scanner": lambda _: MedMnist(
        **SMALL, datasets=("chestmnist",), size=64, partition="scanner", hospitals=3, unseen=1
    ),
    "ecg": lambda _: Ecg(**SMALL, hospitals=3, unseen=2),
    "omniglot": lambda _: Omniglot(**SMALL),
    "rotations": lambda _: Omniglot(**SMALL, rotations=True),
    "heart": lambda _: Heart(shots=1, queries=2),
    "arrays": lambda null: own_arrays(null, targets=False),
    "targets": lambda null: own_arrays(null, targets=True),
}


@dataclass
class World:
    """Everything of the hospitals that decides about tasks and charges; what networks see of each
    record; and the content by which the ledger knows it."""

    public: list[Any]
    seen: dict[str, bytes]
    contents: dict[str, str]


def world(source: TaskSource, root: Path) -> World:
    public: list[Any] = []
    seen: dict[str, bytes] = {}
    known: dict[str, str] = {}
    seats = source.roster()
    for index in sorted({*range(min(5, len(seats))), len(seats) - 1}):
        hospital = source.hospital(index, root, 3)
        rows = hospital.rows
        arrays = (rows, *(a[rows] for a in (hospital.ids, hospital.patients, hospital.y)))
        public += [hospital.seat, hospital.note, *(array.tolist() for array in arrays)]
        tasks = deal(hospital, UNITS["record"], np.random.default_rng(4))
        public += [(t.support_rows.tolist(), t.query_rows.tolist()) for t in tasks]
        for record, x in zip(hospital.ids[rows], hospital.view(hospital.x[rows]), strict=True):
            seen[str(record)] = seen.get(str(record), b"") + x.tobytes()
        known |= zip(map(str, hospital.ids[rows]), contents(hospital, rows.tolist()), strict=True)
    return World(public, seen, known)


@pytest.mark.parametrize("name", SOURCES)
def test_a_value_decides_nothing_but_what_the_network_sees_of_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worlds = []
    for null in (False, True):
        source = SOURCES[name](null)
        root = Files(tmp_path / str(null), monkeypatch, null).write(type(source))
        worlds.append(world(source, root))
    one, other = worlds
    assert one.public == other.public
    assert one.seen.keys() == other.seen.keys() == one.contents.keys() == other.contents.keys()
    sites = 3 if name == "heart" else 1  # each of the files has a nulled patient
    nulled = {key for key in one.seen if one.seen[key] != other.seen[key]}
    assert len(nulled) == sites
    assert nulled == {key for key in one.seen if one.contents[key] != other.contents[key]}


# --------------------------------------------------------------------------- the ledger's keys

Keys = dict[str, tuple[str, str]]
IMAGES: dict[str, Any] = {**SMALL, "datasets": ("breastmnist", "nodulemnist3d", "retinamnist")}
CHOICES: dict[str, tuple[type[Any], list[dict[str, Any]]]] = {
    "medmnist": (
        MedMnist,
        [
            {**IMAGES, "channels": 1, **options}
            for options in (
                {},
                {"partition": "scanner"},
                {"partition": "scanner", "scanner": 0.5},
                {"partition": "modality"},
                {"channels": 3},
                {"projection": "max"},
                {"projection": "max", "axis": 2},
                {"hospitals": 3, "unseen": 3, "skew": 0.0, "download": True},
                {"datasets": IMAGES["datasets"][::-1], "ways": 2, "shots": 2, "train_shots": 3},
                {"datasets": ("breastmnist",), "canonical": True, "partition": "scanner"},
            )
        ],
    ),
    "volumes": (
        MedMnist,
        [
            {**SMALL, "datasets": ("nodulemnist3d",), **options}
            for options in (
                {"hospitals": 2},
                {"projection": "none"},
                {"projection": "none", "channels": 3},
                {"projection": "none", "partition": "scanner"},
            )
        ],
    ),
    "several findings": (
        MedMnist,
        [
            {**SMALL, "datasets": ("chestmnist",), "size": 64, **options}
            for options in ({}, {"channels": 3}, {"partition": "scanner"}, {"skew": 0.0})
        ],
    ),
    "ecg": (
        Ecg,
        [
            {**SMALL, **options}
            for options in (
                {},
                {"labels": "aami"},
                {"deal": 1, "hospitals": 22, "unseen": 21},
                {"kinds": ("V", "N", "A")},
                {"kinds": ("N", "V"), "canonical": True},
            )
        ],
    ),
    "omniglot": (
        Omniglot,
        [
            {**SMALL, **options}
            for options in (
                {},
                {"rotations": True},
                {"split": "published"},
                {"split": "published", "deal": 1, "rotations": True},
                {"hospitals": 2, "unseen": 1},
            )
        ],
    ),
    "heart": (
        Heart,
        [
            {"shots": 1, "queries": 2, **options}
            for options in (
                {},
                {"episodes": "natural", "left_out": ()},
                {"canonical": False},
                {"unseen": ("cleveland",), "left_out": ("va", "switzerland")},
            )
        ],
    ),
}
"""The options that a request may choose; phantom and sine have no stored records: they make them
from the request's seed."""


def keys(source: TaskSource, root: Path, seed: int) -> Keys:
    """The patient and the content of each record that any hospital holds, by the record's name."""
    found: dict[str, set[tuple[str, str]]] = {}
    for index in range(len(source.roster())):
        hospital = source.hospital(index, root, seed)
        named = zip(hospital.rows, contents(hospital, hospital.rows.tolist()), strict=True)
        for row, content in named:
            one = (str(hospital.patients[row]), content)
            found.setdefault(str(hospital.ids[row]), set()).add(one)
    assert {len(of) for of in found.values()} == {1}, "a record has one patient and one content"
    return {record: of.pop() for record, of in found.items()}


@pytest.mark.parametrize("name", CHOICES)
def test_no_seed_and_no_option_gives_a_stored_record_another_key(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cls, choices = CHOICES[name]
    root = Files(tmp_path / "data", monkeypatch, null=False).write(cls)
    known = keys(cls(**choices[0]), root, 1)
    assert len({content for _, content in known.values()}) > 0.9 * len(known)
    for options in choices:
        for seed in (1, 2):
            found = keys(cls(**options), root, seed)
            common = found.keys() & known.keys()
            assert len(common) > 100, options
            assert {key: found[key] for key in common} == {key: known[key] for key in common}
            known |= found


# ----------------------------------------------------------------------------- deleted records


def marks(hospital: Hospital, round: int) -> set[int]:
    """The first samples of the beats in the tasks of one round."""
    desk = replace(RECORD.desk(), source=Ecg(**SMALL, hospitals=3, unseen=0), tasks_per_round=200)
    tasks = work.tasks_of(desk, hospital, 0, round).episodes
    rows = np.concatenate([(*t.support_rows, *t.query_rows) for t in tasks])
    return set(hospital.x[rows, 0].tolist())


def test_a_record_that_left_the_file_is_in_no_further_task(tmp_path: Path) -> None:
    arrays = test_ecg.made_up()
    gone = arrays["symbol"] == "R"
    arrays["x"][:, 0] = np.where(gone, 1, 2)
    source, root = Ecg(**SMALL, hospitals=3, unseen=0), test_ecg.write(tmp_path, arrays)
    assert marks(work.open_hospital(source, 0, root, RECORD.seed), 1) == {1, 2}
    test_ecg.write(root, {key: array[~gone] for key, array in arrays.items()})
    for round in (1, 2):
        assert marks(work.open_hospital(source, 0, root, RECORD.seed), round) == {2}


def test_a_changed_value_is_used_in_the_next_round(tmp_path: Path) -> None:
    arrays = test_ecg.made_up()
    source, root = Ecg(**SMALL, hospitals=3, unseen=0), test_ecg.write(tmp_path, arrays)
    desk = replace(RECORD.desk(), source=source)
    one = work.tasks_of(desk, work.open_hospital(source, 0, root, desk.seed), 0, 1)
    same = work.tasks_of(desk, work.open_hospital(source, 0, root, desk.seed), 0, 1)
    assert same.episodes[0] is one.episodes[0], "dealt once, as long as the file is the same"
    arrays["x"] = -arrays["x"] // 2
    test_ecg.write(tmp_path, arrays)
    other = work.tasks_of(desk, work.open_hospital(source, 0, root, desk.seed), 0, 1)
    first, second = (share.episodes[0] for share in (one, other))
    assert first.support_rows.tolist() == second.support_rows.tolist()
    assert not np.allclose(first.support_x, second.support_x)
