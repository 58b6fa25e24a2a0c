"""All commands as one tree, in which every argument and option says what it is for."""

from __future__ import annotations

from collections.abc import Iterator

import click
import typer
from typer.main import get_command
from typer.utils import get_params_from_function

Path = tuple[str, ...]


def tree(cli: typer.Typer) -> click.Command:
    """The command that a shell calls.

    click 8.5 forgets the texts of arguments that typer 0.20, the last one that Flower allows, hands
    to it; here each argument gets its own back.
    """
    root = get_command(cli)
    for _, command in leaves(root):
        _explain(command)
    return root


def leaves(command: click.Command, path: Path = ()) -> Iterator[tuple[Path, click.Command]]:
    """Every command that does something, with the words that call it."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    for name, below in command.commands.items():
        yield from leaves(below, (*path, name))


def _explain(command: click.Command) -> None:
    said = get_params_from_function(command.callback) if command.callback else {}
    for one in command.params:
        if isinstance(one, click.Argument):
            one.help = getattr(said[str(one.name)].default, "help", None)
