"""Phantom files: MedMNIST's layout, its own loader, equal bytes, nothing overwritten by chance."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metaward.client.errors import DataError
from metaward.client.tasks.medmnist import MedMnist
from metaward.client.tasks.phantom import NAMES, Phantom, draw_ward
from metaward.client.tasks.phantom_files import INDEX, pooled, write_phantom

SOURCE = Phantom(hospitals=4, unseen=4, records=60, shots=1, queries=5)
FLAGS = [f"phantom{modality}" for modality in SOURCE.modalities]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("phantom") / "deep" / "medmnist"
    write_phantom(path, SOURCE, seed=1)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_returns_the_paths_it_wrote_and_leaves_nothing_else(tmp_path: Path) -> None:
    paths = write_phantom(tmp_path, SOURCE, seed=1)
    assert [path.name for path in paths] == [*(f"{flag}.npz" for flag in FLAGS), INDEX]
    assert sorted(paths) == sorted(tmp_path.iterdir())


def layout(path: Path) -> dict[str, tuple[int, str, int]]:
    with np.load(path) as file:
        return {key: (file[key].ndim, str(file[key].dtype), file[key].shape[-1]) for key in file}


def test_layout_is_that_of_a_published_file(folder: Path) -> None:
    root = os.environ.get("METAWARD_DATA")
    if not root:
        pytest.skip("METAWARD_DATA names no data folder")
    published = layout(Path(root) / "medmnist" / "breastmnist.npz")
    for flag in FLAGS:
        assert layout(folder / f"{flag}.npz") == published


def test_layout(folder: Path) -> None:
    images, labels = (3, "uint8", 28), (2, "uint8", 1)
    for flag in FLAGS:
        assert layout(folder / f"{flag}.npz") == {
            f"{split}_{what}": shape
            for what, shape in (("images", images), ("labels", labels))
            for split in ("train", "val", "test")
        }


def test_index_says_what_medmnist_info_says(folder: Path) -> None:
    from medmnist import INFO

    index = json.loads((folder / INDEX).read_text())
    assert list(index) == FLAGS
    for flag, entry in index.items():
        assert {key for key in INFO["breastmnist"] if "_" not in key} <= set(entry)
        content = (folder / f"{flag}.npz").read_bytes()
        assert entry["MD5"] == hashlib.md5(content, usedforsecurity=False).hexdigest()
        assert entry["label"] == {str(c): name for c, name in enumerate(NAMES)}
        assert (entry["task"], entry["n_channels"]) == ("multi-class", 1)
        with np.load(folder / f"{flag}.npz") as file:
            for split, count in entry["n_samples"].items():
                assert len(file[f"{split}_images"]) == len(file[f"{split}_labels"]) == count > 0


def test_the_package_s_own_loader_reads_the_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import medmnist
    from medmnist.dataset import MedMNIST2D

    index = json.loads((folder / INDEX).read_text())
    for flag in FLAGS:
        monkeypatch.setitem(medmnist.INFO, flag, index[flag])
        loader = type(flag, (MedMNIST2D,), {"flag": flag})
        for split in ("train", "val", "test"):
            data = loader(split=split, root=str(folder), download=False)
            assert len(data) == index[flag]["n_samples"][split]
            image, label = data[0]
            assert image.size == (28, 28)
            assert 0 <= label[0] < len(NAMES)
            assert "not for medical use" in repr(data)


def test_the_medmnist_source_reads_the_folder(folder: Path) -> None:
    source = MedMnist(
        datasets=tuple(FLAGS), ways=3, shots=1, queries=2, hospitals=4, unseen=4, skew=0
    )
    for index, seat in enumerate(source.roster()):
        episode = source.hospital(index, folder.parent, seed=0).episode(np.random.default_rng(0))
        assert episode.support_x.shape == (3, 1, 28, 28)
        known = episode.classes - source.offset(FLAGS[index % 4]) < SOURCE.findings
        assert (known == (seat.role == "train")).all()


def test_splits_hold_the_hospitals_records_and_share_no_patient() -> None:
    for k, modality in enumerate(SOURCE.modalities):
        arrays = pooled(SOURCE, modality, seed=1)
        train, unseen = draw_ward(SOURCE, k, 1), draw_ward(SOURCE, 4 + k, 1)
        assert np.array_equal(arrays["test_images"], unseen.x)
        assert np.array_equal(arrays["test_labels"][:, 0], unseen.y)
        first = len(arrays["train_images"])
        assert np.array_equal(np.vstack([arrays["train_images"], arrays["val_images"]]), train.x)
        assert not set(train.patients[:first]) & set(train.patients[first:])
        held_out = len(set(train.patients[first:])) / len(set(train.patients))
        assert 0.05 < held_out < 0.15


def test_mixed_hospitals_are_parted_by_modality() -> None:
    source = Phantom(hospitals=2, unseen=1, mixed=True)
    total = sum(
        len(pooled(source, modality, 1)[f"{split}_labels"])
        for modality in source.modalities
        for split in ("train", "val", "test")
    )
    assert total == 3 * source.records


def test_same_seed_gives_the_same_bytes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    draw_ward.cache_clear()
    write_phantom(tmp_path / "again", SOURCE, seed=1)
    write_phantom(tmp_path / "other", SOURCE, seed=2)
    assert contents(tmp_path / "again") == contents(folder)
    other = contents(tmp_path / "other")
    assert all(other[name] != content for name, content in contents(folder).items())


def test_writing_the_same_again_is_no_clash(folder: Path) -> None:
    before = contents(folder)
    write_phantom(folder, SOURCE, seed=1)
    assert contents(folder) == before


def test_other_content_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    write_phantom(tmp_path, SOURCE, seed=1)
    (tmp_path / "phantomct.npz").unlink()
    before = contents(tmp_path)
    with pytest.raises(
        DataError, match=r"already holds phantomxray\.npz, .*phantom\.json with oth"
    ):
        write_phantom(tmp_path, SOURCE, seed=2)
    assert contents(tmp_path) == before


def test_overwrite_replaces(tmp_path: Path) -> None:
    write_phantom(tmp_path, SOURCE, seed=1)
    write_phantom(tmp_path, SOURCE, seed=2, overwrite=True)
    write_phantom(tmp_path / "fresh", SOURCE, seed=2)
    fresh = contents(tmp_path / "fresh")
    assert {name: (tmp_path / name).read_bytes() for name in fresh} == fresh


def test_a_failed_write_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, target: Any) -> Path:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        write_phantom(tmp_path, SOURCE, seed=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unseen": 3}, r"phantomultrasound\.npz would have no test images; raise unseen to"),
        ({"hospitals": 2}, r"phantommri\.npz would have no train images; raise hospitals to"),
    ],
)
def test_a_split_without_images_is_refused(
    tmp_path: Path, options: dict[str, int], message: str
) -> None:
    source = Phantom(**{"hospitals": 4, "unseen": 4, **options})
    with pytest.raises(DataError, match=message):
        write_phantom(tmp_path / "none", source, seed=0)
    assert not (tmp_path / "none").exists()
