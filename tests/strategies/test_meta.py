"""Rounds over a fake Grid: what they compute, and that order, repetition and ids change nothing."""

import random
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from metaward.privacy import Release
from metaward.privacy.wire import Request
from metaward.strategies import COMBINE
from metaward.strategies.combine import Mean
from metaward.strategies.meta import RoundReport
from metaward.strategies.outer import Adam, Momentum, Outer, Sgd
from tests.strategies.federation import (
    SEATS,
    THETA,
    TRAIN,
    UNSEEN,
    Vector,
    final,
    grid_of,
    run,
    shuffled,
    strategy,
    update,
)

# ------------------------------------------------------------------ what a round computes


def test_sgd_round_is_theta_plus_the_mean_update() -> None:
    (state, report), *_ = run(grid_of(), outer=Sgd(lr=0.5), num_rounds=1)
    asked = Request(1, "", THETA)
    mean = np.mean([update(h, asked) for h in sorted(TRAIN)], axis=0, dtype=np.float64)
    expected = THETA + np.float32(0.5) * mean.astype(np.float32)
    assert state.theta.tobytes() == expected.tobytes()
    each = {h: pytest.approx(np.linalg.norm(update(h, asked))) for h in sorted(TRAIN)}
    combined = pytest.approx(np.linalg.norm(mean))
    assert report == RoundReport(1, tuple(sorted(TRAIN)), {}, 0.5, combined, each)


@pytest.mark.parametrize(
    "outer", [Sgd(lr=1.0), Momentum(schedule="linear"), Adam(lr=0.1, schedule="cosine")]
)
def test_rounds_follow_each_other_from_the_new_theta_and_state(outer: Outer) -> None:
    results = run(grid_of(), outer=outer)
    assert [state.round for state, _ in results] == [1, 2, 3, 4, 5, 6]
    theta, kept = THETA, outer.init(THETA)
    for number, (state, _) in enumerate(results, 1):
        asked = Request(number, "", theta)
        rows = np.stack([update(h, asked) for h in sorted(TRAIN)])
        theta, kept = outer.step(theta, Mean()(rows), kept, (number - 1) / 6)
        assert state.theta.tobytes() == theta.tobytes()
        assert all(state.outer[key].tobytes() == kept[key].tobytes() for key in kept)


def test_schedule_is_told_how_much_of_the_run_is_over() -> None:
    class Watch(Sgd):
        seen: list[float] = []  # noqa: RUF012

        def step(self, theta: Vector, combined: Vector, state: Any, at: float) -> Any:
            self.seen.append(at)
            return super().step(theta, combined, state, at)

    run(grid_of(), outer=Watch(), num_rounds=4)
    assert Watch.seen == [0.0, 0.25, 0.5, 0.75]


def test_message_holds_theta_and_the_desk() -> None:
    grid = grid_of()
    run(grid, num_rounds=1)
    sent = [request for _, request, kind in grid.sent if kind == "train"]
    assert len(sent) == len(TRAIN)
    for request in sent:
        assert request.theta is not None
        assert request.theta.tobytes() == THETA.tobytes()
        assert (request.round, request.desk) == (1, '{"desk":1}')
        assert request.episodes == 0


def test_unseen_hospitals_are_never_trained_on() -> None:
    grid = grid_of()
    run(grid)
    nodes = {100 + 7 * SEATS.index(name) for name in UNSEEN}
    assert not nodes & {node for node, _, kind in grid.sent if kind == "train"}


@pytest.mark.parametrize("rule", sorted(COMBINE))
def test_the_chosen_combiner_combines(rule: str) -> None:
    combine = COMBINE[rule]()
    (state, _), *_ = run(grid_of(), combine=combine, outer=Sgd(lr=1.0), num_rounds=1)
    rows = np.stack([update(h, Request(1, "", THETA)) for h in sorted(TRAIN)])
    assert state.theta.tobytes() == (THETA + combine(rows)).tobytes()


def test_loss_that_hospitals_keep_is_not_reported() -> None:
    silent = {h: lambda r, h=h: Release(h, r.round, update(h, r), None) for h in TRAIN}
    assert run(grid_of(silent))[0][1].loss is None
    assert run(grid_of({"oslo": silent["oslo"]}))[0][1].loss == 0.5


# ------------------------------------------------------------- what must change nothing


def test_order_of_arrival_changes_no_bit() -> None:
    expected = final(grid_of())
    for seed in range(4):
        assert final(grid_of(arrive=shuffled(seed))) == expected
    unsorted = np.stack([update(h, Request(1, "", THETA)) for h in TRAIN])
    sums = {np.sum(unsorted[list(o)], axis=0).tobytes() for o in ((0, 1, 2, 3, 4), (4, 2, 0, 3, 1))}
    assert len(sums) == 2, "these updates are such that order does matter to a float sum"


def test_repeated_replies_change_no_bit() -> None:
    assert final(grid_of(arrive=lambda replies: replies * 2)) == final(grid_of())


def test_node_ids_change_no_bit() -> None:
    assert final(grid_of(first=10**18, step=-31)) == final(grid_of())


def test_order_of_the_lists_changes_no_bit() -> None:
    turned = final(grid_of(), train=TRAIN[::-1], hospitals_per_round=3)
    assert turned == final(grid_of(), hospitals_per_round=3)


def test_late_replies_to_an_earlier_round_are_not_counted() -> None:
    kept: list[Message] = []

    def with_old(replies: list[Message]) -> list[Message]:
        found = [*replies, *kept]
        kept.extend(replies)
        return found

    assert final(grid_of(arrive=with_old)) == final(grid_of())


@pytest.mark.parametrize("outer", [Adam(lr=0.1, schedule="cosine"), Sgd(schedule="linear")])
@pytest.mark.parametrize("stop", [1, 3, 5])
def test_resumed_run_equals_the_uninterrupted_one(outer: Outer, stop: int) -> None:
    options: dict[str, Any] = {"outer": outer, "hospitals_per_round": 3}
    whole = run(grid_of(), **options)
    resumed = run(grid_of(first=9, step=1), whole[stop - 1][0], **options)
    assert len(resumed) == 6 - stop
    for (one, report), (other, repeated) in zip(whole[stop:], resumed, strict=True):
        assert (one.round, report) == (other.round, repeated)
        assert one.theta.tobytes() == other.theta.tobytes()
        assert one.outer.keys() == other.outer.keys()
        assert all(one.outer[k].tobytes() == other.outer[k].tobytes() for k in one.outer)


def test_states_already_given_out_are_not_written_to() -> None:
    one = strategy()
    grid = grid_of()
    one.roster.gather(grid)
    states, copies = [], []
    for state, _ in one.rounds(grid, one.begin(THETA)):
        states.append(state)
        copies.append((state.theta.copy(), {k: v.copy() for k, v in state.outer.items()}))
    for state, (theta, outer) in zip(states, copies, strict=True):
        np.testing.assert_array_equal(state.theta, theta)
        for key, value in outer.items():
            np.testing.assert_array_equal(state.outer[key], value)


# ------------------------------------------------------------------------- who takes part


@pytest.mark.parametrize("count", [1, 2, 4, 5, None])
def test_chosen_is_a_pure_sorted_sample_of_the_right_size(count: int | None) -> None:
    one, other = strategy(hospitals_per_round=count), strategy(hospitals_per_round=count)
    random.seed(1)
    first = [one.chosen(n) for n in range(1, 40)]
    random.seed(2)
    assert [other.chosen(n) for n in range(39, 0, -1)][::-1] == first
    for names in first:
        assert list(names) == sorted(set(names))
        assert len(names) == (count or len(TRAIN))
        assert set(names) <= set(TRAIN)


def test_chosen_depends_on_round_and_seed() -> None:
    rounds = {strategy(hospitals_per_round=2).chosen(n) for n in range(1, 60)}
    assert len(rounds) == 10, "all pairs of five come up"
    seeds = {strategy(hospitals_per_round=2, seed=s).chosen(1) for s in range(60)}
    assert len(seeds) == 10


def test_only_the_chosen_are_asked() -> None:
    grid = grid_of()
    results = run(grid, hospitals_per_round=2)
    for _, report in results:
        nodes = {n for n, r, kind in grid.sent if kind == "train" and r.round == report.round}
        assert tuple(sorted(SEATS[(n - 100) // 7] for n in nodes)) == report.accepted
        assert len(nodes) == 2
