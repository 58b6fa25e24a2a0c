"""The page of attacks is the table, and the table names tests that there are."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from tests.attacks.page import PAGE, text
from tests.attacks.table import WHO, Attack, attacks

ROOT = PAGE.parent.parent
TABLE = list(attacks())


def test_the_page_is_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == text(), "python -m tests.attacks.page writes it anew"


def test_no_attack_stands_there_twice() -> None:
    assert [
        does for does, count in Counter((a.who, a.does) for a in TABLE).items() if count > 1
    ] == []


def test_every_attacker_has_attacks() -> None:
    assert {attack.who for attack in TABLE} == set(WHO)


@pytest.mark.parametrize("by", sorted({attack.by for attack in TABLE}))
def test_the_test_that_is_named_is_there(by: str) -> None:
    path, _, name = by.partition("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_a_name_that_is_missing_would_be_found() -> None:
    gone = Attack("server", "asks", "seen", f"{Path(__file__).relative_to(ROOT)}::test_of_nothing")
    with pytest.raises(AssertionError):
        test_the_test_that_is_named_is_there(gone.by)
