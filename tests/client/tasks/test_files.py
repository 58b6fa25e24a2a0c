"""Opening files: what is read, what is refused, and that the error says what to do."""

import hashlib
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from metaward.client.errors import DataError
from metaward.client.tasks.files import DataFile, Layout, frozen, md5, stamp

FILE = DataFile("kind/beats.npz", "at https://example.org/beats")
LAYOUT = {"x": Layout((None, 4), "i2"), "y": Layout((None,), "U")}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    where = tmp_path / "kind" / "beats.npz"
    where.parent.mkdir()
    x = np.random.default_rng(0).integers(-9, 9, (50, 4)).astype(np.int16)
    np.savez_compressed(where, x=x, y=np.array(["a"] * 50))
    return where


def test_no_root_names_file_option_and_variable() -> None:
    with pytest.raises(DataError, match=r"(?s)kind/beats.npz.*data.root.*METAWARD_DATA.*example"):
        FILE.locate(None)


def test_missing_file_names_path_and_source(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)kind/beats.npz does not exist.*METAWARD_DATA.*exam"):
        FILE.locate(tmp_path)
    (tmp_path / "kind" / "beats.npz").mkdir(parents=True)
    with pytest.raises(DataError, match="does not exist"):
        FILE.locate(tmp_path)


def test_reads_what_was_written_and_locks_it(path: Path, tmp_path: Path) -> None:
    arrays = FILE.read_npz(FILE.locate(tmp_path), LAYOUT)
    np.testing.assert_array_equal(arrays["x"], np.load(path)["x"])
    with pytest.raises(ValueError, match="read-only"):
        arrays["x"][0] = 1


@pytest.mark.parametrize("keep", [0, 10, 100, 400])
def test_truncated_file_is_refused(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"beats.npz is damaged.*example.org"):
        FILE.read_npz(path, LAYOUT)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_any_altered_byte_of_the_arrays_is_refused(path: Path, save: object) -> None:
    """Either the reader refuses, or what it returns is what was written."""
    x = np.arange(40, dtype=np.int16).reshape(10, 4)
    save(path, x=x, y=np.array(["a"] * 10))  # type: ignore[operator]
    good = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("x.npy").header_offset + 30 + len("x.npy") + 20
        size = archive.getinfo("x.npy").compress_size
    unnoticed = 0
    for place in range(start, start + size):
        path.write_bytes(good[:place] + bytes([good[place] ^ 0x10]) + good[place + 1 :])
        try:
            np.testing.assert_array_equal(FILE.read_npz(path, LAYOUT)["x"], x)
            unnoticed += 1  # padding bits at the end of a compressed stream carry nothing
        except DataError:
            continue
    assert unnoticed <= 1


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.zeros((3, 5), np.int16), np.array(["a"])),
        (np.zeros((3, 4), np.float64), np.array(["a"])),
        (np.zeros((3, 4, 1), np.int16), np.array(["a"])),
        (np.zeros((3, 4), np.int16), np.array([1])),
        (np.zeros((3, 4), np.int16), np.array([["a"]])),
    ],
)
def test_wrong_shape_or_dtype_is_refused(path: Path, x: object, y: object) -> None:
    np.savez(path, x=x, y=y)
    with pytest.raises(DataError, match=r"array '[xy]' is \(.*not \(n"):
        FILE.read_npz(path, LAYOUT)


def test_missing_array_and_pickles_are_refused(path: Path) -> None:
    np.savez(path, x=np.zeros((3, 4), np.int16))
    with pytest.raises(DataError, match="lacks an array"):
        FILE.read_npz(path, LAYOUT)
    np.savez(path, x=np.zeros((3, 4), np.int16), y=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="allow_pickle=False"):
        FILE.read_npz(path, LAYOUT)
    np.save(path.with_suffix(".npy"), np.zeros(3))
    path.write_bytes(path.with_suffix(".npy").read_bytes())  # an npy where an npz should be
    with pytest.raises(DataError, match="damaged"):
        FILE.read_npz(path, LAYOUT)


def test_md5_is_checked_and_follows_the_file(path: Path) -> None:
    expected = hashlib.md5(path.read_bytes()).hexdigest()
    FILE.check_md5(path, expected)
    path.write_bytes(path.read_bytes() + b"!")
    found = hashlib.md5(path.read_bytes()).hexdigest()
    with pytest.raises(DataError, match=f"{found}.*{expected}.*example.org"):
        FILE.check_md5(path, expected)


def test_md5_is_computed_once_a_version(path: Path) -> None:
    before = md5.cache_info()
    for _ in range(3):
        md5(path, stamp(path))
    os.utime(path, ns=(1, 1))
    md5(path, stamp(path))
    after = md5.cache_info()
    assert (after.misses - before.misses, after.hits - before.hits) == (2, 2)


def test_a_replaced_file_is_another_one_even_with_the_size_and_the_time_of_the_old(
    path: Path,
) -> None:
    before, status = stamp(path), path.stat()
    other = path.with_suffix(".new")
    other.write_bytes(bytes(status.st_size))
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)
    assert stamp(path)[:2] == before[:2]
    assert stamp(path) != before


def test_frozen_returns_the_same_memory() -> None:
    array = np.zeros(3)
    assert frozen(array) is array
    assert not array.flags.writeable
