"""Files of MedMNIST's layout: a damaged one has another MD5; an index may say anything."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from metaward.client.tasks.medmnist import MedMnist
from metaward.client.tasks.phantom import Phantom
from metaward.client.tasks.phantom_files import INDEX, write_phantom
from tests.fuzz.damage import TREES, altered, damaged
from tests.fuzz.harness import Counted, fresh, fuzz, inputs
from tests.fuzz.test_own_files import ODD, archives, huge, npz

SOURCE = MedMnist(datasets=("phantomct",), hospitals=1, unseen=1, shots=1, queries=1)
FILE = "phantomct.npz"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("phantom") / "medmnist"
    made = Phantom(hospitals=1, unseen=1, records=40, shots=1, queries=5, modalities=("ct",))
    write_phantom(path, made, seed=1)
    return path


def use(root: Path) -> None:
    for index in range(2):
        hospital = SOURCE.hospital(index, root, 1)
        assert hospital.view(hospital.x[hospital.rows]).shape[1:] == SOURCE.spec().input_shape
        hospital.episode(np.random.default_rng(0))


def copied(good: Path, tmp: Path) -> Path:
    root = tmp / "data"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(good, root / "medmnist")
    return root


@inputs(40, 500)
def test_indexes(number: int, counted: Counted, good: Path, tmp_path: Path) -> None:
    index = json.loads((good / INDEX).read_text())

    def read(content: bytes) -> None:
        root = copied(good, tmp_path)
        fresh(root / "medmnist" / INDEX, content)
        use(root)

    trees = (altered(index) | TREES).map(json.dumps).map(str.encode)
    entry = index["phantomct"]
    odd = [
        {"label": [1]},
        {"label": {}},
        {"n_samples": 3},
        {"n_samples": {"train": -1}},
        {"MD5": 1},
    ]
    odd += [{"n_samples": {"train": 10**18, "val": 1, "test": 1}}, {"python_class": 3}]
    known = [json.dumps({"phantomct": entry | one}).encode() for one in odd]
    known += [b'{"phantomct": 3}', b'{"phantomct": null}', b"[" * 99_999, b"\xff"]
    fuzz(number, trees | damaged((good / INDEX).read_bytes()), read, counted, known)


@inputs(40, 400)
def test_archives(number: int, counted: Counted, good: Path, tmp_path: Path) -> None:
    """With an index that knows the MD5 of whatever lies there."""
    with np.load(good / FILE) as archive:
        arrays: dict[str, Any] = dict(archive)
    index = json.loads((good / INDEX).read_text())

    def read(content: bytes) -> None:
        root = copied(good, tmp_path)
        fresh(root / "medmnist" / FILE, content)
        index["phantomct"]["MD5"] = hashlib.md5(content).hexdigest()
        fresh(root / "medmnist" / INDEX, json.dumps(index).encode())
        use(root)

    known = [npz(arrays | {"train_labels": one}) for one in ODD]
    known += [npz(arrays | {"train_images": huge((2**40, 28, 28))})]
    fuzz(number, archives(arrays) | st.just(b""), read, counted, known)
