"""The way in and out: what is encoded comes back equal, and nothing malformed comes in."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from metaward.privacy import REFUSALS, Answer, Attendance, Mark, Refusal, Release, Scores
from metaward.privacy.wire import (
    SCHEMA,
    Request,
    compact,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
)
from tests.privacy.answers import code_of, release

INT64 = st.integers(-(2**63), 2**63 - 1)
VECTORS = arrays(np.float32, st.integers(0, 50), elements=st.floats(width=32))
NAMES = st.text(max_size=20)
RUNS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", fullmatch=True)
COUNTS = st.integers(0, 2**63 - 1)
MARKED = st.from_regex(r"[A-Za-z0-9-]{1,100}", fullmatch=True)
MARKS = st.none() | st.builds(Mark, MARKED, COUNTS, MARKED)
FINITE = arrays(np.float32, st.integers(0, 50), elements=st.floats(-(2.0**126), 2.0**126, width=32))


def same(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    return one.tobytes() == other.tobytes() and one.shape == other.shape


# ------------------------------------------------------------------------- round trips


@given(NAMES, INT64, VECTORS, st.none() | st.floats(allow_nan=False), MARKS)
def test_release_comes_back(
    hospital: str,
    number: int,
    update: NDArray[np.float32],
    loss: float | None,
    mark: Mark | None,
) -> None:
    back = decode_answer(encode_answer(Release(hospital, number, update, loss, mark)))
    assert isinstance(back, Release)
    assert (back.hospital, back.round, back.loss) == (hospital, number, loss)
    assert back.mark == mark
    assert same(back.update, update)
    assert back.update.dtype == np.float32


@given(NAMES, INT64, st.lists(NAMES, max_size=3).map(tuple), VECTORS, VECTORS)
def test_scores_come_back(
    hospital: str,
    number: int,
    names: tuple[str, ...],
    before: NDArray[np.float32],
    after: NDArray[np.float32],
) -> None:
    back = decode_answer(encode_answer(Scores(hospital, number, names, before, after)))
    assert isinstance(back, Scores)
    assert (back.hospital, back.round, back.names) == (hospital, number, names)
    assert same(back.before, before)
    assert same(back.after, after)


@given(NAMES, INT64)
def test_attendance_comes_back(hospital: str, index: int) -> None:
    assert decode_answer(encode_answer(Attendance(hospital, index))) == Attendance(hospital, index)


@pytest.mark.parametrize("code", sorted(REFUSALS))
def test_refusal_comes_back(code: str) -> None:
    assert decode_answer(encode_answer(Refusal(code))) == Refusal(code)


@given(COUNTS, NAMES, st.none() | FINITE, COUNTS, RUNS, MARKS)
def test_request_comes_back(
    number: int,
    desk: str,
    theta: NDArray[np.float32] | None,
    episodes: int,
    run: str,
    mark: Mark | None,
) -> None:
    sent = Request(number, desk, theta, episodes, run, mark)
    back = decode_request(encode_request(sent))
    assert replace(back, theta=theta) == sent
    if theta is None:
        assert back.theta is None
    else:
        assert back.theta is not None
        assert same(back.theta, theta)


def test_decoded_arrays_are_the_readers_own() -> None:
    """Torch warns about arrays it may not write to, and two readers must not share one."""
    records = encode_answer(release())
    one, two = decode_answer(records), decode_answer(records)
    assert isinstance(one, Release)
    assert isinstance(two, Release)
    one.update[0] = 7
    assert two.update[0] == 1


# ----------------------------------------------------------------------- what may leave


@dataclass(frozen=True)
class Chatty(Release):
    patient: str = "Erika Mustermann"


@pytest.mark.parametrize(
    "thing",
    [
        np.ones(4, np.float32),
        {"update": np.ones(4, np.float32)},
        None,
        Refusal("Erika Mustermann, born 1970, has no support set"),
        Refusal(""),
        Chatty("a", 1, np.ones(4, np.float32), None),
    ],
    ids=["array", "mapping", "none", "words", "no code", "subclass"],
)
def test_nothing_else_leaves(thing: Any) -> None:
    with pytest.raises(TypeError, match="may not leave a hospital"):
        encode_answer(thing)


def test_only_declared_fields_leave() -> None:
    answer = release()
    object.__setattr__(answer, "patient", "Erika Mustermann")
    assert sorted(encode_answer(answer)["release"]) == ["hospital", "loss", "round", "schema"]
    marked = encode_answer(release(mark=Mark("0123", 4, "00")))["release"]
    assert marked.keys() - {"hospital", "loss", "round", "schema"} == {"ledger", "sequence", "head"}


def test_loss_that_a_mechanism_keeps_back_is_not_in_the_message() -> None:
    assert "loss" not in encode_answer(release(loss=None))["release"]


# ------------------------------------------------------------------- malformed messages

ANSWERS: dict[str, Answer] = {
    "release": release(),
    "scores": Scores("a", 3, ("hits",), np.ones((1, 2), np.float32), np.ones((1, 2), np.float32)),
    "attendance": Attendance("a", 0),
    "refusal": Refusal("failed"),
}
Spoil = Callable[[RecordDict, str], object]


def put(key: str, value: Any) -> Spoil:
    return lambda records, kind: records[kind].update({key: value})


SPOILS: dict[str, tuple[Spoil, str]] = {
    "extra record": (lambda r, _: r.update({"more": ConfigRecord()}), "keys"),
    "extra metrics": (lambda r, _: r.update({"more": MetricRecord({"epsilon": 0.0})}), "keys"),
    "two kinds": (
        lambda r, k: r.update({"refusal" if k == "release" else "release": ConfigRecord()}),
        "keys",
    ),
    "other kind of record": (lambda r, k: r.update({k: ArrayRecord()}), "schema"),
    "no schema": (lambda r, k: r[k].pop("schema"), "schema"),
    "later schema": (put("schema", SCHEMA + 1), "schema"),
    "earlier schema": (put("schema", SCHEMA - 1), "schema"),
    "schema as text": (put("schema", str(SCHEMA)), "schema"),
    "schema as boolean": (put("schema", True), "schema"),
    "schema as float": (put("schema", float(SCHEMA)), "schema"),
    "unknown field": (put("patients", 40), "keys"),
}


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("spoil", SPOILS)
def test_malformed_answer_is_refused_with_its_code(kind: str, spoil: str) -> None:
    records = encode_answer(ANSWERS[kind])
    change, code = SPOILS[spoil]
    change(records, kind)
    assert code_of(records, decode_answer) == code


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("release", "round", True),
        ("release", "round", 3.0),
        ("release", "round", "3"),
        ("release", "round", [3]),
        ("release", "hospital", b"a"),
        ("release", "hospital", ["a"]),
        ("release", "loss", 1),
        ("release", "loss", True),
        ("release", "loss", "low"),
        ("scores", "round", False),
        ("scores", "names", "hits"),
        ("scores", "names", [3]),
        ("scores", "names", [True]),
        ("attendance", "index", True),
        ("attendance", "index", 0.0),
        ("refusal", "code", 1),
    ],
)
def test_scalar_of_another_type_is_refused(kind: str, field: str, value: Any) -> None:
    records = encode_answer(ANSWERS[kind])
    records[kind][field] = value
    assert code_of(records, decode_answer) == "type"


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("release", "hospital"),
        ("release", "round"),
        ("scores", "hospital"),
        ("scores", "round"),
        ("attendance", "hospital"),
        ("attendance", "index"),
        ("refusal", "code"),
    ],
)
def test_missing_field_is_refused(kind: str, field: str) -> None:
    records = encode_answer(ANSWERS[kind])
    del records[kind][field]
    assert code_of(records, decode_answer) == "keys"


def test_empty_and_foreign_messages_are_refused() -> None:
    assert code_of(RecordDict(), decode_answer) == "keys"
    assert code_of(RecordDict({"arrays": ArrayRecord()}), decode_answer) == "keys"
    fit = RecordDict({"fitres.num_examples": MetricRecord({"num_examples": 10**12})})
    assert code_of(fit, decode_answer) == "keys"


def test_refusal_in_words_is_not_read() -> None:
    records = encode_answer(Refusal("failed"))
    records["refusal"]["code"] = "Erika Mustermann's file is damaged"
    assert code_of(records, decode_answer) == "code"


@pytest.mark.parametrize("kind", ["attendance", "refusal"])
def test_answers_without_arrays_may_not_carry_any(kind: str) -> None:
    records = encode_answer(ANSWERS[kind])
    records["arrays"] = ArrayRecord({"update": Array(np.ones(4, np.float32))})
    assert code_of(records, decode_answer) == "keys"


@pytest.mark.parametrize("kind", ["release", "scores"])
def test_missing_renamed_and_extra_arrays_are_refused(kind: str) -> None:
    one = Array(np.ones(4, np.float32))
    names = {"release": ["update"], "scores": ["before", "after"]}[kind]
    for found in ([], ["theta"], [*names, "extra"], names[1:]):
        records = encode_answer(ANSWERS[kind])
        records["arrays"] = ArrayRecord(dict.fromkeys(found, one))
        assert code_of(records, decode_answer) == "keys"
    records["arrays"] = ConfigRecord(dict.fromkeys(names, 1.0))
    assert code_of(records, decode_answer) == "keys"
    del records["arrays"]
    assert code_of(records, decode_answer) == "keys"


def theta_of(value: float) -> ArrayRecord:
    return ArrayRecord({"theta": Array(np.array([1, value], np.float32))})


REQUEST = Request(2, "{}", np.ones(4, np.float32), 5)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda r: r.pop("request"), "keys"),
        (lambda r: r.update({"more": ConfigRecord()}), "keys"),
        (lambda r: r["request"].update({"schema": 9}), "schema"),
        (lambda r: r["request"].update({"round": True}), "type"),
        (lambda r: r["request"].update({"desk": 5}), "type"),
        (lambda r: r["request"].update({"root": "/etc"}), "keys"),
        (lambda r: r["request"].pop("episodes"), "keys"),
        (lambda r: r["request"].pop("run"), "keys"),
        (lambda r: r["request"].update({"run": ""}), "run"),
        (lambda r: r["request"].update({"run": "../../etc/passwd"}), "run"),
        (lambda r: r["request"].update({"run": ".hidden"}), "run"),
        (lambda r: r["request"].update({"run": "two\nlines"}), "run"),
        (lambda r: r["request"].update({"run": "line\n"}), "run"),
        (lambda r: r["request"].update({"run": "x" * 101}), "run"),
        (lambda r: r["request"].update({"run": 7}), "type"),
        (lambda r: r["request"].update({"ledger": "ab", "sequence": 4}), "keys"),
        (lambda r: r["request"].update({"head": "ab"}), "keys"),
        (lambda r: r["request"].update({"ledger": "a", "sequence": "4", "head": "b"}), "type"),
        (lambda r: r["request"].update({"ledger": "a", "sequence": -1, "head": "b"}), "mark"),
        (lambda r: r["request"].update({"ledger": "a\x1b[2J", "sequence": 4, "head": "b"}), "mark"),
        (lambda r: r["request"].update({"ledger": "a", "sequence": 4, "head": "b" * 101}), "mark"),
        (lambda r: r["request"].update({"round": -1}), "range"),
        (lambda r: r["request"].update({"episodes": -1}), "range"),
        (lambda r: r.update({"theta": theta_of(np.nan)}), "finite"),
        (lambda r: r.update({"theta": theta_of(-np.inf)}), "finite"),
        (lambda r: r.update({"theta": ConfigRecord()}), "keys"),
        (lambda r: r.update({"theta": ArrayRecord()}), "keys"),
        (lambda r: r.update({"theta": ArrayRecord({"theta": Array(np.ones(4))})}), "dtype"),
    ],
)
def test_malformed_request_is_refused_with_its_code(spoil: Any, code: str) -> None:
    records = encode_request(REQUEST)
    spoil(records)
    assert code_of(records, decode_request) == code


# ------------------------------------------------------------------------ canonical JSON


def test_equal_settings_are_equal_text() -> None:
    assert compact({"b": 1.0, "a": [1, 2]}) == compact({"a": (1, 2), "b": 1.0})
    assert compact({"b": 1, "a": None}) == '{"a":null,"b":1}'
    with pytest.raises(ValueError, match="JSON"):
        compact({"loss": float("nan")})
