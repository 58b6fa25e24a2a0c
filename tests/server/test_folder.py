"""The result folder: torn lines, going back, and never over another run's results."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from metaward import sim
from metaward.errors import InputError
from metaward.options import ConfigError
from metaward.privacy import Mark
from metaward.server.folder import BusyError, Folder, FolderTakenError, claimed
from metaward.strategies.marks import SeenMark
from tests.server.small import small

ROWS = [{"round": n, "loss": n / 3, "who": ["é", "\u2028"]} for n in (1, 2, 2, 3, 4)]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "run")


@pytest.fixture
def filled(folder: Folder) -> Folder:
    folder.path.mkdir()
    for row in ROWS:
        folder.add(row)
    return folder


# ------------------------------------------------------------------------- configuration


def test_configuration_comes_back_whole(folder: Folder) -> None:
    run = replace(small("server.rounds=3"), data=sim.Data("/data/ä😀"))
    assert not folder.exists()
    folder.create(run)
    assert folder.exists()
    assert folder.config() == run


def test_a_run_is_never_overwritten(folder: Folder) -> None:
    folder.create(small())
    before = (folder.path / "config.json").read_bytes()
    with pytest.raises(FileExistsError, match=r"already holds a run.*metaward resume .*run"):
        folder.create(small("seed=9"))
    assert (folder.path / "config.json").read_bytes() == before


def test_folder_with_other_files_may_be_used(folder: Folder) -> None:
    (folder.path / "notes").mkdir(parents=True)
    folder.create(small())
    assert folder.exists()


@pytest.mark.parametrize("name", ["report.md", "hospitals", "curve.png"])
def test_what_somebody_else_wrote_is_not_written_over(name: str, folder: Folder) -> None:
    folder.path.mkdir()
    (folder.path / name).write_text("mine")
    with pytest.raises(FolderTakenError, match=f"holds {name}, which the run would write over"):
        folder.create(small())
    assert (folder.path / name).read_text() == "mine"
    assert not folder.exists()


def test_of_many_that_claim_a_folder_at_once_one_gets_it(tmp_path: Path) -> None:
    """Forty times; the folder then holds the configuration of the one that got it."""

    def claim(job: tuple[Path, int]) -> int | None:
        path, seed = job
        try:
            Folder(path).create(small(f"seed={seed}"))
        except FolderTakenError:
            return None
        return seed

    for trial in range(40):
        path = tmp_path / str(trial)
        with ThreadPoolExecutor(6) as pool:
            got = [
                seed for seed in pool.map(claim, [(path, k) for k in range(6)]) if seed is not None
            ]
        assert len(got) == 1
        assert Folder(path).config().seed == got[0]
        assert not list(path.glob("*.writing"))


def test_runs_that_start_in_one_second_get_folders_of_their_own(tmp_path: Path) -> None:
    run = small(f"server.out={tmp_path}")
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: claimed(run, None).path, range(8)))
    assert len(set(folders)) == 8
    assert {path.parent for path in folders} == {tmp_path}


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("x" * 300, InputError, "File name too long; name another file or folder"),
        ("file/below", ConfigError, "cannot be written"),
    ],
)
def test_a_folder_that_cannot_be_made_is_one_line(
    name: str, error: type[Exception], text: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(error, match=text):
        Folder(tmp_path / name).create(small())


def test_a_file_in_the_way_is_an_error(folder: Folder) -> None:
    folder.path.write_text("not a folder")
    with pytest.raises(FileExistsError):
        folder.create(small())


@pytest.mark.parametrize("content", ["", "{", "null", '{"seed": 3}', '{"name": "x", "nmae": 1}'])
def test_damaged_configuration_is_named(folder: Folder, content: str) -> None:
    folder.create(small())
    (folder.path / "config.json").write_text(content)
    with pytest.raises(ConfigError, match=r"run/config\.json: "):
        folder.config()


def test_configuration_is_written_whole_or_not_at_all(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(ConfigError, match=r"cannot be written \(no space"):
            folder.create(small())
    assert not folder.exists()
    folder.create(small())
    assert folder.config() == small()


# ------------------------------------------------------------------------------ metrics


def test_rows_come_back_in_order(filled: Folder) -> None:
    assert list(filled.rows()) == ROWS


def test_no_rows_before_the_first(folder: Folder) -> None:
    assert list(folder.rows()) == []


def test_a_last_line_cut_short_is_left_out_wherever_it_was_cut(filled: Folder) -> None:
    path = filled.path / "metrics.jsonl"
    whole = path.read_bytes()
    last = whole[:-1].rindex(b"\n") + 1
    for cut in range(last, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert list(filled.rows()) == ROWS[:-1]
    path.write_bytes(whole[:-1])
    assert list(filled.rows()) == ROWS, "only the line's end is missing"


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4, 9])
def test_rewind_drops_what_a_resumed_run_writes_again(filled: Folder, number: int) -> None:
    kept = [row for row in ROWS if row["round"] <= number]  # type: ignore[operator]
    filled.rewind(number)
    assert list(filled.rows()) == kept
    filled.add({"round": number + 1})
    assert list(filled.rows()) == [*kept, {"round": number + 1}]


def test_rewind_mends_a_torn_line(filled: Folder) -> None:
    """Without it, the next line would be written behind the torn one, and both would be lost."""
    path = filled.path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    filled.rewind(4)
    filled.add({"round": 5})
    assert list(filled.rows()) == [*ROWS[:-1], {"round": 5}]


def test_rewind_of_nothing_makes_an_empty_file(folder: Folder) -> None:
    baseline = folder.baseline("fedavg")
    baseline.rewind(0)
    assert (folder.path / "baselines" / "fedavg" / "metrics.jsonl").read_bytes() == b""


# ------------------------------------------------------------------------ status and lock


def test_status_is_absent_then_what_was_set(folder: Folder) -> None:
    assert folder.status() == ("absent", "")
    folder.path.mkdir()
    folder.set_status("running")
    assert folder.status() == ("running", "")
    folder.set_status("failed", "QuorumError: round 3")
    assert folder.status() == ("failed", "QuorumError: round 3")
    assert json.loads((folder.path / "status.json").read_text())["status"] == "failed"


def test_one_process_at_a_time(filled: Folder) -> None:
    with filled.lock():
        other = Folder(filled.path)
        with pytest.raises(BusyError, match=r"run: another process"), other.lock():
            pytest.fail("two are in the folder")
    with filled.lock():
        pass


def test_lock_is_given_back_by_a_run_that_fails(filled: Folder) -> None:
    with pytest.raises(ValueError, match="the run"), filled.lock():
        raise ValueError("the run")
    with filled.lock():
        pass


def test_places(folder: Folder) -> None:
    assert folder.checkpoints == folder.path / "checkpoints"
    assert folder.hospital_log == folder.path / "hospitals.log"
    assert folder.baseline("x").checkpoints == folder.path / "baselines" / "x" / "checkpoints"


# ------------------------------------------------------------------------------- damaged files


def seen(hospital: str) -> SeenMark:
    return SeenMark(hospital, "run", 1, Mark("ledger", 3, "0" * 64))


def test_marks_come_back(folder: Folder) -> None:
    marks = folder.marks()
    for name in ("a", "b"):
        marks.note([seen(name)])
    assert folder.marks().seen == [seen("a"), seen("b")]


@pytest.mark.parametrize("line", ['{"hospital": "sine-0', "{}", "[]", "\0"])
def test_a_line_that_is_no_mark_is_named(line: str, folder: Folder) -> None:
    """One that a crash cut short, too: without it a ledger that was set back could pass."""
    folder.marks().note([seen("a")])
    path = folder.path / "marks.jsonl"
    path.write_text(path.read_text() + line)
    with pytest.raises(ConfigError, match=r"marks\.jsonl: is damaged: line 2 is no mark"):
        folder.marks()


@pytest.mark.parametrize("name", ["run.json", "status.json"])
@pytest.mark.parametrize("content", ["", "{", "[1]", "\0"])
def test_a_damaged_file_is_one_line(name: str, content: str, folder: Folder) -> None:
    folder.create(small())
    folder.set_status("running")
    (folder.path / name).write_text(content)
    with pytest.raises(ConfigError, match=f"{name}: is damaged"):
        folder.status() if name == "status.json" else folder.about()
