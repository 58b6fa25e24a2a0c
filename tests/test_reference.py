"""The reference of all yaml keys says what the types say, and explains every one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
from pydantic import Field

from metaward import sim
from metaward.reference import Key, keys, meanings, page

PAGE = sim.HERE / "docs" / "reference.md"


def test_the_page_is_what_the_types_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "print it anew: python -m metaward.reference > docs/reference.md"
    )


def test_every_key_of_the_default_run_is_on_it() -> None:
    text = PAGE.read_text(encoding="utf-8")

    def walk(mapping: dict[str, object]) -> None:
        for key, value in mapping.items():
            if isinstance(value, dict):
                walk(value)
            else:
                assert f"`{key}`" in text or f"{key}: {value}`" in text, key

    walk(sim.load(sim.DEFAULT).mapping())


@dataclass(frozen=True)
class Explained:
    size: Annotated[int, Field(ge=1, le=9)] = 3
    """How large it is,
    in cells."""
    names: tuple[str, ...] = ()
    """What is in it."""


@dataclass(frozen=True)
class Silent(Explained):
    depth: float | None = None


def test_a_key_has_name_type_default_range_and_meaning() -> None:
    assert keys(Explained) == [
        Key("size", "whole number", "`3`", "at least 1, at most 9", "How large it is, in cells."),
        Key("names", "list of text", "`[]`", "", "What is in it."),
    ]


def test_a_key_that_nobody_explains_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Silent: no text below depth"):
        meanings(Silent)
