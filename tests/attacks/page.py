"""docs/attacks.md from the table of attacks: ``python -m tests.attacks.page`` writes it anew."""

from __future__ import annotations

from pathlib import Path

from tests.attacks.table import WHO, attacks

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "attacks.md"
HEAD = """\
# Attacks that tests try

Each line is an attack that a test carries out against the code as it is, whenever `make test` or
`make test-long` runs. What holds against whom,
and what does not, is in the [threat model](threat-model.md). This page is made from the tests' own
lists (`python -m tests.attacks.page`), and a test fails where the two differ.
"""


def text() -> str:
    """The page."""
    return "\n".join([HEAD, *(_part(who, *named) for who, named in WHO.items())])


def _part(who: str, title: str, holds: str) -> str:
    found = [one for one in attacks() if one.who == who]
    rows = [f"| {_cell(one.does)} | {one.seen} |" for one in found]
    tests = sorted({one.by.partition("::")[0] for one in found})
    tried = f"Tried by {', '.join(f'`{test}`' for test in tests)}."
    head = f"## {title}\n\n{holds} {len(found)} attacks.\n\n| the attacker | seen |\n|---|---|\n"
    return head + "\n".join(rows) + f"\n\n{tried}\n"


def _cell(words: str) -> str:
    """Words in a cell of a table: text of an attack must not act in this page either."""
    plain = "".join(c if c.isprintable() else " " for c in words)
    return plain.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
