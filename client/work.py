"""What a hospital does with a request: open its own records, run the inner loops, release.

Everything here is a pure function of (configuration, seed, hospital, round): the same request gives
the same answer in every engine and with any number of workers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from client.errors import DataError
from client.inner import Algorithm, Setting
from client.models import Architecture
from client.tasks.base import Episode, Hospital, TaskSource
from privacy import Attendance, Mechanism, Release, Scores

Purpose = Literal["train", "evaluate"]
_STREAM = {"train": 1, "evaluate": 2}


@dataclass(frozen=True)
class Desk:
    """The parts a hospital works with, put together from the run's configuration."""

    source: TaskSource
    architecture: Architecture
    mechanism: Mechanism
    tasks: int
    seed: int
    device: str


def attend(desk: Desk, index: int, root: Path | None) -> Attendance:
    """Take the seat: opens the records once, so that bad data is met before any round."""
    return Attendance(open_hospital(desk.source, index, root, desk.seed).seat.name, index)


def train(
    desk: Desk, algorithm: Algorithm, theta: np.ndarray, index: int, round: int, root: Path | None
) -> Release:
    """One round's meta-update from ``desk.tasks`` episodes."""
    hospital = open_hospital(desk.source, index, root, desk.seed)
    rng = stream(desk.seed, "train", index, round)
    episodes = [hospital.episode(rng) for _ in range(desk.tasks)]
    setting = open_setting(desk)
    with one_thread():
        start = torch.from_numpy(theta).to(setting.device)
        update = algorithm.update(setting, start, episodes, desk.mechanism, rng)
    return desk.mechanism.release(hospital.seat.name, round, update.delta, update.loss)


def evaluate(
    desk: Desk,
    algorithm: Algorithm,
    theta: np.ndarray,
    index: int,
    round: int,
    episodes: int,
    root: Path | None,
) -> Scores:
    """Scores of theta before and after adaptation on this hospital's episodes.

    The episodes depend on the hospital alone, not on the round or the learner: every learner of a
    run is judged on the same ones.
    """
    hospital = open_hospital(desk.source, index, root, desk.seed)
    rng = stream(desk.seed, "evaluate", index, 0)
    setting = open_setting(desk)
    with one_thread():
        start = torch.from_numpy(theta).to(setting.device)
        pairs = [judge(setting, algorithm, start, hospital.episode(rng)) for _ in range(episodes)]
    before, after = zip(*pairs, strict=True)
    return desk.mechanism.scores(hospital.seat.name, round, list(before), list(after))


def judge(
    setting: Setting, algorithm: Algorithm, theta: torch.Tensor, episode: Episode
) -> tuple[float, float]:
    """One episode's query score before and after adaptation to its support set."""
    support, (x, y) = setting.support(episode), setting.query(episode)
    scores = []
    for steps in (0, algorithm.adapt_steps):
        predict = algorithm.adapt(setting, theta, support, steps)
        with torch.no_grad():
            scores.append(setting.score(predict(x), y))
    return scores[0], scores[1]


@lru_cache(maxsize=512)
def open_hospital(source: TaskSource, index: int, root: Path | None, seed: int) -> Hospital:
    """This process's copy of one hospital's records; a process keeps those it works for."""
    seats = len(source.roster())
    if not 0 <= index < seats:
        raise DataError(f"partition-id {index} is not a hospital: the roster has 0 to {seats - 1}")
    return source.hospital(index, root, seed)


@lru_cache(maxsize=8)
def _setting(architecture: Architecture, source: TaskSource, device: str) -> Setting:
    return Setting(architecture, source.spec(), device)


def open_setting(desk: Desk) -> Setting:
    """The networks for this run's tasks, built once a process."""
    return _setting(desk.architecture, desk.source, desk.device)


def stream(seed: int, purpose: Purpose, index: int, round: int) -> np.random.Generator:
    """The random stream of one hospital in one round for one purpose."""
    return np.random.default_rng([seed, _STREAM[purpose], index, round])


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread a worker: faster beside others, and sums do not depend on the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
