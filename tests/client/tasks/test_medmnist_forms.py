"""MedMNIST in all its forms: sizes, colours, volumes, several findings an image, mixed sets."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import metaward as mw
from metaward.client.charging import contents
from metaward.client.errors import DataError
from metaward.client.tasks import medmnist_files
from metaward.client.tasks.base import Hospital
from metaward.client.tasks.medmnist import MedMnist
from metaward.client.tasks.medmnist_images import to_input
from metaward.client.tasks.medmnist_questions import first_shown
from metaward.client.tasks.medmnist_sets import SIZES, Facts, Size, facts
from metaward.client.tasks.scanner import Scanner
from tests.client.tasks.test_medmnist import Arrays, Folder

COUNTS = {"train": 96, "val": 16, "test": 96}
SMALL: dict[str, Any] = {"hospitals": 2, "unseen": 2, "shots": 2, "queries": 3}


def separable(flag: str, size: Size = 28) -> Arrays:
    """Random pixels whose mean tells the label, in the layout of the published file."""
    rng, arrays, known = np.random.default_rng(list(flag.encode())), Arrays(), facts(flag)
    for split, count in COUNTS.items():
        labels = drawn(known, count, rng)
        shape = (count, *known.stored_shape(size))
        images = rng.integers(0, 40, shape, dtype=np.uint8)
        if known.several:  # each finding brightens a stripe of its own
            stripe = np.arange(size) * len(known.findings) // size
            images += (labels * np.uint8(200))[:, stripe, None]
        else:
            steps = np.linspace(0, 215, len(known.classes)).astype(np.uint8)
            images += steps[labels[:, 0]].reshape(count, *[1] * (len(shape) - 1))
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    return arrays


def drawn(known: Facts, count: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Labels (count, 1), or (count, 14) with three findings that each third image shows."""
    if not known.several:
        return (np.arange(count) % len(known.classes))[:, None].astype(np.uint8)
    shown = rng.random((count, len(known.findings))) < 1 / 3
    shown[:, 3:] = False
    return shown.astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    return Folder(tmp_path, monkeypatch)


def written(folder: Folder, flag: str, size: Size = 28) -> Arrays:
    arrays = separable(flag, size)
    folder.write(flag, arrays, size=size)
    return arrays


def opened(source: MedMnist, folder: Folder, seed: int = 0) -> list[Hospital]:
    return [source.hospital(i, folder.root, seed) for i in range(len(source.roster()))]


# ----------------------------------------------------------------------------------- whole runs

CONV = {"network": "conv", "width": 4, "depth": 2, "groups": 2, "halve": "stride"}
MLP = {"network": "mlp", "hidden": [8]}
FORMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "colours": ({"datasets": ["dermamnist"]}, CONV),
    "grades": ({"datasets": ["retinamnist"], "ways": 5}, MLP),
    "64 pixels": ({"datasets": ["breastmnist"], "size": 64}, CONV),
    "several findings": ({"datasets": ["chestmnist"], "shots": 9, "skew": 0.0}, MLP),
    "volumes": ({"datasets": ["nodulemnist3d"], "projection": "none"}, {**CONV, "depth": 3}),
    "volumes in a row": ({"datasets": ["nodulemnist3d"], "projection": "none"}, MLP),
    "projected volumes": ({"datasets": ["fracturemnist3d"], "axis": 1}, MLP),
    "grey and colours": ({"datasets": ["breastmnist", "dermamnist"], "channels": 3}, CONV),
    "three sets, one of volumes": (
        {
            "datasets": ["chestmnist", "retinamnist", "vesselmnist3d"],
            "channels": 1,
            "hospitals": 3,
            "unseen": 3,
        },
        MLP,
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_runs_to_its_table(name: str, folder: Folder) -> None:
    tasks, model = FORMS[name]
    for flag in tasks["datasets"]:
        written(folder, flag, tasks.get("size", 28))
    run = mw.load(
        {
            "name": "forms",
            "seed": 3,
            "data": {"root": str(folder.root)},
            "client": {
                "tasks": {"source": "medmnist", **SMALL, **tasks},
                "model": model,
                "inner": {"algorithm": "proto_maml", "lr": 0.01, "steps": 1, "adapt_steps": 1},
                "tasks_per_round": 1,
            },
            "privacy": {"mechanism": "none"},
            "strategies": {"combine": {"rule": "mean"}, "outer": {"optimizer": "sgd", "lr": 1.0}},
            "server": {
                "rounds": 1,
                "workers": 1,
                "evaluation": {"every": 1, "episodes": 2, "final_episodes": 8},
            },
        }
    )
    result = mw.run(run, out=folder.root / "result")
    assert result.status == "finished"
    assert result.table[0]["after"] > 0.75, "labels do not belong to their images"


# ------------------------------------------------------------------------------------- the sizes


@pytest.mark.parametrize(
    ("flag", "sizes"),
    [("breastmnist", SIZES), ("dermamnist", SIZES), ("nodulemnist3d", (28, 64))],
)
def test_names_and_deal_are_the_same_at_every_size(
    flag: str, sizes: tuple[Size, ...], folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(COUNTS, "train", 48)
    monkeypatch.setitem(COUNTS, "test", 16)
    found: list[Any] = []
    known: set[str] = set()
    for size in sizes:
        arrays = written(folder, flag, size)
        few = {**SMALL, "queries": 1, "unseen": 1}
        source = MedMnist(datasets=(flag,), size=size, projection="none", **few)
        one = source.hospital(0, folder.root, 4)
        np.testing.assert_array_equal(one.x, arrays["train_images"])
        assert one.view(one.x[:2]).shape == (2, *source.spec().input_shape)
        assert source.spec().input_shape[1:] == (size,) * (3 if facts(flag).volumes else 2)
        found.append([a.tolist() for a in (one.rows, one.y, one.ids, one.patients)])
        own = set(contents(one, one.rows.tolist()))
        assert len(own) == len(one.rows)
        assert not own & known, "the stored bytes are others"
        known |= own
    assert all(one == found[0] for one in found)
    assert found[0][2][5] == f"{flag}/train/000005"


def test_copies_are_left_out_at_every_size(folder: Folder) -> None:
    written(folder, "breastmnist", 64)
    path = folder.write("breastmnist", separable("breastmnist"))
    listed = {hashlib.md5(path.read_bytes()).hexdigest(): {"train": "7"}}
    folder.patch.setattr(medmnist_files, "COPIES", listed)
    for size in (28, 64):
        source = MedMnist(datasets=("breastmnist",), size=size, **SMALL)  # type: ignore[arg-type]
        dealt = {row for hospital in opened(source, folder)[:2] for row in hospital.rows.tolist()}
        assert set(range(COUNTS["train"])) - dealt == {7}


def test_a_missing_size_names_those_that_are_there(folder: Folder) -> None:
    written(folder, "breastmnist", 64)
    source = MedMnist(datasets=("breastmnist",), **SMALL)
    words = (
        r"breastmnist.npz does not exist.*There is breastmnist_64.npz: .*client.tasks.size to 64"
    )
    with pytest.raises(DataError, match=words):
        source.hospital(0, folder.root, 0)
    written(folder, "breastmnist", 128)
    with pytest.raises(DataError, match=r"breastmnist_64.npz, breastmnist_128.npz: .*64 or 128"):
        source.hospital(0, folder.root, 0)


def test_a_file_of_another_size_under_the_name_is_refused(folder: Folder) -> None:
    folder.write("breastmnist", separable("breastmnist", 64))
    with pytest.raises(DataError, match=r"train_images is \(96, 64, 64\).*\(96, 28, 28\)"):
        MedMnist(datasets=("breastmnist",), **SMALL).hospital(0, folder.root, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"datasets": ("breastmnist_64",)}, "is a file; name breastmnist .*size: 64"),
        ({"datasets": ("breastmnist.npz",)}, "is a file; name breastmnist .*size: 28"),
        ({"datasets": ("brestmnist",)}, r"did you mean breastmnist\?"),
        ({"datasets": ("lungmnist",)}, "lungmnist is unknown;.*source: folder .docs/own-data.md"),
        ({"datasets": ("nodulemnist3d",), "size": 224}, "nodulemnist3d has 28 or 64 pixels"),
        ({"datasets": ("phantomct",), "size": 64}, "phantomct has 28 pixels"),
        (
            {"datasets": ("nodulemnist3d", "breastmnist"), "projection": "none"},
            "'nodulemnist3d': 3, 'breastmnist': 2.*set projection to mean or max",
        ),
        (
            {"datasets": ("octmnist",), "unseen_datasets": ("pathmnist",), "unseen": 1},
            "'octmnist': 1, 'pathmnist': 3.*set channels to 1 or 3",
        ),
        ({"datasets": ("chestmnist",), "ways": 3}, "ways = 3: chestmnist.*set ways to 2"),
        ({"datasets": ("chestmnist",), "canonical": True}, "canonical = true"),
    ],
)
def test_options_that_do_not_go_together_name_the_way_out(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        MedMnist(**options)


def test_every_published_set_is_known_in_its_sizes() -> None:
    from medmnist import INFO

    flags = [flag for flag in INFO if not flag.startswith("phantom")]
    assert len(flags) == 18
    for flag in flags:
        source = MedMnist(datasets=(flag,), projection="none")
        assert facts(flag).sizes == (SIZES[:2] if facts(flag).volumes else SIZES)
        assert source.spec().input_shape[0] == facts(flag).channels
        assert source.spec().vocabulary == len(facts(flag).classes)


# --------------------------------------------------------------------------- several findings

CHEST = MedMnist(datasets=("chestmnist",), **SMALL)


def test_a_task_asks_for_one_finding(folder: Folder) -> None:
    labels = written(folder, "chestmnist")["train_labels"]
    hospital, asked = CHEST.hospital(0, folder.root, 0), set()
    for number in range(40):
        episode = hospital.episode(np.random.default_rng(number))
        finding = episode.classes.min() // 2
        assert sorted(episode.classes.tolist()) == [2 * finding, 2 * finding + 1]
        for rows, y in (
            (episode.support_rows, episode.support_y),
            (episode.query_rows, episode.query_y),
        ):
            assert (labels[rows, finding] == episode.classes[y] % 2).all()
        used = np.concatenate([episode.support_rows, episode.query_rows])
        assert len(set(used.tolist())) == 10
        assert np.isin(used, hospital.rows).all()
        asked.add((int(finding), int(episode.classes[0] % 2)))
    assert asked == {(f, first) for f in range(3) for first in (0, 1)}, "each, in either order"


def test_records_are_dealt_by_the_first_finding_or_none(folder: Folder) -> None:
    shown = np.array([[0, 1, 1], [0, 0, 0], [1, 0, 1], [0, 0, 1]], dtype=bool)
    assert first_shown(shown).tolist() == [3, 0, 1, 5]
    labels = written(folder, "chestmnist")["train_labels"]
    hospitals = opened(CHEST, folder)[:2]
    counts: dict[str, int] = {}
    for hospital in hospitals:
        for part in hospital.note["case mix"].split("; "):
            name, count = part.rsplit(" ", 1)
            counts[name] = counts.get(name, 0) + int(count)
    none = ~labels.any(axis=1)
    assert counts["no finding"] == none.sum()
    assert counts["effusion"] == ((labels[:, 2] > 0) & ~labels[:, :2].any(axis=1)).sum()
    rows = [row for hospital in hospitals for row in hospital.rows.tolist()]
    assert sorted(rows) == list(range(COUNTS["train"]))


def test_the_deal_leaves_every_hospital_a_question(folder: Folder) -> None:
    written(folder, "chestmnist")
    source = MedMnist(datasets=("chestmnist",), hospitals=3, unseen=0, shots=2, queries=2, skew=50)
    for seed in range(20):
        for hospital in opened(source, folder, seed):
            hospital.episode(np.random.default_rng(seed))


def test_a_hospital_without_a_question_is_told_so(folder: Folder) -> None:
    arrays = separable("chestmnist")
    for split in COUNTS:
        arrays[f"{split}_labels"][:, :2] = 1  # everybody shows these, and few the third
        arrays[f"{split}_labels"][3:, 2] = 0
    folder.write("chestmnist", arrays)
    source = MedMnist(datasets=("chestmnist",), partition="scanner", **SMALL)
    with pytest.raises(DataError, match=r"no finding has at least shots \+ queries = 5 records"):
        source.hospital(0, folder.root, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y[:, :13], r"train_labels is \(96, 13\).*\(96, 14\)"),
        (lambda y: y * 2, "train_labels leave the range 0 to 1"),
    ],
)
def test_wrong_labels_are_refused(folder: Folder, change: Any, message: str) -> None:
    arrays = separable("chestmnist")
    folder.write("chestmnist", {**arrays, "train_labels": change(arrays["train_labels"])})
    with pytest.raises(DataError, match=message):
        CHEST.hospital(0, folder.root, 0)


def test_scanners_leave_answers_with_their_images(folder: Folder) -> None:
    arrays = written(folder, "chestmnist")
    source = MedMnist(datasets=("chestmnist",), partition="scanner", scanner=0, **SMALL)
    hospital = source.hospital(1, folder.root, 0)
    episode = hospital.episode(np.random.default_rng(0))
    names = hospital.ids[episode.support_rows]
    rows = [int(name.split("/")[2]) for name in names]
    finding = episode.classes.min() // 2
    answers = arrays["train_labels"][rows, finding]
    assert (answers == episode.classes[episode.support_y] % 2).all()


# ------------------------------------------------------------------------------------- volumes


def test_volumes_stay_as_they_are_where_nothing_projects_them(folder: Folder) -> None:
    raw = written(folder, "nodulemnist3d")["train_images"]
    source = MedMnist(datasets=("nodulemnist3d",), projection="none", **SMALL)
    assert source.spec().input_shape == (1, 28, 28, 28)
    hospital = source.hospital(0, folder.root, 0)
    episode = hospital.episode(np.random.default_rng(0))
    expected = raw[episode.support_rows, None] / 127.5 - 1
    np.testing.assert_allclose(episode.support_x, expected, atol=1e-6)
    three = to_input(raw[:2], 3)
    assert three.shape == (2, 3, 28, 28, 28)
    assert (three == three[:, :1]).all()


def test_a_scanner_blurs_a_volume_along_all_its_axes() -> None:
    point = np.zeros((1, 9, 9, 9), np.uint8)
    point[0, 4, 4, 4] = 255
    seen = Scanner(1, 1, 1, 0).render(point, np.random.default_rng(0))[0]
    assert seen[3, 4, 4] == seen[4, 3, 4] == seen[4, 4, 3] > 0
