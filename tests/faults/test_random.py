"""A few random faults of server and hospitals; ``benchmarks/random_faults.py`` does a thousand."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from metaward.server.folder import Folder
from tests.faults.blows import Report, reference_run, storm

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform == "win32", reason="forks and kills"),
]
FAULTS = 10


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reference_run(tmp_path_factory.mktemp("reference") / "run")


@pytest.mark.parametrize("simulated", [False, True], ids=["real noise", "seeded noise"])
def test_nothing_is_lost_by_random_faults(simulated: bool, reference: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(7 + simulated)
    place = tmp_path / "storm"
    report = storm(place, FAULTS, rng, simulated, reference if simulated else None)
    assert report.found == []
    assert Folder(place / "run").status() == ("finished", "")
    assert report.faults.total() >= FAULTS / 2, "the run was over before it met its faults"
    assert report.left >= 16 * 2, "two hospitals a round at least"


def test_a_report_adds_up() -> None:
    total, one = Report(), Report(runs=1, left=3)
    one.faults["SIGKILL to server"] += 2
    total.add(one)
    total.add(one)
    assert (total.runs, total.left, total.faults.total()) == (2, 6, 4)
    assert total.plain()["faults"] == {"SIGKILL to server": 4}
