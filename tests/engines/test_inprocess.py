"""The in-process grid when a worker dies or overruns: the next round is whole again."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message

from privacy import Release
from privacy.wire import Request, decode_answer, encode_request
from server.engines.inprocess import FIRST_NODE, InProcessGrid
from server.folder import Folder
from server.run import Run
from sim import learner_json
from tests.server.small import small

RUN = small("strategies.quorum=0.25", "strategies.hospitals_per_round=4")
TOTAL = len(RUN.client.tasks.roster())


@pytest.fixture
def grid(tmp_path: Path) -> Iterator[InProcessGrid]:
    with InProcessGrid(TOTAL, 2, None, tmp_path / "hospitals.log") as grid:
        yield grid


def kill_worker(grid: InProcessGrid, number: int) -> int:
    (pid,) = grid._workers[number]._pool._processes
    os.kill(pid, signal.SIGKILL)
    return int(pid)


def train_messages(job: Run) -> list[Message]:
    theta = np.asarray(job.start(RUN.client.inner))
    request = Request(1, RUN.for_hospitals(), learner_json(RUN.client.inner), theta)
    return [Message(encode_request(request), FIRST_NODE + i, "train") for i in range(4)]


def test_a_dead_worker_is_replaced_and_costs_its_hospitals_one_round_at_most(
    grid: InProcessGrid, tmp_path: Path
) -> None:
    job = Run(RUN, grid, Folder(tmp_path), lambda row: None)
    job.roster.gather(grid)
    strategy = job.strategy(job.own)
    rounds = strategy.rounds(grid, strategy.begin(job.start(RUN.client.inner)))
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
    job = Run(RUN, grid, Folder(tmp_path), lambda row: None)
    assert list(grid.send_and_receive(train_messages(job), timeout=0.01)) == []
    replies = list(grid.send_and_receive(train_messages(job), timeout=60))
    assert all(isinstance(decode_answer(reply.content), Release) for reply in replies)
    assert len(replies) == 4


def test_hospitals_never_share_what_the_server_holds(tmp_path: Path) -> None:
    """With one worker, too, a message is a copy."""
    with InProcessGrid(TOTAL, 1, None, tmp_path / "hospitals.log") as grid:
        job = Run(RUN, grid, Folder(tmp_path), lambda row: None)
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
