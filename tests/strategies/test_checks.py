"""Each reason to reject an answer, by hostile values."""

from typing import Any

import numpy as np
import pytest
from flwr.app import Error, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from metaward.privacy import REFUSALS, Answer, Attendance, Refusal, Release, Scores
from metaward.privacy.wire import encode_answer
from metaward.strategies.checks import Rejected, check_release, check_scores, read

Vector = NDArray[np.float32]
DIM, ROUND, CAP = 4, 3, 10.0


def release(**changes: Any) -> Release:
    values = {"hospital": "a", "round": ROUND, "update": np.ones(DIM, np.float32), "loss": 0.5}
    return Release(**values | changes)


def judged(**changes: Any) -> str:
    """The reason, or "" for an accepted release."""
    found = check_release(release(**changes), "a", ROUND, DIM, CAP)
    return found.reason if isinstance(found, Rejected) else ""


def vector(*values: float) -> Vector:
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"loss": None}, ""),
        ({"update": vector(10, 0, 0, 0)}, ""),
        ({"update": np.zeros(DIM, np.float32)}, ""),
        ({"hospital": "b"}, "wrong-hospital"),
        ({"hospital": ""}, "wrong-hospital"),
        ({"round": ROUND - 1}, "wrong-round"),
        ({"round": -ROUND}, "wrong-round"),
        ({"update": np.array(1, np.float32)}, "wrong-shape"),
        ({"update": np.ones((1, DIM), np.float32)}, "wrong-shape"),
        ({"update": np.ones((DIM, 1), np.float32)}, "wrong-shape"),
        ({"update": np.ones(DIM + 1, np.float32)}, "wrong-shape"),
        ({"update": np.ones(1, np.float32)}, "wrong-shape"),
        ({"update": np.ones(0, np.float32)}, "wrong-shape"),
        ({"update": vector(1, np.nan, 1, 1)}, "not-finite"),
        ({"update": vector(1, 1, np.inf, 1)}, "not-finite"),
        ({"update": vector(1, 1, 1, -np.inf)}, "not-finite"),
        ({"loss": float("nan")}, "not-finite"),
        ({"loss": float("inf")}, "not-finite"),
        ({"loss": -float("inf")}, "not-finite"),
        ({"update": vector(10.001, 0, 0, 0)}, "norm-above-cap"),
        ({"update": vector(6, 6, 6, 6)}, "norm-above-cap"),
        ({"update": np.full(DIM, np.finfo(np.float32).max)}, "norm-above-cap"),
        ({"update": np.full(DIM, np.finfo(np.float32).min)}, "norm-above-cap"),
    ],
)
def test_release(changes: Any, reason: str) -> None:
    assert judged(**changes) == reason


def test_norm_does_not_overflow() -> None:
    """The square of a large float32 is infinite in float32, which would reject an allowed norm."""
    large = np.full(DIM, 1e30, np.float32)
    assert check_release(release(update=large), "a", ROUND, DIM, 2.1e30) is not None
    assert isinstance(check_release(release(update=large), "a", ROUND, DIM, 2.1e30), Release)
    assert isinstance(check_release(release(update=large), "a", ROUND, DIM, 1.9e30), Rejected)


@given(arrays(np.float32, st.integers(1, 6), elements=st.floats(width=32)))
def test_release_that_passes_is_finite_and_below_the_cap(update: Vector) -> None:
    found = check_release(release(update=update), "a", ROUND, DIM, CAP)
    fits = update.shape == (DIM,) and bool(np.isfinite(update).all())
    fits = fits and sum(float(v) ** 2 for v in update) <= CAP**2
    assert isinstance(found, Release) == fits


def test_accepted_release_is_the_same_object() -> None:
    one = release()
    assert check_release(one, "a", ROUND, DIM, CAP) is one


@pytest.mark.parametrize("field", ["before", "after"])
@pytest.mark.parametrize(
    ("changes", "values", "reason"),
    [
        ({}, [[0.0, 0.5], [7.0, -2.0]], ""),
        ({"hospital": "b"}, [[0.0, 0.5], [0.0, 0.5]], "wrong-hospital"),
        ({"round": 0}, [[0.0, 0.5], [0.0, 0.5]], "wrong-round"),
        ({"names": ("hits",)}, [[0.0, 0.5], [0.0, 0.5]], "wrong-scores"),
        ({"names": ("depth", "hits")}, [[0.0, 0.5], [0.0, 0.5]], "wrong-scores"),
        ({"names": ("hits", "depth", "more")}, [[0.0, 0.5], [0.0, 0.5]], "wrong-scores"),
        ({}, [[0.5], [0.5]], "wrong-shape"),
        ({}, [[0.5, 0.5, 0.5]] * 2, "wrong-shape"),
        ({}, 0.5, "wrong-shape"),
        ({}, [0.5, 0.5], "wrong-shape"),
        ({}, [[0.5, 0.5]], "wrong-shape"),
        ({}, [[0.5, 0.5]] * 3, "wrong-shape"),
        ({}, [], "wrong-shape"),
        ({}, [[0.5, np.nan], [0.5, 0.5]], "not-finite"),
        ({}, [[0.5, 0.5], [np.inf, 0.5]], "not-finite"),
        ({}, [[0.5, -0.1], [0.5, 0.5]], "out-of-range"),
        ({}, [[0.5, 1.01], [0.5, 0.5]], "out-of-range"),
        ({}, [[0.5, 0.5], [-2.1, 0.5]], "out-of-range"),
    ],
)
def test_scores(field: str, changes: Any, values: Any, reason: str) -> None:
    """Hits lie in [0, 1], depths at -2 or above."""
    good = np.array([[0.25, 1.0], [-2.0, 9.0]], np.float32)
    fields: dict[str, Any] = {"hospital": "a", "round": ROUND, "names": ("hits", "depth")}
    fields |= {"before": good, "after": good, field: np.array(values, np.float32)}
    answer = Scores(**fields | changes)
    found = check_scores(answer, "a", ROUND, 2, {"hits": (0, 1), "depth": (-2, np.inf)})
    assert (found.reason if isinstance(found, Rejected) else "") == reason
    assert isinstance(found, Rejected) or found is answer


# ------------------------------------------------------------------------------ reading


@pytest.fixture
def message() -> Message:
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
    return Message(RecordDict(), 7, "train")


ANSWERS: list[Answer] = [
    release(),
    Scores("a", ROUND, ("hits",), np.ones((1, 1), np.float32), np.ones((1, 1), np.float32)),
    Attendance("a", 0),
]


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("kind", [Release, Scores, Attendance])
def test_only_the_kind_that_was_asked_for_is_read(
    message: Message, answer: Answer, kind: type[Any]
) -> None:
    found = read(Message(encode_answer(answer), reply_to=message), kind, "a")
    if type(answer) is kind:
        assert type(found) is kind
    else:
        assert found == Rejected("a", "wrong-kind")


@pytest.mark.parametrize("code", sorted(REFUSALS))
def test_refusal_is_told_by_its_code(message: Message, code: str) -> None:
    reply = Message(encode_answer(Refusal(code)), reply_to=message)
    assert read(reply, Release, "a") == Rejected("a", code)


def test_error_is_told_by_its_number_and_never_in_words(message: Message) -> None:
    reply = Message(Error(2, "KeyError: 'Erika Mustermann'"), reply_to=message)
    assert read(reply, Release, "a") == Rejected("a", "error-2")


def test_malformed_reply_is_told_by_its_code(message: Message) -> None:
    assert read(Message(RecordDict(), reply_to=message), Release, "a") == Rejected(
        "a", "malformed-keys"
    )
    records = encode_answer(release(update=np.ones(DIM)))
    assert read(Message(records, reply_to=message), Release, "a") == Rejected(
        "a", "malformed-dtype"
    )
