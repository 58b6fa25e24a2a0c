"""docs/notebook.py, as a reader runs it: own records, network and learner, under both engines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from metaward.sim import HERE
from tests.door.test_shipping import python

NOTEBOOK = HERE / "docs" / "notebook.py"


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What it prints on the in-process engine."""
    return run(tmp_path_factory.mktemp("notebook"), "inprocess")


def run(folder: Path, engine: str) -> list[str]:
    done = python(str(NOTEBOOK), cwd=folder, ENGINE=engine, OUT="out")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_it_learns(said: list[str]) -> None:
    """A hospital that was not there gains from the others', and more than from scratch."""
    assert said[0] in ("can work", "doubtful", "cannot work")
    own, scratch = (list(map(float, re.findall(r"\d\.\d+", line))) for line in said[-3:-1])
    assert own[1] > own[0] > scratch[0]
    assert own[1] > scratch[1] + 0.05
    right = re.fullmatch(r"right in (\d+)% of 188 patients", said[-1])
    assert right is not None
    assert int(right[1]) > 60


def test_the_readme_shows_what_is_run() -> None:
    """Each own part, to the letter."""
    readme, cells = (HERE / "README.md").read_text(), NOTEBOOK.read_text().split("# %%")
    for start in ("mw.register.tasks(", "@mw.register.network(", "@mw.register.learner("):
        (cell,) = [cell for cell in cells if start in cell]
        code = cell[cell.index(start) :].strip()
        shown = "\n".join(f"    {line}".rstrip() for line in code.splitlines())
        assert shown in readme, code
        assert len(code.splitlines()) <= 18


@pytest.mark.flower
@pytest.mark.long
def test_flowers_runtime_gives_the_same(said: list[str], tmp_path: Path) -> None:
    assert run(tmp_path, "flower") == said
