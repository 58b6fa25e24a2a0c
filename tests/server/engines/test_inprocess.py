"""The in-process grid when a worker dies or overruns: the next round is whole again."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message

from metaward.privacy import Answer, Refusal, Release
from metaward.privacy.ledger import Ledger
from metaward.privacy.wire import Request, decode_answer, encode_request
from metaward.server.baselines import own
from metaward.server.engines.inprocess import FIRST_NODE, InProcessGrid
from metaward.server.engines.machine import Machine
from metaward.server.folder import Folder
from metaward.server.run import Run
from metaward.sim import Sim
from tests.server.small import small

RUN = small("strategies.quorum=0.25", "strategies.hospitals_per_round=4")
TOTAL = len(RUN.client.tasks.roster())


def made(path: Path) -> Folder:
    folder = Folder(path)
    folder.create(RUN)
    return folder


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessGrid]:
    """One for all tests that leave it whole, as a grid must be after what they do to it."""
    with InProcessGrid(TOTAL, 2, None, made(tmp_path_factory.mktemp("grid") / "run")) as grid:
        yield grid


def kill_worker(grid: InProcessGrid, number: int) -> int:
    (pid,) = grid._workers[number]._pool._processes
    os.kill(pid, signal.SIGKILL)
    return int(pid)


def asked(job: Run, run: Sim = RUN) -> Request:
    theta = np.asarray(job.start(own(run)))
    return Request(1, run.desk().json(), theta)


def train_messages(job: Run) -> list[Message]:
    request = encode_request(asked(job))
    return [Message(request, FIRST_NODE + i, "train") for i in range(4)]


def test_a_dead_worker_is_replaced_and_costs_its_hospitals_one_round_at_most(
    grid: InProcessGrid, tmp_path: Path
) -> None:
    job = Run(RUN, grid, made(tmp_path), lambda row: None, simulated=True)
    job.roster.gather(grid)
    strategy = job.strategy(job.own)
    rounds = strategy.rounds(grid, strategy.begin(job.start(job.own)))
    _, first = next(rounds)
    assert len(first.accepted) == 4
    pid = kill_worker(grid, 0)
    _, second = next(rounds)
    assert {"sine-02", "sine-04"} <= set(second.accepted), "the other worker's hospitals"
    _, third = next(rounds)
    assert len(third.accepted) == 4
    assert pid not in grid._workers[0]._pool._processes


def test_an_overrun_leaves_no_answer_and_the_next_leg_is_whole(
    grid: InProcessGrid, tmp_path: Path
) -> None:
    job = Run(RUN, grid, made(tmp_path), lambda row: None, simulated=True)
    assert list(grid.send_and_receive(train_messages(job), timeout=1e-4)) == []
    replies = list(grid.send_and_receive(train_messages(job), timeout=60))
    assert all(isinstance(decode_answer(reply.content), Release) for reply in replies)
    assert len(replies) == 4


def test_hospitals_never_share_what_the_server_holds(tmp_path: Path) -> None:
    """With one worker, too, a message is a copy."""
    with InProcessGrid(TOTAL, 1, None, made(tmp_path / "run")) as grid:
        job = Run(RUN, grid, made(tmp_path), lambda row: None, simulated=True)
        messages = train_messages(job)
        before = [message.content["theta"]["theta"].data for message in messages]
        replies = list(grid.send_and_receive(messages, timeout=60))
        assert (
            len({id(reply.content) for reply in replies} - {id(m.content) for m in messages}) == 4
        )
        assert [message.content["theta"]["theta"].data for message in messages] == before


def test_push_and_pull_are_refused_clearly(grid: InProcessGrid) -> None:
    for call in (grid.push_messages, grid.pull_messages):
        with pytest.raises(TypeError, match="send_and_receive"):
            call([])


@pytest.mark.parametrize(("device", "kind"), [("cpu", Release), ("cuda:99", Refusal)])
def test_simulated_hospitals_learn_the_device_from_their_node_config(
    device: str, kind: type[Answer], tmp_path: Path
) -> None:
    with InProcessGrid(TOTAL, 1, None, made(tmp_path / "run"), Machine(device)) as grid:
        job = Run(RUN, grid, made(tmp_path), lambda row: None, simulated=True)
        (reply, *_) = grid.send_and_receive(train_messages(job), timeout=60)
    assert isinstance(decode_answer(reply.content), kind)


@pytest.mark.parametrize("workers", [1, 2])
def test_hospitals_of_a_simulation_keep_their_ledgers_in_the_runs_folder(
    workers: int, tmp_path: Path
) -> None:
    """One for each hospital and learner, wherever the workers run."""
    run = small("privacy={mechanism: sums, unit: record}", "client.schedule=passes")
    folder = made(tmp_path / "run")
    with InProcessGrid(TOTAL, workers, None, folder) as grid:
        job = Run(run, grid, folder, lambda row: None, simulated=True)
        messages = [
            Message(encode_request(replace(request, run="7.reptile")), FIRST_NODE + i, "train")
            for i, request in enumerate([asked(job, run)] * 3)
        ]
        replies = list(grid.send_and_receive(messages, timeout=60))
        again = list(grid.send_and_receive(messages, timeout=60))
    releases = [decode_answer(reply.content) for reply in replies]
    assert all(isinstance(release, Release) for release in releases)
    found = sorted(path.name for path in (folder.hospitals / "7.reptile").glob("*.sqlite"))
    assert found == ["sine-01.sqlite", "sine-02.sqlite", "sine-03.sqlite"]
    for path, release in zip(sorted(folder.hospitals.rglob("*.sqlite")), releases, strict=True):
        assert isinstance(release, Release)
        assert release.mark is not None
        assert Ledger.open(path).holds(release.mark)
        assert len(Ledger.open(path).history().charges) == 1, "a retry is not charged again"
    assert [r.content["arrays"] for r in again] == [r.content["arrays"] for r in replies]
