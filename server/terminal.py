"""Text, tables and warnings on a terminal, in the same form for every command."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from metaward.json_text import plain_value

Piece = RenderableType
GOOD, BAD, WARN, FAINT = "bold green", "bold red", "bold yellow", "dim"


NARROWEST, WIDEST = 116, 200
"""The least width of what is printed, and the largest one of a table in a file or a pipe."""


def say(*pieces: Piece) -> None:
    """Print the pieces; ``Text`` is not wrapped, so paths stay whole. A table in a file or a pipe
    is as wide as its cells need.

    Square brackets are text, never markup.
    """
    for piece in pieces:
        console = Console(width=_width(piece), highlight=False, markup=False)
        console.print(piece, soft_wrap=isinstance(piece, Text))


def _width(piece: Piece) -> int:
    console = Console()
    if console.is_terminal or not isinstance(piece, Table | Group):
        return max(NARROWEST, console.width)
    return max(NARROWEST, Console(width=WIDEST, markup=False).measure(piece).maximum)


def answer(content: Any, pieces: Sequence[Piece], as_json: bool) -> None:
    """Print a command's answer: ``content`` as JSON for programs, or ``pieces`` for people."""
    if as_json:
        print(json.dumps(plain_value(content), indent=1))
    else:
        say(*pieces)


def tell(text: str, style: str = "") -> None:
    """Print a line on standard error, without wrapping."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(text, style=style, markup=False)


def complain(text: str) -> None:
    """Print what went wrong, in red on standard error."""
    tell(text, "red")


def safe(text: str) -> str:
    """The text with control characters replaced, so that it cannot steer the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def warning(text: str) -> Panel:
    """A panel with the title NO PRIVACY in large letters."""
    return Panel(Text(safe(text)), title="N O   P R I V A C Y", style=BAD, box=box.DOUBLE)


def line(text: str, style: str = "") -> Text:
    """A line in a colour."""
    return Text(safe(text), style=style)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str | None = None,
    right: Collection[str] = (),
    unbroken: Collection[str] = (),
) -> Table:
    """Rows under their columns; ``right`` are set to the right, ``unbroken`` stay on one line."""
    made = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1))
    for name in columns:
        made.add_column(
            line(name),
            justify="right" if name in right else "left",
            overflow="fold",
            no_wrap=name in unbroken,
        )
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else safe(str(cell)) for cell in row))
    return made
