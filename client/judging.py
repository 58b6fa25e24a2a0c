"""How theta is judged at a hospital that does not train: episodes, adapted to and scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from metaward.client.inner import Algorithm, Setting
from metaward.client.inner.at_once import OneByOne
from metaward.client.inner.programs import Task, Work
from metaward.client.tasks.base import Episode

HELD = 2**28
"""Bytes of records of episodes that are drawn before they are judged, all at once."""


def judge(
    setting: Setting, algorithm: Algorithm, theta: torch.Tensor, episodes: Sequence[Episode]
) -> list[tuple[list[float], list[float]]]:
    """Each episode's query scores before and after adaptation to its support set."""
    key, points = (setting.network, "adapt", algorithm), [theta] * len(episodes)

    def program(theta: torch.Tensor, task: Task) -> tuple[torch.Tensor, ...]:
        support, query = setting.support(task), setting.query(task)
        predictors = [
            algorithm.adapt(setting, theta, support, steps) for steps in (0, algorithm.adapt_steps)
        ]
        with torch.no_grad():
            before, after = (predict(query.x) for predict in predictors)
        return before, after

    way = setting.at_once if algorithm.takes_stacks else OneByOne()
    found = way.run(Work(key, program, points, episodes, setting.stack))
    measure = setting.spec.kind.measure
    labels = [torch.from_numpy(episode.query_y) for episode in episodes]
    return [
        (measure(before, y), measure(after, y))
        for (before, after), y in zip(found, labels, strict=True)
    ]


def parts(episodes: Iterator[Episode], most: int) -> Iterator[list[Episode]]:
    """Up to ``most`` episodes at a time, and no more than ``HELD`` bytes of records."""
    held: list[Episode] = []
    for episode in episodes:
        held.append(episode)
        size = episode.support_x.nbytes + episode.query_x.nbytes
        if len(held) == most or (len(held) + 1) * size > HELD:
            yield held
            held = []
    if held:
        yield held
