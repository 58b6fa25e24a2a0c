"""Following the files of a run: each new line once, none of an earlier attempt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from metaward.server.engines.progress import Progress
from metaward.server.folder import Folder


def row(round: int, seconds: float = 0.5) -> dict[str, Any]:
    return {"phase": "reptile", "round": round, "seconds": seconds}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def seen() -> list[Any]:
    return []


def test_lines_come_once_and_in_order(folder: Folder, seen: list[Any]) -> None:
    progress = Progress(folder, seen.append)
    progress.show()
    folder.rewind(0)
    progress.show()
    for number in (1, 2, 3):
        folder.add(row(number))
        if number != 2:
            progress.show()
    progress.show()
    assert seen == [row(1), row(2), row(3)]


def test_a_line_being_written_is_left_for_later(folder: Folder, seen: list[Any]) -> None:
    progress = Progress(folder, seen.append)
    folder.rewind(0)
    folder.add(row(1))
    with (folder.path / "metrics.jsonl").open("a") as file:
        file.write('{"round": 2, "phase": "rep')
        file.flush()
        progress.show()
        file.write('tile"}\n')
    assert seen == [row(1)]
    progress.show()
    assert seen == [row(1), {"round": 2, "phase": "reptile"}]


def test_a_resumed_run_shows_only_what_is_new(folder: Folder, seen: list[Any]) -> None:
    folder.rewind(0)
    for number in range(1, 8):
        folder.add(row(number))
    progress = Progress(folder, seen.append)
    progress.show()
    assert seen == []
    folder.rewind(5)  # the checkpoint's round
    folder.add(row(6, 0.25))
    progress.show()
    folder.add(row(7, 0.5))  # word for word the line of the earlier attempt
    progress.show()
    assert seen == [row(6, 0.25), row(7, 0.5)]


def test_baselines_are_followed_too(folder: Folder, seen: list[Any]) -> None:
    old, new = folder.baseline("old"), folder.baseline("new")
    old.rewind(0)
    old.add(row(1))
    progress = Progress(folder, seen.append)
    new.rewind(0)
    new.add(row(2))
    progress.show()
    old.rewind(1)
    old.add(row(3))
    progress.show()
    assert seen == [row(2), row(3)]
