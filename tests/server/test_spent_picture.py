"""The picture of what privacy buys: drawn where ledgers are here, and from the report alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metaward.door import run as carry_out
from metaward.server.folder import Folder
from metaward.server.spending import spending
from tests.server.office.privacy_desk import private
from tests.server.small import small


def test_a_private_run_has_it_and_a_run_without_privacy_has_not(tmp_path: Path) -> None:
    none = carry_out(small("server.rounds=2"), tmp_path / "none")
    done = carry_out(private("server.rounds=4"), tmp_path / "private")
    assert not (none.path / "spent.png").exists()
    assert (done.path / "spent.png").read_bytes()[1:4] == b"PNG"


def test_spending_is_that_of_the_hospital_that_spent_most(tmp_path: Path) -> None:
    done = carry_out(private("server.rounds=4"), tmp_path / "run")
    found = spending(Folder(done.path))
    report = json.loads((done.path / "privacy.json").read_text())
    last = max(hospital["this_run"] for hospital in report["hospitals"])
    assert list(found) == sorted(found)
    assert list(found.values()) == sorted(found.values())
    assert found[max(found)] == pytest.approx(last, rel=0.01)
