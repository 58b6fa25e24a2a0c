"""Rounds over a fake Grid: order, repetition and node ids change nothing, the few do not pass."""

import inspect
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import Strategy
from numpy.typing import NDArray

from privacy import Answer, Attendance, Refusal, Release, Scores
from privacy.wire import Request
from strategies import COMBINE
from strategies.combine import Mean
from strategies.meta import MetaState, MetaStrategy, QuorumError, RoundReport
from strategies.outer import Adam, Outer, Sgd
from strategies.roster import Roster
from tests.strategies.fake_grid import FakeGrid, Script, sits

Vector = NDArray[np.float32]
Sabotage = dict[str, Callable[[Request], Any]]
TRAIN = ["oslo", "bern", "rome", "kyiv", "lima"]
UNSEEN = ["york", "graz"]
SEATS = TRAIN + UNSEEN
THETA = np.linspace(-1, 1, 6, dtype=np.float32)


def update(hospital: str, request: Request) -> Vector:
    """A pull towards the hospital's own optimum, with values that make float sums inexact."""
    assert request.theta is not None
    rng = np.random.default_rng([SEATS.index(hospital), request.round])
    goal = rng.normal(size=THETA.size) * 10.0 ** rng.integers(-3, 2, THETA.size)
    return (0.3 * (goal - request.theta)).astype(np.float32)


def honest(hospital: str) -> Script:
    def work(request: Request, kind: str) -> Answer:
        if kind == "train":
            return Release(hospital, request.round, update(hospital, request), 0.5)
        level = np.full(request.episodes, (1 + SEATS.index(hospital)) / 8, np.float32)
        return Scores(hospital, request.round, level / 2, level)

    return work


def grid_of(
    sabotage: Sabotage | None = None, first: int = 100, step: int = 7, **options: Any
) -> FakeGrid:
    """All hospitals, honest except for those whose training answer is replaced."""
    scripts = {}
    for index, name in enumerate(SEATS):
        work = honest(name)
        if sabotage and name in sabotage:
            work = lambda request, kind, act=sabotage[name]: act(request)  # noqa: E731
        scripts[first + step * index] = sits(name, index, work)
    return FakeGrid(scripts, **options)


def strategy(**changes: Any) -> MetaStrategy:
    options: dict[str, Any] = {
        "roster": Roster(SEATS, Request(0, "{}", "{}"), 5.0),
        "train": TRAIN,
        "unseen": UNSEEN,
        "sim": '{"sim":1}',
        "learner": '{"learner":1}',
        "seed": 7,
        "num_rounds": 6,
        "combine": Mean(),
        "outer": Adam(lr=0.1, schedule="cosine"),
    }
    return MetaStrategy(**options | changes)


def run(
    grid: FakeGrid, state: MetaState | None = None, **changes: Any
) -> list[tuple[MetaState, RoundReport]]:
    one = strategy(**changes)
    one.roster.gather(grid)
    return list(one.rounds(grid, state or one.begin(THETA)))


def final(grid: FakeGrid, **changes: Any) -> bytes:
    return run(grid, **changes)[-1][0].theta.tobytes()


# ------------------------------------------------------------------ what a round computes


def test_sgd_round_is_theta_plus_the_mean_update() -> None:
    (state, report), *_ = run(grid_of(), outer=Sgd(lr=0.5), num_rounds=1)
    asked = Request(1, "", "", THETA)
    mean = np.mean([update(h, asked) for h in sorted(TRAIN)], axis=0, dtype=np.float64)
    expected = THETA + np.float32(0.5) * mean.astype(np.float32)
    assert state.theta.tobytes() == expected.tobytes()
    assert report == RoundReport(
        1, tuple(sorted(TRAIN)), {}, 0.5, pytest.approx(np.linalg.norm(mean))
    )


def test_rounds_follow_each_other_from_the_new_theta() -> None:
    results = run(grid_of(), outer=Sgd(lr=1.0))
    assert [state.round for state, _ in results] == [1, 2, 3, 4, 5, 6]
    theta = THETA
    for number, (state, _) in enumerate(results, 1):
        asked = Request(number, "", "", theta)
        mean = np.mean([update(h, asked) for h in sorted(TRAIN)], axis=0, dtype=np.float64)
        theta = theta + mean.astype(np.float32)
        assert state.theta.tobytes() == theta.tobytes()


def test_schedule_is_told_how_much_of_the_run_is_over() -> None:
    class Watch(Sgd):
        seen: list[float] = []  # noqa: RUF012

        def step(self, theta: Vector, combined: Vector, state: Any, at: float) -> Any:
            self.seen.append(at)
            return super().step(theta, combined, state, at)

    run(grid_of(), outer=Watch(), num_rounds=4)
    assert Watch.seen == [0.0, 0.25, 0.5, 0.75]


def test_message_holds_theta_and_the_configuration() -> None:
    grid = grid_of()
    run(grid, num_rounds=1)
    sent = [request for _, request, kind in grid.sent if kind == "train"]
    assert len(sent) == len(TRAIN)
    for request in sent:
        assert request.theta is not None
        assert request.theta.tobytes() == THETA.tobytes()
        assert (request.round, request.sim, request.learner) == (1, '{"sim":1}', '{"learner":1}')
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
    rows = np.stack([update(h, Request(1, "", "", THETA)) for h in sorted(TRAIN)])
    assert state.theta.tobytes() == (THETA + combine(rows)).tobytes()


def test_loss_that_hospitals_keep_is_not_reported() -> None:
    silent = {h: lambda r, h=h: Release(h, r.round, update(h, r), None) for h in TRAIN}
    assert run(grid_of(silent))[0][1].loss is None
    assert run(grid_of({"oslo": silent["oslo"]}))[0][1].loss == 0.5


# ------------------------------------------------------------- what must change nothing


def shuffled(seed: int) -> Callable[[list[Message]], list[Message]]:
    source = random.Random(seed)
    return lambda replies: source.sample(replies, len(replies))


def test_order_of_arrival_changes_no_bit() -> None:
    expected = final(grid_of())
    for seed in range(4):
        assert final(grid_of(arrive=shuffled(seed))) == expected
    unsorted = np.stack([update(h, Request(1, "", "", THETA)) for h in TRAIN])
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


# ----------------------------------------------------------------------- failing hospitals

FAILURES: dict[str, tuple[Callable[[Request], Any], str]] = {
    "silent": (lambda r: None, "no-reply"),
    "refuses": (lambda r: Refusal("data-refused"), "data-refused"),
    "crashes": (lambda r: Error(2, "Traceback: Erika"), "error-2"),
    "empty": (lambda r: RecordDict(), "malformed-keys"),
    "no release": (lambda r: Attendance("rome", 2), "wrong-kind"),
    "nan": (lambda r: Release("rome", r.round, THETA * np.nan, 0.5), "not-finite"),
    "nan loss": (lambda r: Release("rome", r.round, THETA, float("nan")), "not-finite"),
    "huge": (lambda r: Release("rome", r.round, THETA * 1e30, 0.5), "norm-above-cap"),
    "scalar": (lambda r: Release("rome", r.round, np.array(0.5, np.float32), 0.5), "wrong-shape"),
    "row": (lambda r: Release("rome", r.round, THETA[None], 0.5), "wrong-shape"),
    "short": (lambda r: Release("rome", r.round, THETA[:1], 0.5), "wrong-shape"),
    "double": (lambda r: Release("rome", r.round, THETA.astype(float), 0.5), "malformed-dtype"),  # type: ignore[arg-type]
    "old": (lambda r: Release("rome", r.round - 1, THETA, 0.5), "wrong-round"),
    "impostor": (lambda r: Release("bern", r.round, THETA, 0.5), "wrong-hospital"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_above_the_quorum_the_run_goes_on_without_the_one_who_failed(failure: str) -> None:
    """... and ends where it would have without that hospital; the report says who and why."""
    act, reason = FAILURES[failure]
    others = tuple(sorted(set(TRAIN) - {"rome"}))
    results = run(grid_of({"rome": act}, arrive=shuffled(3)))
    assert [dict(report.rejected) for _, report in results] == [{"rome": reason}] * 6
    assert {report.accepted for _, report in results} == {others}
    assert results[-1][0].theta.tobytes() == final(grid_of(), train=others)


def test_below_the_quorum_the_run_stops_and_says_who_and_why() -> None:
    bad: Sabotage = {
        "rome": FAILURES["refuses"][0],
        "kyiv": FAILURES["impostor"][0],
        "oslo": FAILURES["crashes"][0],
    }
    with pytest.raises(QuorumError) as caught:
        run(grid_of(bad))
    text = str(caught.value)
    assert text.startswith("round 1: 2 of 5 hospitals gave a valid update, 3 are needed")
    assert "strategies.quorum = 0.5" in text
    assert "kyiv (wrong-hospital), oslo (error-2), rome (data-refused)" in text
    assert "Erika" not in text
    assert "bern" not in text


def test_failing_later_keeps_the_rounds_before() -> None:
    def tired(request: Request) -> Any:
        return honest("rome")(request, "train") if request.round < 3 else None

    one = strategy(quorum=1.0)
    grid = grid_of({"rome": tired})
    one.roster.gather(grid)
    seen: list[int] = []
    with pytest.raises(QuorumError, match=r"round 3: 4 of 5 .* 5 are needed .*rome \(no-reply\)"):
        seen.extend(state.round for state, _ in one.rounds(grid, one.begin(THETA)))
    assert seen == [1, 2]


@pytest.mark.parametrize(
    ("quorum", "asked", "valid", "passes"),
    [
        (0.5, 5, 3, True),
        (0.5, 5, 2, False),
        (0.5, 4, 2, True),
        (1.0, 5, 4, False),
        (0.01, 5, 1, True),
        (0.01, 5, 0, False),
        (0.6, 5, 3, True),
        (0.55, 20, 11, True),
        (0.55, 20, 10, False),
        (0.07, 100, 7, True),
        (0.07, 100, 6, False),
    ],
)
def test_quorum_is_a_share_of_those_asked(
    quorum: float, asked: int, valid: int, passes: bool
) -> None:
    names = [f"h{n:03d}" for n in range(asked)]

    def script(name: str, index: int) -> Script:
        work = lambda r, _: Release(name, r.round, THETA, None) if index < valid else None  # noqa: E731
        return sits(name, index, work)

    grid = FakeGrid({n + 5: script(name, n) for n, name in enumerate(names)})
    one = strategy(
        roster=Roster(names, Request(0, "", ""), 5.0),
        train=names,
        unseen=[],
        quorum=quorum,
        num_rounds=1,
    )
    rounds = one.rounds(grid, one.begin(THETA))
    if passes:
        assert len(next(rounds)[1].accepted) == valid
    else:
        with pytest.raises(QuorumError, match=f"{valid} of {asked} hospitals"):
            next(rounds)


def test_hospital_that_left_counts_as_one_without_reply() -> None:
    grid = grid_of()
    one = strategy()
    one.roster.gather(grid)
    rounds = one.rounds(grid, one.begin(THETA))
    assert next(rounds)[1].rejected == {}
    script = grid.scripts.pop(100 + 7 * SEATS.index("kyiv"))
    assert next(rounds)[1].rejected == {"kyiv": "no-reply"}
    grid.scripts[5000] = script
    assert next(rounds)[1].rejected == {}, "back under another node id"


# ---------------------------------------------------------------------------- evaluation


def evaluate(grid: FakeGrid, hospitals: Sequence[str] = UNSEEN) -> tuple[list[Scores], Any]:
    one = strategy()
    one.roster.gather(grid)
    return one.evaluate(grid, hospitals, Request(6, "{}", "{}", THETA, 3))


def test_scores_come_sorted_by_name() -> None:
    scores, rejected = evaluate(grid_of(arrive=shuffled(1)))
    assert [s.hospital for s in scores] == ["graz", "york"]
    assert rejected == {}
    assert [s.after.tolist() for s in scores] == [[7 / 8] * 3, [6 / 8] * 3]


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (lambda r: Scores("graz", 6, np.ones(3, np.float32), np.ones(2, np.float32)), "wrong-shap"),
        (lambda r: Scores("graz", 5, np.ones(3, np.float32), np.ones(3, np.float32)), "wrong-roun"),
        (lambda r: Scores("york", 6, np.ones(3, np.float32), np.ones(3, np.float32)), "wrong-hosp"),
        (lambda r: Release("graz", 6, THETA, None), "wrong-kind"),
        (lambda r: Refusal("failed"), "failed"),
        (lambda r: None, "no-reply"),
    ],
)
def test_scores_that_do_not_count_are_named(act: Any, reason: str) -> None:
    scores, rejected = evaluate(grid_of({"graz": act}))
    assert [s.hospital for s in scores] == ["york"]
    assert rejected.keys() == {"graz"}
    assert rejected["graz"].startswith(reason)


# ----------------------------------------------------------------------------- Flower's own


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
        "before": pytest.approx(6.5 / 16),
        "after": pytest.approx(6.5 / 8),
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
    nan = np.full(10, np.nan, np.float32)
    grid = grid_of({"graz": lambda r: Scores("graz", r.round, nan, nan)})
    result = strategy().start(grid, arrays(), 1)
    assert result.evaluate_metrics_clientapp[1]["after"] == pytest.approx(6 / 8)
    silent: Sabotage = dict.fromkeys(UNSEEN, FAILURES["silent"][0])
    assert strategy().start(grid_of(silent), arrays(), 1).evaluate_metrics_clientapp == {}


def test_every_abstract_method_is_there() -> None:
    assert not inspect.isabstract(MetaStrategy)
    strategy().summary()
