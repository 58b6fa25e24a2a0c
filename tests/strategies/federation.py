"""Five training and two unseen hospitals that answer by a formula, and a strategy for them."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
from flwr.app import Error, Message, RecordDict
from numpy.typing import NDArray

from metaward.privacy import Answer, Attendance, Refusal, Release, Scores
from metaward.privacy.wire import Request
from metaward.strategies.combine import Mean
from metaward.strategies.meta import MetaState, MetaStrategy, RoundReport
from metaward.strategies.outer import Adam
from metaward.strategies.roster import Roster
from tests.strategies.fake_grid import FakeGrid, Script, sits

Vector = NDArray[np.float32]
Sabotage = dict[str, Callable[[Request], Any]]
TRAIN = ["oslo", "bern", "rome", "kyiv", "lima"]
UNSEEN = ["york", "graz"]
SEATS = TRAIN + UNSEEN
NAMES = ("height",)
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
        level = np.full((1, request.episodes), (1 + SEATS.index(hospital)) / 8, np.float32)
        return Scores(hospital, request.round, NAMES, level / 2, level)

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
        "roster": Roster(SEATS, Request(0, "{}"), 5.0),
        "train": TRAIN,
        "unseen": UNSEEN,
        "desk": '{"desk":1}',
        "seed": 7,
        "num_rounds": 6,
        "combine": Mean(),
        "outer": Adam(lr=0.1, schedule="cosine"),
        "scores": {"height": (0.0, float("inf"))},
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


def shuffled(seed: int) -> Callable[[list[Message]], list[Message]]:
    source = random.Random(seed)
    return lambda replies: source.sample(replies, len(replies))


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
