"""A result folder that was damaged or written by hand: every file that says how a run is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from hypothesis import strategies as st

from metaward.privacy import Mark
from metaward.result import Result
from metaward.server.engines.progress import Tail
from metaward.server.folder import Folder
from metaward.strategies.marks import SeenMark
from tests.fuzz.damage import TREES, altered, damaged
from tests.fuzz.harness import Counted, fuzz, inputs
from tests.server.small import small

ABOUT = {"id": "00ff", "started": "now", "simulated": True, "starts": 1, "code": ["abc"]}
STATUS = {"status": "failed", "reason": "why", "at": "now"}
MARK = {
    "hospital": "a",
    "run": "r",
    "round": 3,
    "mark": {"ledger": "0", "sequence": 3, "head": "0"},
}
ROW = {"round": 3, "loss": 0.5, "accepted": ["a"]}
DEEP = b"[" * 100_000


def contents(good: object) -> st.SearchStrategy[bytes]:
    """A JSON text with a part changed, any JSON, or damaged bytes."""
    trees = (altered(good) | TREES).map(json.dumps).map(str.encode)
    return trees | damaged(json.dumps(good).encode()) | st.just(b"")


def fuzz_file(
    number: int,
    name: str,
    good: object,
    read: Callable[[Folder], object],
    counted: Counted,
    tmp: Path,
) -> None:
    """Throw contents at one file of a folder in which all others are good."""
    folder = Folder(tmp / "run")
    folder.create(small())

    def write(content: bytes) -> None:
        (folder.path / name).write_bytes(content)
        read(folder)

    fuzz(number, contents(good), write, counted, [DEEP, b"{}", b"\xff", b"null"])


@inputs(25, 300)
def test_run_json(number: int, counted: Counted, tmp_path: Path) -> None:
    def read(folder: Folder) -> None:
        folder.begin(True, "def")
        assert isinstance(folder.id, str)
        assert folder.about()["code"][-1] == "def"

    fuzz_file(number, "run.json", ABOUT, read, counted, tmp_path)


@inputs(25, 300)
def test_status_json(number: int, counted: Counted, tmp_path: Path) -> None:
    def read(folder: Folder) -> None:
        status, reason = folder.status()
        assert status in ("running", "finished", "failed", "interrupted")
        assert isinstance(reason, str)
        assert isinstance(folder.since(), str | None)

    fuzz_file(number, "status.json", STATUS, read, counted, tmp_path)


@inputs(25, 300)
def test_config_json(number: int, counted: Counted, tmp_path: Path) -> None:
    def read(folder: Folder) -> None:
        run = folder.config()
        folder.write_json("config.json", run.mapping())
        assert folder.config() == run

    fuzz_file(number, "config.json", small().mapping(), read, counted, tmp_path)


@inputs(25, 300)
def test_result_json(number: int, counted: Counted, tmp_path: Path) -> None:
    """The file that a program reads a result from."""
    good = {"tables": [{"metric": "mse", "rows": [{"learner": "a"}]}], "kept": [{"round": 3}]}

    def read(folder: Folder) -> None:
        result = Result(folder.path)
        assert isinstance(result.table, list)
        assert isinstance(result.kept, dict)

    fuzz_file(number, "result.json", good, read, counted, tmp_path)


@st.composite
def lines(draw: st.DrawFn, good: object) -> bytes:
    """A few good lines, with others between them, and perhaps a last one that is cut."""
    line = json.dumps(good).encode() + b"\n"
    return draw(st.lists(st.just(line) | contents(good), max_size=3).map(b"".join))


@inputs(25, 400)
def test_metrics(number: int, counted: Counted, tmp_path: Path) -> None:
    folder = Folder(tmp_path / "run")
    folder.create(small())

    def read(content: bytes) -> None:
        path = folder.path / "metrics.jsonl"
        path.write_bytes(content)
        assert all(isinstance(row, dict) for row in Tail().rows(path))
        rows = list(folder.rows())
        folder.rewind(3)
        assert list(folder.rows()) == [row for row in rows if row["round"] <= 3]

    fuzz(number, lines(ROW), read, counted, [b"3\n", b"\xff\n", b'{"round": null}\n', DEEP + b"\n"])


@inputs(25, 400)
def test_marks(number: int, counted: Counted, tmp_path: Path) -> None:
    folder = Folder(tmp_path / "run")
    folder.create(small())

    def read(content: bytes) -> None:
        (folder.path / "marks.jsonl").write_bytes(content)
        marks = folder.marks()
        marks.last("a")
        marks.note([SeenMark("b", "r", 1, Mark("1", 1, "1"))])
        assert folder.marks().seen[:-1] == marks.seen

    known = [DEEP, b"3", json.dumps(MARK | {"round": "3"}).encode() + b"\n"]
    fuzz(number, lines(MARK), read, counted, known)
