"""The reference of all commands, made from the commands themselves.

``python -m metaward.commands`` prints ``docs/commands.md``. A test compares the page with what is
printed here, so that neither can change alone.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from typer.main import get_command

from metaward.server.cli import cli
from metaward.server.tree import leaves

HEAD = """# All commands

This page is printed by `python -m metaward.commands`; do not edit it by hand. Every command has
`--help`, which says the same. Exit codes: 0 finished, 1 failed, 2 bad
input and nothing was started, 130 interrupted.
"""
ABOUT_ALL = ("--version", "--install-completion", "--show-completion")


def main() -> None:
    """Print the page."""
    print(page(), end="")


def page() -> str:
    """The whole page in Markdown."""
    root = get_command(cli)
    general = [one for one in root.params if set(one.opts) & {*ABOUT_ALL}]
    first = _section("metaward", "Options without a command.", general)
    sections = [
        _section(f"metaward {' '.join(path)}", inspect.cleandoc(command.help or ""), command.params)
        for path, command in leaves(root)
    ]
    return "\n".join([HEAD, first, *sections])


def _section(title: str, text: str, params: Sequence[click.Parameter]) -> str:
    shown = [one for one in params if not getattr(one, "hidden", False)]
    places = [one for one in shown if isinstance(one, click.Argument)]
    names = (_name(one) if one.required else f"[{_name(one)}]" for one in places)
    calls = " ".join(
        [
            title,
            *(name + " ..." * (one.nargs == -1) for one, name in zip(places, names, strict=True)),
        ]
    )
    lines = [f"## {title}\n", f"    {calls} [options]\n", f"{' '.join(text.split())}\n"]
    return "\n".join([*lines, *_table(shown)])


def _table(params: Sequence[click.Parameter]) -> Iterator[str]:
    yield "| name | value | default | meaning |\n|---|---|---|---|"
    for one in params:
        cells = (_names(one), _value(one), _default(one), meaning(one))
        yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"
    yield ""


def meaning(one: click.Parameter) -> str:
    """What a parameter is for, on one line; ``ValueError`` where its command does not say."""
    text = getattr(one, "help", None)
    if not text:
        raise ValueError(f"{one.opts}: no help")
    return " ".join(str(text).split())


def _names(one: click.Parameter) -> str:
    if isinstance(one, click.Argument):
        return _name(one)
    return ", ".join(f"`{name}`" for name in (*one.opts, *one.secondary_opts))


def _name(one: click.Parameter) -> str:
    return (one.metavar or str(one.name)).upper().removesuffix("...")


def _value(one: click.Parameter) -> str:
    if getattr(one, "is_flag", False):
        return ""
    kinds = {"integer": "whole number", "integer range": "whole number", "float": "number"}
    kind = one.type
    if isinstance(kind, click.Choice):
        return ", ".join(f"`{choice}`" for choice in kind.choices)
    limits = kind._describe_range() if isinstance(kind, click.IntRange | click.FloatRange) else ""
    several = ", can be repeated" if getattr(one, "multiple", False) or one.nargs == -1 else ""
    return f"{kinds.get(kind.name, kind.name)}{' ' if limits else ''}{limits}{several}"


def _default(one: click.Parameter) -> str:
    if one.required:
        return "*required*"
    shown: Any = getattr(one, "show_default", None)
    text = shown if isinstance(shown, str) else one.default
    plain = text is None or isinstance(text, bool) or callable(text)
    return "" if plain or re.search("unset", str(text), re.I) else f"`{_short(text)}`"


def _short(value: Any) -> str:
    return value.name if isinstance(value, Path) else str(value)


if __name__ == "__main__":
    main()
