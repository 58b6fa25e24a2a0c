"""A whole run in this process: what it writes, and what it must not depend on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metaward import sim
from metaward.client import work
from metaward.client.desk import Desk
from metaward.client.errors import DataError
from metaward.client.node import Node
from metaward.privacy import Release
from metaward.privacy.wire import Request
from metaward.server.app import TOLD_TO_END
from metaward.server.engines import ENGINES
from metaward.server.folder import BusyError, Folder
from metaward.server.run import Observer
from metaward.strategies.quorum import QuorumError
from metaward.strategies.roster import RosterError
from tests.server.small import small


def execute(path: Path, *settings: str, observe: Observer = lambda row: None) -> Folder:
    run, folder = small(*settings), Folder(path)
    folder.create(run)
    ENGINES["inprocess"](run, folder, observe)
    return folder


def theta(folder: Folder) -> bytes:
    return (folder.path / "theta.safetensors").read_bytes()


def table(folder: Folder) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder.path / "result.json").read_text())
    (one,) = found["tables"]
    return one


def test_a_run_leaves_everything_a_reader_needs(tmp_path: Path) -> None:
    seen: list[Any] = []
    folder = execute(tmp_path / "run", observe=seen.append)
    assert folder.status() == ("finished", "")
    assert folder.config() == small()
    rows = list(folder.rows())
    assert [r["round"] for r in rows if "loss" in r] == [1, 2, 3, 4, 5, 6]
    assert [r["round"] for r in rows if "after" in r] == [2, 4, 6]
    told = [json.loads(json.dumps(row)) for row in seen if row["phase"] == "reptile"]
    assert told == rows
    assert len(list(folder.checkpoints.glob("round-*"))) == 2
    learners = [row["learner"] for row in table(folder)["rows"]]
    assert learners == ["reptile", "from scratch", "FedAvg + fine-tune", "nearest support point"]
    report = (folder.path / "report.md").read_text()
    assert "NO PRIVACY" in report
    assert all(name in report for name in learners)
    assert (folder.path / "curve.png").read_bytes()[1:4] == b"PNG"


def test_worker_count_changes_nothing(tmp_path: Path) -> None:
    one = execute(tmp_path / "one")
    three = execute(tmp_path / "three", "server.workers=3")
    assert theta(one) == theta(three)
    assert table(one) == table(three)


def test_the_seed_changes_everything(tmp_path: Path) -> None:
    assert theta(execute(tmp_path / "a")) != theta(execute(tmp_path / "b", "seed=6"))


def test_a_failed_run_resumes_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = execute(tmp_path / "whole")
    train = work.train

    def breaks(desk: Desk, request: Request, node: Node) -> Release:
        if request.round == 4:
            raise RuntimeError("secret words of a hospital")
        return train(desk, request, node)

    monkeypatch.setattr(work, "train", breaks)
    with pytest.raises(QuorumError, match=r"round 4: 0 of 3 hospitals.*\(failed\)"):
        execute(tmp_path / "broken")
    broken = Folder(tmp_path / "broken")
    assert broken.status()[0] == "failed"
    assert "secret words" not in broken.status()[1]
    assert "secret words" in broken.hospital_log.read_text()
    monkeypatch.setattr(work, "train", train)
    ENGINES["inprocess"](broken.config(), broken, lambda row: None)
    assert theta(broken) == theta(whole)
    assert table(broken) == table(whole)
    rounds = [r["round"] for r in broken.rows() if "loss" in r]
    assert rounds == [1, 2, 3, 4, 5, 6]


def test_a_process_that_is_told_to_end_says_so_and_its_run_resumes(tmp_path: Path) -> None:
    """Flower's server process turns SIGTERM into SystemExit, whose own words say nothing."""

    def ended(row: Mapping[str, Any]) -> None:
        raise SystemExit(0)

    with pytest.raises(SystemExit):
        execute(tmp_path / "run", observe=ended)
    folder = Folder(tmp_path / "run")
    assert folder.status() == ("failed", TOLD_TO_END)
    assert list(folder.trail().lines())[-1]["reason"] == TOLD_TO_END
    ENGINES["inprocess"](folder.config(), folder, lambda row: None)
    assert folder.status() == ("finished", "")


@pytest.mark.parametrize("baseline", ["scratch", "fedavg"])
def test_a_baseline_that_diverges_is_named_with_the_way_out(tmp_path: Path, baseline: str) -> None:
    """Judged or trained: the run's own learner stays saved."""
    beside = (f"server.evaluation.baselines=[{baseline}]", "server.evaluation.fine_tune.lr=100")
    with pytest.raises(QuorumError, match=r"trained and saved, but .* failed.*baselines can do"):
        execute(tmp_path / "run", *beside)
    assert (tmp_path / "run" / "theta.safetensors").is_file()


def test_one_hospital_may_fail_above_the_quorum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = work.train

    def breaks(desk: Desk, request: Request, node: Node) -> Release:
        if node.index == 1:
            raise RuntimeError("down")
        return train(desk, request, node)

    monkeypatch.setattr(work, "train", breaks)
    folder = execute(tmp_path / "run")
    rejected = [row["rejected"] for row in folder.rows() if "loss" in row]
    name = small().client.tasks.roster()[1].name
    assert {name: "failed"} in rejected
    assert all(set(r) <= {name} for r in rejected)


def test_bad_data_is_refused_before_any_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> Any:
        raise DataError("heart/processed.va.data: truncated")

    monkeypatch.setattr(type(small().client.tasks), "hospital", refuse)
    with pytest.raises((RosterError, DataError), match=r"data-refused|processed\.va\.data"):
        execute(tmp_path / "run")
    assert not list(Folder(tmp_path / "run").rows())


def test_a_folder_is_one_runs_only(tmp_path: Path) -> None:
    folder = execute(tmp_path / "run")
    with pytest.raises(FileExistsError, match="already holds a run"):
        folder.create(small())
    with folder.lock(), pytest.raises(BusyError, match="another process"):
        ENGINES["inprocess"](small(), folder, lambda row: None)


@pytest.mark.parametrize("algorithm", ["fomaml", "maml"])
def test_every_algorithm_runs(tmp_path: Path, algorithm: str) -> None:
    run = small().mapping()
    run["client"]["inner"] = {"algorithm": algorithm, "lr": 0.02, "steps": 2, "adapt_steps": 2}
    folder = Folder(tmp_path / "run")
    chosen = sim.parse(run)
    folder.create(chosen)
    ENGINES["inprocess"](chosen, folder, lambda row: None)
    assert table(folder)["rows"][0]["learner"] == algorithm
    assert np.isfinite(table(folder)["rows"][0]["after"])
