"""Commands that are imported when they are called.

A list of all commands, a completion or a mistyped name then needs none of their imports, and a
command waits for its own imports only.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click
import typer
from typer.core import TyperCommand, TyperGroup

from metaward.server.tree import explain


class Late(NamedTuple):
    """A command: where it is, as ``module:name``, and the first lines of its help.

    It is a function, made a command of class ``cls``, or a ``typer.Typer`` with commands.
    """

    home: str
    help: str
    cls: type[TyperCommand] = TyperCommand


class LateCommand(click.Command):
    """A command of which only the name and the help are known."""

    def __init__(self, name: str, late: Late) -> None:
        super().__init__(name, help=late.help)
        self.late = late

    def load(self) -> click.Command:
        """The command itself, as if an app had it from the start."""
        module, _, attribute = self.late.home.partition(":")
        found = getattr(import_module(module), attribute)
        app = typer.Typer(suggest_commands=False)  # click suggests them already
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=self.name)
        else:
            app.command(self.name, cls=self.late.cls)(found)
        command = typer.main.get_group(app).commands[str(self.name)]
        explain(command)
        return command


def late_group(commands: Mapping[str, Late]) -> type[TyperGroup]:
    """A class of groups, for ``typer.Typer(cls=...)``, that have these commands by name."""

    class LateGroup(TyperGroup):
        """Shows what is known of its commands, and loads the one that is called."""

        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes)
            for name, late in commands.items():
                self.add_command(LateCommand(name, late))

        def resolve_command(
            self, ctx: click.Context, args: list[str]
        ) -> tuple[str | None, click.Command | None, list[str]]:
            name, command, rest = super().resolve_command(ctx, args)
            return name, command.load() if isinstance(command, LateCommand) else command, rest

    return LateGroup
