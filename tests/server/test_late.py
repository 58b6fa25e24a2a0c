"""What a command imports before it works, and what is said of commands that are not imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from metaward.server import cli
from metaward.server.late import Late, LateCommand
from metaward.server.office import commands
from tests.door.test_shipping import python

SLOW = {"matplotlib", "onnx", "opacus", "pandas", "ray", "scipy.ndimage", "scipy.stats", "sklearn"}
"""Libraries that take long to import, and that few commands need."""
TRUNK = {"torch", "numpy", "scipy", "flwr", "pydantic", "metaward.sim"}
"""What every run needs, and a list of commands does not."""
SCRIPT = """
import sys
from metaward.server.cli import main
try:
    main()
except SystemExit as end:
    print(end.code, *sys.modules)
"""


def loaded(folder: Path, *arguments: str) -> tuple[int, set[str]]:
    """The exit code of a command in a process of its own, and the modules that it imported."""
    done = python("-c", SCRIPT, *arguments, cwd=folder)
    assert done.stdout, done.stderr
    code, *names = done.stdout.splitlines()[-1].split()
    return int(code), set(names)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["rnu"], ["privacy", "--help"]])
def test_what_only_tells_of_commands_imports_none(arguments: list[str], tmp_path: Path) -> None:
    code, names = loaded(tmp_path, *arguments)
    assert code == (2 if arguments == ["rnu"] else 0)
    assert "metaward.server.cli" in names
    assert not names & (SLOW | TRUNK)


def test_a_wrong_key_is_found_before_slow_libraries_are_imported(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("extends: sim.yaml\nnam: mistyped\n", encoding="utf-8")
    code, names = loaded(tmp_path, "run", "run.yaml")
    assert code == 2
    assert names >= TRUNK, "else the names of modules have changed, and this test sees nothing"
    assert not names & SLOW


LATE = [*cli.COMMANDS.items(), *commands.COMMANDS.items()]


@pytest.mark.parametrize(("name", "late"), LATE, ids=[late.home for _, late in LATE])
def test_what_is_said_of_a_command_is_what_it_says_of_itself(name: str, late: Late) -> None:
    said = str(LateCommand(name, late).load().help)
    assert " ".join(said.partition("\n\n")[0].split()) == late.help
