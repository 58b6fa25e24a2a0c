"""Flower's own start over our strategy: the same theta, the same checks."""

import inspect

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord
from flwr.serverapp.strategy import Strategy

from metaward.privacy import Scores
from metaward.strategies.meta import MetaStrategy
from metaward.strategies.quorum import QuorumError
from tests.strategies.federation import (
    FAILURES,
    NAMES,
    THETA,
    TRAIN,
    UNSEEN,
    Sabotage,
    Vector,
    final,
    grid_of,
    shuffled,
    strategy,
)


def arrays(theta: Vector = THETA) -> ArrayRecord:
    return ArrayRecord({"theta": Array(theta)})


def test_flowers_own_start_gives_the_same_theta() -> None:
    assert MetaStrategy.start is Strategy.start
    grid = grid_of(arrive=shuffled(5), late={100: 4, 107: 6})
    seen: list[int] = []

    def central(number: int, record: ArrayRecord) -> MetricRecord:
        seen.append(number)
        return MetricRecord({"norm": float(np.linalg.norm(record["theta"].numpy()))})

    result = strategy().start(
        grid=grid,
        initial_arrays=arrays(),
        num_rounds=6,
        timeout=3.0,
        train_config=ConfigRecord(),
        evaluate_config=ConfigRecord({"episodes": 4}),
        evaluate_fn=central,
    )
    assert result.arrays["theta"].numpy().tobytes() == final(grid_of())
    assert seen == [0, 1, 2, 3, 4, 5, 6]
    assert set(result.train_metrics_clientapp) == {1, 2, 3, 4, 5, 6}
    assert result.evaluate_metrics_clientapp[6] == {
        "height-before": pytest.approx(6.5 / 16),
        "height-after": pytest.approx(6.5 / 8),
    }
    assert {r.episodes for _, r, kind in grid.sent if kind == "evaluate"} == {4}


def test_flowers_own_start_can_be_called_again() -> None:
    one, grid = strategy(), grid_of()
    first = one.start(grid, arrays(), 6).arrays["theta"].numpy()
    second = one.start(grid, arrays(), 6).arrays["theta"].numpy()
    assert first.tobytes() == second.tobytes()


def test_flowers_own_start_stops_below_the_quorum() -> None:
    bad: Sabotage = dict.fromkeys(TRAIN[:3], FAILURES["silent"][0])
    with pytest.raises(QuorumError, match="round 1: 2 of 5"):
        strategy().start(grid_of(bad), arrays(), 6)


def test_flowers_own_evaluation_does_not_average_bad_scores() -> None:
    nan = np.full((1, 10), np.nan, np.float32)
    grid = grid_of({"graz": lambda r: Scores("graz", r.round, NAMES, nan, nan)})
    result = strategy().start(grid, arrays(), 1)
    assert result.evaluate_metrics_clientapp[1]["height-after"] == pytest.approx(6 / 8)
    silent: Sabotage = dict.fromkeys(UNSEEN, FAILURES["silent"][0])
    assert strategy().start(grid_of(silent), arrays(), 1).evaluate_metrics_clientapp == {}


def test_every_abstract_method_is_there() -> None:
    assert not inspect.isabstract(MetaStrategy)
    strategy().summary()
