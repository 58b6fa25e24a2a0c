"""docs/tour.ipynb, cell after cell: a private federation, and own records, network and learner."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from metaward.sim import HERE
from tests.door.test_shipping import python

TOUR = HERE / "docs" / "tour.ipynb"
OWN = "# Parts of your own"
"""The heading of its second half."""


def cells() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(TOUR.read_text(encoding="utf-8"))["cells"]
    return found


def code(chosen: list[dict[str, Any]]) -> list[str]:
    """The code of each cell that has any."""
    return ["".join(cell["source"]) for cell in chosen if cell["cell_type"] == "code"]


def halves() -> tuple[list[str], list[str]]:
    """The imports, and the cells on parts of one's own."""
    everything = cells()
    (at,) = (k for k, cell in enumerate(everything) if "".join(cell["source"]).startswith(OWN))
    return code(everything[:at])[:1], code(everything[at:])


def run(folder: Path, parts: list[str]) -> list[str]:
    """What a notebook with these cells prints, without a screen for pictures."""
    (folder / "cells.py").write_text("\n\n".join(parts), encoding="utf-8")
    done = python("cells.py", cwd=folder, MPLBACKEND="Agg")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the whole tour prints."""
    return run(tmp_path_factory.mktemp("tour"), code(cells()))


def right(line: str, of: str) -> int:
    found = re.fullmatch(rf"right in (\d+)% of \d+ {of}", line)
    assert found is not None, line
    return int(found[1])


def scores(line: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d\.\d+", line)]


def test_the_private_federation_learns_and_says_what_it_cost(said: list[str]) -> None:
    learned, untrained, scratch = (
        scores(line)
        for line in said
        if re.match(r"(proto_anil|proto_anil, untrained|from scratch) +0\.\d{3} -> ", line)
    )
    assert learned[1] > untrained[1] + 0.02 > scratch[1] + 0.1
    (line,) = (line for line in said if line.endswith("new images"))
    assert right(line, "new images") > 60
    spent = [line for line in said if "has spent epsilon 8.00 at delta 1e-05" in line]
    assert len(spent) == 4


def test_own_parts_learn(said: list[str]) -> None:
    """A hospital that was not there gains from the others', and more than from scratch."""
    own, scratch = map(scores, said[-3:-1])
    assert own[1] > own[0] > scratch[0]
    assert own[1] > scratch[1] + 0.05
    assert right(said[-1], "patients") > 60


def test_the_readme_shows_what_is_run() -> None:
    """Each own part, to the letter."""
    readme = (HERE / "README.md").read_text(encoding="utf-8")
    for start in ("mw.register.tasks(", "@mw.register.network(", "@mw.register.learner("):
        (cell,) = [cell for cell in code(cells()) if start in cell]
        part = cell[cell.index(start) :].strip()
        shown = "\n".join(f"    {line}".rstrip() for line in part.splitlines())
        assert shown in readme, part
        assert len(part.splitlines()) <= 18


def test_it_is_a_notebook_without_outputs_that_go_stale() -> None:
    whole = json.loads(TOUR.read_text(encoding="utf-8"))
    assert (whole["nbformat"], whole["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in whole["cells"]}) == len(whole["cells"]) > 20
    for cell in whole["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


def test_what_it_links_to_is_there() -> None:
    texts = ["".join(cell["source"]) for cell in cells() if cell["cell_type"] == "markdown"]
    targets = [target for text in texts for target in re.findall(r"\]\(([^)#]+)\)", text)]
    assert len(targets) > 4
    for target in targets:
        assert (TOUR.parent / target).is_file(), target


@pytest.mark.flower
def test_flowers_runtime_gives_the_same(said: list[str], tmp_path: Path) -> None:
    """As the tour says: with one more key beside ``rounds``."""
    imports, own = halves()
    on_flower = [part.replace('"rounds": 8,', '"rounds": 8, "engine": "flower",') for part in own]
    assert on_flower != own
    told = run(tmp_path, imports + on_flower)
    assert told == said[-len(told) :]
    assert len(told) > 10
