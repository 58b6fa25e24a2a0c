"""The server's log: what is in it, that it survives a resume, and what it must not hold."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metaward.client import work
from metaward.client.desk import Desk
from metaward.client.node import Node
from metaward.privacy import Release
from metaward.privacy.ledger import Ledger
from metaward.privacy.wire import Request, digest
from metaward.server.engines import ENGINES
from metaward.server.folder import Folder
from metaward.server.trail import RunTrail
from metaward.strategies.quorum import QuorumError
from tests.server.small import small

ALONE = "server.evaluation.baselines=[]"
HOSPITAL = ("client.schedule=passes", "privacy={mechanism: whole, unit: hospital}")


def execute(path: Path, *settings: str) -> Folder:
    run, folder = small(ALONE, *settings), Folder(path)
    folder.create(run)
    ENGINES["inprocess"](run, folder, lambda row: None)
    return folder


def told(folder: Folder) -> Counter[str]:
    return Counter(line["what"] for line in folder.trail().lines())


def test_every_request_reply_and_checkpoint_is_in_it(tmp_path: Path) -> None:
    folder = execute(tmp_path / "run")
    assert told(folder) == {
        "run started": 1,
        "asked to train": 6,
        "reply accepted": 18 + 4 * 2,
        "asked to evaluate": 4,  # three for the curve, one for the final table
        "checkpoint": 6,
        "run finished": 1,
    }
    lines = list(folder.trail().lines())
    assert lines[0]["what"] == "run started"
    assert lines[-1]["what"] == "run finished"
    assert [line["at"] for line in lines] == sorted(line["at"] for line in lines)
    asked = [line for line in lines if line["what"] == "asked to train"]
    assert {len(line["hospitals"]) for line in asked} == {3}
    assert all(line["run"] == f"{folder.id}.reptile" for line in asked)
    accepted = {line["hospital"] for line in lines if line["what"] == "reply accepted"}
    assert accepted <= {seat.name for seat in small().client.tasks.roster()}


def test_digests_are_those_of_what_was_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, sent = work.train, dict[tuple[int, str], tuple[str, str]]()

    def watch(desk: Desk, request: Request, node: Node) -> Release:
        release = train(desk, request, node)
        update = hashlib.sha256(release.update.astype("<f4").tobytes()).hexdigest()
        sent[request.round, release.hospital] = digest(request), update
        return release

    monkeypatch.setattr(work, "train", watch)
    lines = list(execute(tmp_path / "run").trail().lines())
    requests = {ln["round"]: ln["request"] for ln in lines if ln["what"] == "asked to train"}
    updates = {(ln["round"], ln["hospital"]): ln["update"] for ln in lines if "update" in ln}
    assert updates == {key: update for key, (_, update) in sent.items()}
    assert {round: request for (round, _), (request, _) in sent.items()} == requests


def test_rejections_and_the_end_of_a_failed_run_are_in_it_and_a_resume_adds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = work.train

    def breaks(desk: Desk, request: Request, node: Node) -> Release:
        if request.round == 4:
            raise RuntimeError("secret words of a hospital")
        return train(desk, request, node)

    monkeypatch.setattr(work, "train", breaks)
    with pytest.raises(QuorumError):
        execute(tmp_path / "run")
    folder = Folder(tmp_path / "run")
    before = (folder.path / "audit.jsonl").read_bytes()
    assert told(folder)["reply rejected"] == 3
    assert told(folder)["quorum failed"] == told(folder)["run failed"] == 1
    assert b"secret words" not in before
    monkeypatch.setattr(work, "train", train)
    ENGINES["inprocess"](folder.config(), folder, lambda row: None)
    after = (folder.path / "audit.jsonl").read_bytes()
    assert after.startswith(before), "no line is changed"
    assert told(folder)["run resumed"] == told(folder)["run finished"] == 1
    assert told(folder)["checkpoint"] == 6


def test_a_retry_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of three hospitals say nothing at first: their worker is overtaken by the timeout."""
    from metaward.server.engines.inprocess import InProcessGrid

    send, calls = InProcessGrid.send_and_receive, iter(range(100))

    def once(self: InProcessGrid, messages: Any, *, timeout: float | None = None) -> Any:
        replies = list(send(self, messages, timeout=timeout))
        return replies[:1] if next(calls) == 1 else replies  # the roll call is the first

    monkeypatch.setattr(InProcessGrid, "send_and_receive", once)
    folder = execute(tmp_path / "run")
    (line,) = (line for line in folder.trail().lines() if line["what"] == "retried")
    assert line["round"] == 1
    assert len(line["hospitals"]) == 2
    rows = [row for row in folder.rows() if "accepted" in row]
    assert {len(row["accepted"]) for row in rows} == {3}


def test_a_hospital_that_is_asked_again_sends_stored_bytes_and_pays_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of three replies are lost on the way in round 1, after they were charged."""
    from metaward.server.engines.inprocess import InProcessGrid

    sums = ("client.schedule=passes", "privacy={mechanism: sums, unit: record}")
    plain = execute(tmp_path / "plain", *sums)
    send, calls = InProcessGrid.send_and_receive, iter(range(100))

    def once(self: InProcessGrid, messages: Any, *, timeout: float | None = None) -> Any:
        replies = list(send(self, messages, timeout=timeout))
        return replies[:1] if next(calls) == 1 else replies

    monkeypatch.setattr(InProcessGrid, "send_and_receive", once)
    lost = execute(tmp_path / "lost", *sums)
    assert told(lost)["retried"] == 1

    def charged(folder: Folder) -> dict[str, int]:
        ledgers = sorted((folder.hospitals / f"{folder.id}.reptile").glob("*.sqlite"))
        return {path.name: len(Ledger.open(path).history().charges) for path in ledgers}

    assert charged(lost) == charged(plain)
    thetas = [(one.path / "theta.safetensors").read_bytes() for one in (lost, plain)]
    assert thetas[0] == thetas[1]


def test_updates_without_noise_leave_no_digest(tmp_path: Path) -> None:
    """Who knows all records but one could compute both and compare."""
    lines = list(execute(tmp_path / "run", *HOSPITAL).trail().lines())
    accepted = [line for line in lines if "update" in line]
    assert len(accepted) == 18
    assert {line["update"] for line in accepted} == {None}


def test_each_line_is_synced_before_the_call_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(os.fstat(number).st_size))
    trail = RunTrail(tmp_path)
    for number in range(3):
        trail("checkpoint", round=number)
        assert synced[-1] == (tmp_path / "audit.jsonl").stat().st_size
    assert len(synced) == 3


def test_a_line_that_a_crash_cut_short_hides_no_other(tmp_path: Path) -> None:
    trail = RunTrail(tmp_path)
    trail("run started", run="a")
    with trail.path.open("a") as file:
        file.write('{"at": "2026-')
    assert [line["what"] for line in trail.lines()] == ["run started"]
    trail("run resumed", run="a")
    assert [line["what"] for line in trail.lines()] == ["run started", "run resumed"]


def test_missed_answers_are_named_wherever_the_result_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One hospital sends a long update each time, one an absurd loss once."""
    from metaward.server.show import final
    from metaward.server.terminal import say

    train = work.train
    names = [seat.name for seat in small().client.tasks.roster()]

    def lies(desk: Desk, request: Request, node: Node) -> Release:
        release = train(desk, request, node)
        update, loss = release.update, release.loss
        if node.index == 1:
            update = update + np.float32(900)
        if node.index == 2:
            loss = 1e30
        return Release(release.hospital, release.round, update, loss, release.mark)

    monkeypatch.setattr(work, "train", lies)
    folder = execute(tmp_path / "run", "strategies.hospitals_per_round=4")
    saved = json.loads((folder.path / "result.json").read_text())
    assert saved["missed"] == [
        {
            "hospital": names[1],
            "learner": "reptile",
            "asked": 6,
            "missed": 6,
            "reasons": {"norm-above-cap": 6},
            "losses": 0,
        },
        {
            "hospital": names[2],
            "learner": "reptile",
            "asked": 6,
            "missed": 0,
            "reasons": {},
            "losses": 6,
        },
    ]
    rejected = f"{names[1]}, reptile: 6 of 6 answers did not count: norm-above-cap (6)"
    left_out = f"{names[2]}, reptile: 6 of 6 losses were out of range and left out"
    say(final(folder.config(), folder))
    shown = capsys.readouterr().out
    pages = [(folder.path / name).read_text() for name in ("report.md", "report.html")]
    for text in (shown, *pages):
        assert rejected in text
        assert left_out in text
    losses = [row["loss"] for row in folder.rows() if "accepted" in row]
    assert max(losses) < 1e6


def test_where_all_took_part_nobody_is_named(tmp_path: Path) -> None:
    folder = execute(tmp_path / "run")
    assert json.loads((folder.path / "result.json").read_text())["missed"] == []
    assert "did not count" not in (folder.path / "report.md").read_text()
