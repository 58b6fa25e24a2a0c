"""The command from any folder: version, completion, ``python -m``, files with names of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from metaward.sim import HERE
from tests.door.test_shipping import python
from tests.server.small import small

CALLS = [("-m", "metaward"), ("-c", "from metaward.server.cli import main; main()")]
NAMES = ("client", "server", "sim", "options", "privacy", "strategies", "sections", "errors")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder with files and packages whose names are those of our folders."""
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('{name} of the user')\n")
    for name in ("tests", "configs", "policies"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('of the user')\n")
    return tmp_path


@pytest.mark.parametrize("call", CALLS, ids=["python -m", "script"])
def test_the_version_is_printed_and_nothing_else(call: tuple[str, str], folder: Path) -> None:
    done = python(*call, "--version", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"metaward {version('metaward')}")
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_a_run_in_such_a_folder(folder: Path) -> None:
    """Its worker processes too: they start in the same folder."""
    (folder / "own.yaml").write_text(_yaml(), encoding="utf-8")
    done = python("-m", "metaward", "run", "own.yaml", "--out", "out", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "out" / "result.json").is_file()
    assert "of the user" not in (folder / "out" / "hospitals.log").read_text(encoding="utf-8")


def _yaml() -> str:
    import yaml

    run = small("server.rounds=1", "server.workers=2", "server.evaluation.baselines=[]")
    return str(yaml.safe_dump(run.mapping()))


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("metaward pri", "privacy"),
        ("metaward privacy pl", "plan"),
        ("metaward run --eng", "--engine"),
    ],
)
def test_the_shell_completes(typed: str, offered: str, tmp_path: Path) -> None:
    """As the line that ``--show-completion`` prints asks for it."""
    script = "import sys; sys.argv = ['metaward']; from metaward.server.cli import main; main()"
    words = typed.split(" ")
    environment = {
        **os.environ,
        "PYTHONPATH": str(HERE),
        "_METAWARD_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert offered in done.stdout.split(), done.stderr


def test_completion_can_be_installed(tmp_path: Path) -> None:
    done = python("-m", "metaward", "--help", cwd=tmp_path, COLUMNS="200", NO_COLOR="1")
    for option in ("--version", "--install-completion", "--show-completion"):
        assert option in done.stdout
