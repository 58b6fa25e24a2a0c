"""The documents keep to their own rules."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from metaward import sim

DOCS = sim.HERE / "docs"
DECISIONS = sorted((DOCS / "decisions").glob("*.md"))
PAGES = [sim.HERE / "README.md", sim.HERE / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]


def test_there_are_decisions_with_numbers_of_their_own() -> None:
    numbers = [int(path.name[:4]) for path in DECISIONS]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 10


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.name)
def test_a_decision_is_short_and_titled(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# {int(path.name[:4])}. ")
    assert len(text.split()) <= 200


def headings(path: Path) -> set[str]:
    """The names by which links reach a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in found}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_between_pages_lead_somewhere(path: Path) -> None:
    """To a file or folder that is there, and to a heading that it has."""
    for target, heading in re.findall(
        r"\]\(([^)#]*)(?:#([^)]*))?\)", path.read_text(encoding="utf-8")
    ):
        if "://" in target:
            continue
        place = path.parent / target if target else path
        assert place.exists(), target
        assert not heading or heading in headings(place), f"{target}#{heading}"


def test_every_page_stands_in_the_index_with_a_sentence() -> None:
    """Decisions as a folder; pictures stand in the pages that show them."""
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| \[([^\]]+)\]\(([^)]+)\) \| ([^|]+) \|$", text, re.MULTILINE)
    listed = {target for _, target, _ in lines}
    there = {path.name for path in DOCS.iterdir() if not path.name.startswith((".", "__"))}
    assert listed == there - {"index.md", "images"}
    assert all(name == target and what.endswith(".") for name, target, what in lines)
    assert text.count("\n## ") == 4


def test_every_picture_is_shown_on_a_page() -> None:
    shown = "".join(path.read_text(encoding="utf-8") for path in PAGES)
    pictures = sorted((DOCS / "images").iterdir())
    assert len(pictures) > 2
    for picture in pictures:
        assert f"images/{picture.name})" in shown, picture.name
