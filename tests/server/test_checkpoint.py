"""Whole or absent, verified when read, refused when it is another run's."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metaward.files import replace_file
from metaward.server import checkpoint
from metaward.server.checkpoint import (
    CheckpointError,
    digest,
    latest_state,
    load_state,
    save_state,
)
from metaward.strategies.meta import MetaState

CONFIG = '{"seed":7}'


def state(number: int, dim: int = 40) -> MetaState:
    rng = np.random.default_rng(number)
    theta, first = (rng.normal(size=dim).astype(np.float32) for _ in range(2))
    return MetaState(number, theta, {"first": first, "steps": np.full(1, number, np.float32)})


def same(one: MetaState | None, other: MetaState) -> bool:
    return (
        one is not None
        and one.round == other.round
        and one.theta.tobytes() == other.theta.tobytes()
        and one.theta.dtype == np.float32
        and {k: v.tobytes() for k, v in one.outer.items()}
        == {k: v.tobytes() for k, v in other.outer.items()}
    )


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


# ------------------------------------------------------------------------ round trip


@pytest.mark.parametrize("dim", [0, 1, 1000])
def test_state_comes_back_to_the_bit(tmp_path: Path, dim: int) -> None:
    saved = state(12, dim)
    path = save_state(tmp_path / "new" / "checkpoints", saved, CONFIG, 3)
    assert path.name == "round-000012"
    assert same(load_state(path, CONFIG), saved)
    assert same(latest_state(path.parent, CONFIG), saved)


def test_unusual_values_come_back_to_the_bit(tmp_path: Path) -> None:
    theta = np.array([0.0, -0.0, 1e-45, 3.4e38, -1.1754944e-38], np.float32)
    saved = MetaState(1, theta, {})
    save_state(tmp_path, saved, CONFIG, 1)
    assert same(latest_state(tmp_path, CONFIG), saved)


def test_view_of_a_larger_array_is_saved_as_it_looks(tmp_path: Path) -> None:
    """safetensors writes the buffer behind an array, so a strided view needs care."""
    theta = np.arange(20, dtype=np.float32)[::2]
    save_state(tmp_path, MetaState(1, theta, {"v": theta[::-1]}), CONFIG, 1)
    found = latest_state(tmp_path, CONFIG)
    assert found is not None
    np.testing.assert_array_equal(found.theta, theta)
    np.testing.assert_array_equal(found.outer["v"], theta[::-1])


def test_nothing_saved_means_none(tmp_path: Path) -> None:
    assert latest_state(tmp_path, CONFIG) is None
    assert latest_state(tmp_path / "absent", CONFIG) is None


def test_saving_a_round_again_replaces_it(tmp_path: Path) -> None:
    save_state(tmp_path, state(5), CONFIG, 3)
    other = MetaState(5, np.ones(3, np.float32), {})
    save_state(tmp_path, other, CONFIG, 3)
    assert same(latest_state(tmp_path, CONFIG), other)


@pytest.mark.parametrize("keep", [1, 2, 3, 10])
def test_the_last_ones_are_kept(tmp_path: Path, keep: int) -> None:
    for number in (5, 10, 15, 100, 1000):
        save_state(tmp_path, state(number), CONFIG, keep)
        assert same(latest_state(tmp_path, CONFIG), state(number))
    names = [f"round-{n:06d}" for n in (5, 10, 15, 100, 1000)][-keep:]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


# --------------------------------------------------------------------------- damage


def test_any_flipped_bit_of_the_tensors_is_detected(tmp_path: Path) -> None:
    path = save_state(tmp_path, state(3), CONFIG, 1)
    tensors = path / "state.safetensors"
    bits = 8 * tensors.stat().st_size
    for bit in np.random.default_rng(0).choice(bits, size=100, replace=False).tolist():
        flip(tensors, bit)
        with pytest.raises(CheckpointError, match=r"round-000003: state\.safetensors was altered"):
            load_state(path, CONFIG)
        flip(tensors, bit)
    assert same(load_state(path, CONFIG), state(3))


def test_any_flipped_bit_of_the_manifest_is_detected_or_changes_nothing(tmp_path: Path) -> None:
    """All of the first line, which says the round, and a sample of the rest.

    A wrong round would resume the run at another place without a word.
    """
    path = save_state(tmp_path, state(3), CONFIG, 1)
    manifest = path / "manifest.json"
    first, bits = 8 * manifest.read_bytes().index(b","), 8 * manifest.stat().st_size
    rest = np.random.default_rng(1).choice(np.arange(first, bits), size=200, replace=False)
    detected = 0
    for bit in [*range(first), *rest.tolist()]:
        flip(manifest, bit)
        try:
            assert same(load_state(path, CONFIG), state(3))
        except CheckpointError:
            detected += 1
        flip(manifest, bit)
    assert detected > 250, "only blanks are free to change"


@pytest.mark.parametrize("name", ["manifest.json", "state.safetensors"])
@pytest.mark.parametrize("keep", [0, 1, 10, 100])
def test_truncated_file_is_refused(tmp_path: Path, name: str, keep: int) -> None:
    path = save_state(tmp_path, state(3), CONFIG, 1)
    (path / name).write_bytes((path / name).read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"round-000003.*delete that folder to resume"):
        latest_state(tmp_path, CONFIG)


@pytest.mark.parametrize("name", ["manifest.json", "state.safetensors"])
def test_missing_or_unreadable_file_is_refused(tmp_path: Path, name: str) -> None:
    path = save_state(tmp_path, state(3), CONFIG, 1)
    (path / name).unlink()
    with pytest.raises(CheckpointError, match=r"unreadable.*delete that folder"):
        load_state(path, CONFIG)
    (path / name).mkdir()  # an error of the operating system for every user, root included
    with pytest.raises(CheckpointError, match=r"unreadable.*delete that folder"):
        load_state(path, CONFIG)


@pytest.mark.parametrize(
    "content", ["null", "[]", "3", '"x"', "{}", '{"round": 3}', '{"round": null}', "\x00" * 50]
)
def test_manifest_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    path = save_state(tmp_path, state(3), CONFIG, 1)
    (path / "manifest.json").write_text(content)
    with pytest.raises(CheckpointError, match="unreadable"):
        load_state(path, CONFIG)


def test_manifest_of_another_round_is_refused(tmp_path: Path) -> None:
    path = save_state(tmp_path, state(3), CONFIG, 1)
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"round": 4}))
    with pytest.raises(CheckpointError, match="round-000003: holds another round, 4"):
        load_state(path, CONFIG)


def test_tensors_of_another_checkpoint_are_refused(tmp_path: Path) -> None:
    one = save_state(tmp_path, state(3), CONFIG, 5)
    other = save_state(tmp_path, state(4), CONFIG, 5)
    shutil.copy(one / "state.safetensors", other / "state.safetensors")
    with pytest.raises(CheckpointError, match="altered"):
        latest_state(tmp_path, CONFIG)
    assert same(load_state(one, CONFIG), state(3)), "the way out: the one before it is whole"


def test_checkpoint_of_another_configuration_is_refused(tmp_path: Path) -> None:
    save_state(tmp_path, state(3), CONFIG, 1)
    with pytest.raises(CheckpointError, match="belongs to another configuration"):
        latest_state(tmp_path, CONFIG.replace("7", "8"))


# ------------------------------------------------------------------------- interruption

STEPS = [
    (os, "fsync"),
    (checkpoint, "save"),
    (checkpoint, "write_synced"),
    (checkpoint, "sync_folder"),
    (Path, "mkdir"),
    (Path, "rename"),
    (shutil, "rmtree"),
]


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("when", [1, 2, 3, 4])
@pytest.mark.parametrize(("owner", "step"), STEPS, ids=[step for _, step in STEPS])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_crash_at_any_step_leaves_the_old_state_or_the_new_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    step: str,
    when: int,
    after: bool,
) -> None:
    """The n-th call of each step dies; then the next process must find a whole state, and save."""
    for number in (5, 10):
        save_state(tmp_path, state(number), CONFIG, 2)
    real, calls = getattr(owner, step), []

    def dying(*arguments: Any, **options: Any) -> Any:
        calls.append(step)
        if len(calls) == when and not after:
            raise Killed
        result = real(*arguments, **options)
        if len(calls) == when:
            raise Killed
        return result

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, dying)
        try:
            save_state(tmp_path, state(15), CONFIG, 2)
        except Killed:
            pass
        else:
            assert len(calls) < when
    found = latest_state(tmp_path, CONFIG)
    assert same(found, state(10)) or same(found, state(15))
    save_state(tmp_path, state(15), CONFIG, 2)
    assert same(latest_state(tmp_path, CONFIG), state(15))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["round-000010", "round-000015"]


def test_what_a_killed_process_left_is_ignored_and_cleaned_up(tmp_path: Path) -> None:
    save_state(tmp_path, state(5), CONFIG, 3)
    left = tmp_path / ".writing-round-000010"
    left.mkdir()
    (left / "state.safetensors").write_bytes(b"half")
    assert same(latest_state(tmp_path, CONFIG), state(5))
    save_state(tmp_path, state(6), CONFIG, 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["round-000005", "round-000006"]


def test_everything_is_on_the_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files and the folder that lists them first, then the rename, then the folder above."""
    done: list[str] = []
    real_fsync, real_rename = os.fsync, Path.rename

    def fsync(descriptor: int) -> None:
        done.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real_fsync(descriptor)

    def rename(path: Path, target: Path) -> Path:
        done.append("rename")
        return real_rename(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", rename)
    save_state(tmp_path, state(5), CONFIG, 3)
    assert sorted(done[:2]) == ["manifest.json", "state.safetensors"]
    assert done[2:] == [".writing-round-000005", "rename", tmp_path.name]


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    with pytest.raises(OSError, match="checkpoints"):
        save_state(tmp_path / "checkpoints", state(5), CONFIG, 3)


# ------------------------------------------------------------------------- single files


def test_replaced_file_is_the_old_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "result.json"
    replace_file(path, b"old")

    def die(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", die)
        with pytest.raises(Killed):
            replace_file(path, b"new and longer")
    assert path.read_bytes() == b"old"
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_digest_is_sha256() -> None:
    """The published value for the empty message (FIPS 180-4)."""
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert digest(b"") == empty
