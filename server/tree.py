"""All commands as one tree, in which every argument and option says what it is for."""

from __future__ import annotations

from collections.abc import Iterator

import click
from typer.utils import get_params_from_function

Path = tuple[str, ...]


def leaves(command: click.Command, path: Path = ()) -> Iterator[tuple[Path, click.Command]]:
    """Every command that does something, with the words that call it."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        _, below, _ = command.resolve_command(context, [name])
        assert below is not None
        yield from leaves(below, (*path, name))


def explain(command: click.Command) -> None:
    """Give the arguments of a command, and of those below it, their texts back.

    click 8.5 forgets the texts of arguments that typer 0.20, the last one that Flower allows, hands
    to it.
    """
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        explain(below)
    said = get_params_from_function(command.callback) if command.callback else {}
    for one in command.params:
        if isinstance(one, click.Argument):
            one.help = getattr(said[str(one.name)].default, "help", None)
