"""Options of `metaward evaluate` that take several numbers."""

from __future__ import annotations

from itertools import takewhile

import click
from typer.core import TyperCommand

LISTS = ("--shots", "--steps")


class WithLists(TyperCommand):
    """A command whose ``LISTS`` take several numbers: `--shots 1 5 10` as well as `--shots 1,5`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Join the numbers after each of these options to one argument."""
        joined, rest = list[str](), list(args)
        while rest:
            joined.append(rest.pop(0))
            numbers = list(takewhile(str.isdigit, rest)) if joined[-1] in LISTS else []
            rest = rest[len(numbers) :]
            joined += [",".join(numbers)] if numbers else []
        return super().parse_args(ctx, joined)
