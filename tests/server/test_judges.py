"""Hospitals for validation may judge a run; the unseen ones are then never evaluated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from metaward.client import work
from metaward.client.desk import Desk
from metaward.client.node import Node
from metaward.options import ConfigError
from metaward.privacy import Scores
from metaward.privacy.wire import Request
from metaward.server import show
from metaward.server.engines import ENGINES
from metaward.server.folder import Folder
from metaward.server.terminal import say
from tests.server.small import small

ASIDE = "client.tasks.validation=2"
JUDGED = (ASIDE, "server.evaluation.judges=validation")
UNSEEN, VALIDATION = {4, 5}, {6, 7}


def executed(path: Path, *settings: str) -> Folder:
    folder = Folder(path)
    folder.create(small(*settings))
    ENGINES["inprocess"](folder.config(), folder, lambda row: None)
    return folder


def result(folder: Folder) -> Any:
    return json.loads((folder.path / "result.json").read_text())


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The numbers of the hospitals that have given scores."""
    asked: set[int] = set()
    evaluate = work.evaluate

    def noted(desk: Desk, request: Request, node: Node) -> Scores:
        asked.add(node.index)
        return evaluate(desk, request, node)

    monkeypatch.setattr(work, "evaluate", noted)
    return asked


@pytest.mark.parametrize("keep", ["last", "best"])
def test_no_unseen_hospital_is_evaluated(tmp_path: Path, evaluated: set[int], keep: str) -> None:
    folder = executed(tmp_path / "run", *JUDGED, f"server.evaluation.keep={keep}")
    assert evaluated == VALIDATION
    for row in result(folder)["tables"][0]["rows"]:
        assert set(row["hospitals"]) == {"validation-01", "validation-02"}
    assert not [row for row in folder.rows() if "after" in row]


def test_by_default_the_unseen_ones_judge(tmp_path: Path, evaluated: set[int]) -> None:
    folder = executed(tmp_path / "run", ASIDE)
    assert evaluated == UNSEEN | VALIDATION
    assert set(result(folder)["tables"][0]["rows"][0]["hospitals"]) == {"unseen-01", "unseen-02"}


def test_who_judges_changes_nothing_that_is_learned(tmp_path: Path) -> None:
    one, other = executed(tmp_path / "one", ASIDE), executed(tmp_path / "other", *JUDGED)
    thetas = [(folder.path / "theta.safetensors").read_bytes() for folder in (one, other)]
    assert thetas[0] == thetas[1]


def test_every_output_says_who_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = executed(tmp_path / "run", *JUDGED)
    say(show.final(folder.config(), folder))
    assert "Validation hospitals, 4 episodes each" in capsys.readouterr().out
    assert "Validation hospitals, 4 episodes each" in (folder.path / "report.md").read_text()
    report = json.loads((folder.path / "privacy.json").read_text())
    touches = {touch["name"]: touch for touch in report["touches"]}["evaluation metrics"]
    assert touches["covered"] == "no"
    assert "Those set aside for validation judge the result" in touches["words"]
    assert report["run"]["evaluation_hospitals"] == 2
    assert {"curve.png", "sine.png"} <= {path.name for path in folder.path.iterdir()}


def test_without_hospitals_for_validation_it_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"judges: validation needs .* client\.tasks\.validation"):
        small("server.evaluation.judges=validation")
