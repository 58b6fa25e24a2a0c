"""Faults done to a real deployment: the run goes on, or ends with a named cause and is resumed.

``make test-faults`` does all of them, in one deployment for each component, which takes an hour or
two on two cores. ``benchmarks/faults.py`` writes down what happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from metaward.server.engines import ENGINES
from metaward.server.folder import Folder
from tests.faults.cells import COMPONENTS, MOMENTS, SIGNALS, Cell, matrix
from tests.faults.history import violations
from tests.faults.story import Story

FEW = (
    Cell("guard", "SIGKILL", "during"),
    Cell("server app", "SIGKILL", "after"),
)
"""One fault that a run survives, and one after which it must be resumed."""


def played(cells: Sequence[Cell], place: Path, rounds: int = 12) -> None:
    """Do the faults; then look at what happened, and at the history of every run."""
    story = Story(place, rounds)
    outcomes = story.play(cells)
    assert [one.cell for one in outcomes] == list(cells)
    for one in outcomes:
        assert not one.lost, one
        assert one.seconds is not None
        assert all(text.partition(":")[2].strip() for text in one.ended), one
    for folder in story.folders:
        assert folder.status() == ("finished", "")
        assert violations(folder.path, story.ledgers(folder)) == []


def test_the_matrix_has_every_component_signal_and_moment() -> None:
    cells = matrix()
    assert len(cells) == len(set(cells)) == len(COMPONENTS) * len(SIGNALS) * len(MOMENTS) >= 45
    assert set(FEW) <= set(cells)


@pytest.mark.flower
@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_run_survives_a_few_faults(tmp_path: Path) -> None:
    played(FEW, tmp_path, rounds=4)


@pytest.mark.flower
@pytest.mark.faults
@pytest.mark.timeout(5 * 3600)
@pytest.mark.parametrize("component", COMPONENTS)
def test_a_run_survives_every_fault(component: str, tmp_path: Path) -> None:
    played([cell for cell in matrix() if cell.component == component], tmp_path)


SEEDED = (
    Cell("server app", "SIGKILL", "during"),
    Cell("SuperLink", "SIGKILL", "during"),
    Cell("SuperNode", "SIGKILL", "during"),
    Cell("client app", "SIGKILL", "after"),
)


@pytest.mark.flower
@pytest.mark.faults
@pytest.mark.timeout(2 * 3600)
def test_with_seeded_noise_faults_do_not_change_the_trajectory(tmp_path: Path) -> None:
    """Every hospital must answer every round, or the run ends and is resumed until all do."""
    story = Story(tmp_path, rounds=8, seeded=True)
    outcomes = story.play(SEEDED)
    assert [one.lost for one in outcomes] == [""] * len(SEEDED)
    other = Folder(tmp_path / "reference")
    other.create(story.run)
    ENGINES["inprocess"](story.run, other, lambda row: None)
    for folder in story.folders:
        assert violations(folder.path, story.ledgers(folder), other.path) == []
        theta = "theta.safetensors"
        assert (folder.path / theta).read_bytes() == (other.path / theta).read_bytes()
