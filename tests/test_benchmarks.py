"""The page of benchmarks says what the saved figures say."""

from __future__ import annotations

import json

from tests.scripts import BENCHMARKS, script

page = script("page")


def test_its_tables_are_those_of_the_saved_figures() -> None:
    written = page.PAGE.read_text(encoding="utf-8")
    assert page.made(written) == written, "run benchmarks/page.py"


def test_every_table_stands_on_the_page_once() -> None:
    marks = [match[2] for match in page.MARKED.finditer(page.PAGE.read_text(encoding="utf-8"))]
    assert sorted(marks) == sorted(page.TABLES)


def test_a_table_follows_its_figures() -> None:
    """The first test would pass with tables that ignore the figures."""
    for file, make in page.TABLES.values():
        text = (BENCHMARKS / "results" / file).read_text(encoding="utf-8")
        others = json.loads(text, parse_float=lambda number: float(number) * 3 + 1)
        assert make(json.loads(text)) != make(others), file
