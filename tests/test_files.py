"""Files that only grow: every line stays whole, also after a crash."""

from __future__ import annotations

from pathlib import Path

from metaward.files import append_line


def test_lines_are_added_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for text in ("first", "zweite Zeile: ä", "third"):
        append_line(path, text)
    assert path.read_text(encoding="utf-8") == "first\nzweite Zeile: ä\nthird\n"


def test_a_line_that_was_cut_short_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"whole": 1}\n{"cut')
    append_line(path, '{"whole": 2}')
    assert path.read_bytes().splitlines() == [b'{"whole": 1}', b'{"cut', b'{"whole": 2}']
