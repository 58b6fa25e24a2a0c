"""The page of all commands has every command and option; other pages call none that is absent."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer.main
from typer.main import get_command

from metaward.commands import meaning, page
from metaward.server.cli import cli
from metaward.server.tree import leaves
from metaward.sim import HERE

PAGE = HERE / "docs" / "commands.md"
PAGES = [
    HERE / "README.md",
    *(path for path in sorted((HERE / "docs").rglob("*.md")) if path != PAGE),
]
COMMANDS = {" ".join(path): command for path, command in leaves(get_command(cli))}


def test_the_page_is_what_the_commands_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "print it anew: python -m metaward.commands > docs/commands.md"
    )


def test_every_command_and_option_of_the_tree_is_on_it() -> None:
    """Read from typer's own tree, so that nothing is left out by the printing."""
    sections = dict(re.findall(r"^## metaward ?(.*)\n([^#]*)", page(), re.MULTILINE))

    def walk(command: click.Command, words: tuple[str, ...]) -> None:
        if isinstance(command, click.Group):
            for name, below in command.commands.items():
                walk(below, (*words, name))
            return
        for option in (name for one in command.params for name in one.opts if name[0] == "-"):
            assert f"`{option}`" in sections[" ".join(words)], (words, option)

    walk(typer.main.get_command(cli), ())
    assert len(sections) == len(COMMANDS) + 1 > 15


@pytest.mark.parametrize("name", COMMANDS)
def test_every_parameter_says_what_it_is_for(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    for one in command.params:
        assert meaning(one)[0].isupper()
        assert meaning(one).endswith("."), one.opts


def test_help_shows_what_arguments_are_for(capsys: pytest.CaptureFixture[str]) -> None:
    cli(["run", "--help"], standalone_mode=False)
    shown = capsys.readouterr().out
    assert "The run's yaml file." in shown
    assert "sim.yaml" in shown
    assert str(HERE) not in shown, "the default is the same on every machine"


def shown_calls() -> Iterator[tuple[Path, str]]:
    """Each line of a page that a reader is to type, without its comment."""
    for path in PAGES:
        for line in path.read_text(encoding="utf-8").splitlines():
            found = re.match(r"    (?:\.venv/bin/)?metaward (.*?)(?:\s+#.*|\s+\\)?$", line)
            if found:
                yield path, found[1]


def alternatives(call: str) -> list[str]:
    """The second word, and where it is written as ``show|verify`` each of them."""
    return shlex.split(call)[1].split("|")


def test_pages_call_commands_and_options_that_there_are() -> None:
    calls = list(shown_calls())
    assert len(calls) > 30
    for path, call in calls:
        words = shlex.split(call)
        if words[0].startswith("-"):
            continue
        single = words[0] in COMMANDS
        names = words[:1] if single else [f"{words[0]} {one}" for one in alternatives(call)]
        for name in names:
            assert name in COMMANDS, (path.name, call)
            known = {option for one in COMMANDS[name].params for option in one.opts}
            given = {word.split("=")[0] for word in words if word.startswith("--")}
            assert given <= known, (path.name, call)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_for_people_shows_every_command(name: str) -> None:
    """In words of its own, beside the page of all commands."""
    texts = [path.read_text(encoding="utf-8") for path in PAGES]
    first, *rest = name.split()
    pattern = rf"metaward {first}" + (rf" (?:\w+\|)*{rest[0]}\b" if rest else r"\b")
    assert any(re.search(pattern, text) for text in texts)
