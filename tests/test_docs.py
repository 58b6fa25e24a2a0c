"""The documents keep to their own rules."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from metaward import sim

DECISIONS = sorted((sim.HERE / "docs" / "decisions").glob("*.md"))
PAGES = [sim.HERE / "README.md", *sorted((sim.HERE / "docs").rglob("*.md"))]


def test_there_are_decisions_with_numbers_of_their_own() -> None:
    numbers = [int(path.name[:4]) for path in DECISIONS]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 10


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.name)
def test_a_decision_is_short_and_titled(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# {int(path.name[:4])}. ")
    assert len(text.split()) <= 200


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_between_pages_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), target
