"""A disk that is full, at many places of a run; files that are cut or have flipped bits.

Each is named, and nothing is lost: with space again, or the good file put back, the run goes on to
the result of one that met no fault.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from metaward.errors import MetawardError
from metaward.privacy.ledger import file, verify
from metaward.server import checkpoint
from metaward.server.checkpoint import CheckpointError, latest_state
from metaward.server.engines import ENGINES
from metaward.server.folder import Folder
from metaward.strategies.quorum import QuorumError
from tests.faults.history import violations
from tests.faults.test_history import SETTINGS, carried_out, ledgers
from tests.server.small import small


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A run that meets no fault."""
    return carried_out(tmp_path_factory.mktemp("whole") / "run")


def begun(place: Path) -> Folder:
    """A run in which every hospital must answer, so that its result is that of ``whole``."""
    folder = Folder(place)
    folder.create(small(*SETTINGS, "strategies.quorum=1.0"))
    return folder


def carry_out(folder: Folder) -> None:
    ENGINES["inprocess"](folder.config(), folder, lambda row: None)


def is_whole(folder: Folder, whole: Folder) -> bool:
    """Finished with the same bytes as the run that met no fault, and with a sound history."""
    assert folder.status() == ("finished", "")
    assert violations(folder.path, ledgers(folder), whole.path) == []
    theta = "theta.safetensors"
    return (folder.path / theta).read_bytes() == (whole.path / theta).read_bytes()


# ------------------------------------------------------------------------------ a full disk


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_is_full_at_a_checkpoint(
    whole: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, real, count = begun(tmp_path / "run"), checkpoint.write_synced, iter(range(99))

    def write(path: Path, content: bytes) -> None:
        (full if next(count) == 3 else real)(path, content)  # the manifest of round 2

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_synced", write)
        with pytest.raises(OSError, match="No space left"):
            carry_out(folder)
    status, reason = folder.status()
    assert (status, "No space left" in reason) == ("failed", True)
    state = latest_state(folder.checkpoints, folder.config().canonical())
    assert state is not None
    assert state.round == 1
    carry_out(folder)
    assert is_whole(folder, whole)


@contextmanager
def no_space_after(commits: int) -> Iterator[pytest.MonkeyPatch]:
    """Ledgers of which none can grow any more, after so many transactions of all of them."""
    real, count = file.connected, iter(range(10_000))

    @contextmanager
    def connected(path: Path) -> Iterator[sqlite3.Connection]:
        with real(path) as db:
            if next(count) >= commits:
                (pages,) = db.execute("PRAGMA page_count").fetchone()
                db.execute(f"PRAGMA max_page_count = {max(pages, 1)}")
            yield db

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file, "connected", connected)
        yield patch


@pytest.mark.parametrize("commits", [0, 2, 30, 40, 50])
def test_a_disk_that_is_full_at_the_ledgers(commits: int, whole: Folder, tmp_path: Path) -> None:
    """SQLite's own "disk is full", while ledgers are made, charged, and store replies."""
    folder = begun(tmp_path / "run")
    with no_space_after(commits), pytest.raises(QuorumError, match="ledger-unwritable"):
        carry_out(folder)
    assert [path for path in folder.hospitals.glob("*/*.sqlite") if verify(path)] == []
    carry_out(folder)
    assert is_whole(folder, whole)


def tiny(place: Path, kibibytes: int) -> None:
    """Mount a disk of this size, or change the size of the one that is there."""
    size = f"size={kibibytes}k"
    what = ["-o", f"remount,{size}"] if os.path.ismount(place) else ["-t", "tmpfs", "-o", size]
    words = ["mount", *what, *([] if os.path.ismount(place) else ["tmpfs"]), str(place)]
    subprocess.run(words, check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 40 KiB, where this process may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    try:
        tiny(place, 40)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a tmpfs")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.faults
def test_a_small_disk_that_grows_a_little_after_each_failure(whole: Folder, disk: Path) -> None:
    """So the run meets the end of the disk in one file after the other."""
    folder, kibibytes, met = begun(disk / "run"), 40, set[str]()
    while True:
        try:
            carry_out(folder)
            break
        except (MetawardError, OSError) as error:
            met.add(type(error).__name__ if str(error) else "nameless")
        kibibytes += 24
        assert kibibytes < 4000, f"the run never finished; it met {met}"
        tiny(disk, kibibytes)
    assert {"OSError", "QuorumError"} <= met, "the server's files and the ledgers"
    assert "nameless" not in met
    assert is_whole(folder, whole)


# ------------------------------------------------------------------- files that are damaged

Damage = Callable[[bytes], bytes]
DAMAGES: dict[str, Damage] = {
    "cut": lambda good: good[: len(good) // 2],
    "empty": lambda good: b"",
    "flipped": lambda good: good[:-9] + bytes([good[-9] ^ 1]) + good[-8:],
}


@pytest.fixture
def interrupted(whole: Folder, tmp_path: Path) -> Folder:
    """A copy of a run that ended when its last checkpoint was written, round 2."""
    shutil.copytree(whole.path, tmp_path / "run")
    folder = Folder(tmp_path / "run")
    shutil.rmtree(folder.checkpoints / "round-000003")
    folder.set_status("interrupted", "stopped by the user")
    return folder


def damaged(path: Path, how: Damage) -> AbstractContextManager[None]:
    """The file with other content, and put back afterwards."""

    @contextmanager
    def change() -> Iterator[None]:
        good = path.read_bytes()
        path.write_bytes(how(good))
        yield
        path.write_bytes(good)

    return change()


@pytest.mark.parametrize("how", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("name", ["state.safetensors", "manifest.json"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_enough(
    name: str, how: Damage, interrupted: Folder, whole: Folder
) -> None:
    newest = interrupted.checkpoints / "round-000002"
    with damaged(newest / name, how), pytest.raises(CheckpointError, match="round-000002"):
        carry_out(interrupted)
    assert "CheckpointError" in interrupted.status()[1]
    shutil.rmtree(newest)
    carry_out(interrupted)
    assert is_whole(interrupted, whole)


@pytest.mark.parametrize("how", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_ledger_refuses_and_the_newest_copy_is_enough(
    how: Damage, interrupted: Folder, whole: Folder
) -> None:
    path = sorted(ledgers(interrupted).values())[0]
    good = path.read_bytes()
    path.write_bytes(how(good) if how(good) != good else b"")
    assert verify(path)
    path.write_bytes(good)
    carry_out(interrupted)
    assert is_whole(interrupted, whole)


@pytest.mark.parametrize("name", ["audit.jsonl", "metrics.jsonl"])
def test_a_last_line_that_a_crash_cut_short_does_not_stop_a_resume(
    name: str, interrupted: Folder
) -> None:
    path = interrupted.path / name
    path.write_bytes(path.read_bytes()[:-20])
    carry_out(interrupted)
    assert interrupted.status() == ("finished", "")
    found = [one.name for one in violations(interrupted.path, ledgers(interrupted))]
    assert set(found) <= {"unnamed-cause"} if name == "audit.jsonl" else found == []
