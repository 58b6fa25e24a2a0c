"""The way in and out: what is encoded comes back equal, and nothing malformed comes in."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from privacy import REFUSALS, Answer, Attendance, Refusal, Release, Scores, wire
from privacy.wire import (
    Request,
    WireError,
    compact,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
)

INT64 = st.integers(-(2**63), 2**63 - 1)
VECTORS = arrays(np.float32, st.integers(0, 50), elements=st.floats(width=32))
NAMES = st.text(max_size=20)


def release(**changes: Any) -> Release:
    values = {"hospital": "a", "round": 3, "update": np.ones(4, np.float32), "loss": 0.5}
    return Release(**values | changes)


def npy(values: NDArray[Any], *, pickled: bool = False) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=pickled)
    return stream.getvalue()


def npy_with(header: str, data: bytes = b"") -> bytes:
    """A .npy file, version 1.0, whose header is any text."""
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def reply(array: Array) -> RecordDict:
    """A release whose update is this array, however wrong it is."""
    fields = ConfigRecord({"schema": 1, "hospital": "a", "round": 3})
    return RecordDict({"release": fields, "arrays": ArrayRecord({"update": array})})


def same(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    return one.tobytes() == other.tobytes() and one.shape == other.shape


# ------------------------------------------------------------------------- round trips


@given(NAMES, INT64, VECTORS, st.none() | st.floats(allow_nan=False))
def test_release_comes_back(
    hospital: str, number: int, update: NDArray[np.float32], loss: float | None
) -> None:
    back = decode_answer(encode_answer(Release(hospital, number, update, loss)))
    assert isinstance(back, Release)
    assert (back.hospital, back.round, back.loss) == (hospital, number, loss)
    assert same(back.update, update)
    assert back.update.dtype == np.float32


@given(NAMES, INT64, VECTORS, VECTORS)
def test_scores_come_back(
    hospital: str, number: int, before: NDArray[np.float32], after: NDArray[np.float32]
) -> None:
    back = decode_answer(encode_answer(Scores(hospital, number, before, after)))
    assert isinstance(back, Scores)
    assert (back.hospital, back.round) == (hospital, number)
    assert same(back.before, before)
    assert same(back.after, after)


@given(NAMES, INT64)
def test_attendance_comes_back(hospital: str, index: int) -> None:
    assert decode_answer(encode_answer(Attendance(hospital, index))) == Attendance(hospital, index)


@pytest.mark.parametrize("code", sorted(REFUSALS))
def test_refusal_comes_back(code: str) -> None:
    assert decode_answer(encode_answer(Refusal(code))) == Refusal(code)


@given(INT64, NAMES, NAMES, st.none() | VECTORS, INT64)
def test_request_comes_back(
    number: int, sim: str, learner: str, theta: NDArray[np.float32] | None, episodes: int
) -> None:
    back = decode_request(encode_request(Request(number, sim, learner, theta, episodes)))
    assert (back.round, back.sim, back.learner, back.episodes) == (number, sim, learner, episodes)
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


def test_loss_that_a_mechanism_keeps_back_is_not_in_the_message() -> None:
    assert "loss" not in encode_answer(release(loss=None))["release"]


# ------------------------------------------------------------------- malformed messages

ANSWERS: dict[str, Answer] = {
    "release": release(),
    "scores": Scores("a", 3, np.ones(2, np.float32), np.ones(2, np.float32)),
    "attendance": Attendance("a", 0),
    "refusal": Refusal("failed"),
}
Spoil = Callable[[RecordDict, str], object]


def code_of(records: RecordDict, decode: Callable[[RecordDict], object]) -> str:
    with pytest.raises(WireError) as caught:
        decode(records)
    assert str(caught.value) == caught.value.code, "only the code may be in the text"
    return caught.value.code


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
    "later schema": (put("schema", 2), "schema"),
    "schema as text": (put("schema", "1"), "schema"),
    "schema as boolean": (put("schema", True), "schema"),
    "schema as float": (put("schema", 1.0), "schema"),
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


REQUEST = Request(2, "{}", "{}", np.ones(4, np.float32), 5)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda r: r.pop("request"), "keys"),
        (lambda r: r.update({"more": ConfigRecord()}), "keys"),
        (lambda r: r["request"].update({"schema": 9}), "schema"),
        (lambda r: r["request"].update({"round": True}), "type"),
        (lambda r: r["request"].update({"sim": 5}), "type"),
        (lambda r: r["request"].update({"root": "/etc"}), "keys"),
        (lambda r: r["request"].pop("episodes"), "keys"),
        (lambda r: r.update({"theta": ConfigRecord()}), "keys"),
        (lambda r: r.update({"theta": ArrayRecord()}), "keys"),
        (lambda r: r.update({"theta": ArrayRecord({"theta": Array(np.ones(4))})}), "dtype"),
    ],
)
def test_malformed_request_is_refused_with_its_code(spoil: Any, code: str) -> None:
    records = encode_request(REQUEST)
    spoil(records)
    assert code_of(records, decode_request) == code


# ----------------------------------------------------------------------- hostile arrays

ONES = np.ones(4, np.float32)
GOOD = "{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }"
Hostile = dict[str, tuple[Array, str]]
DECLARED: Hostile = {
    "float64": (Array(np.ones(4)), "dtype"),
    "integers": (Array(np.ones(4, np.int32)), "dtype"),
    "big endian": (Array(np.ones(4, ">f4")), "dtype"),
    "declared float64": (Array("float64", (4,), "numpy.ndarray", npy(ONES)), "dtype"),
    "really float64": (Array("float32", (4,), "numpy.ndarray", npy(np.ones(4))), "dtype"),
    "declared shorter": (Array("float32", (3,), "numpy.ndarray", npy(ONES)), "shape"),
    "declared flat": (Array("float32", (4,), "numpy.ndarray", npy(ONES[None])), "shape"),
    "declared scalar": (Array("float32", (), "numpy.ndarray", npy(ONES)), "shape"),
    "pickle type": (Array("float32", (4,), "pickle", npy(ONES)), "type"),
    "no type": (Array("float32", (4,), "", npy(ONES)), "type"),
}
OBJECTS = np.array([print, 1, 2, 3], dtype=object)
DAMAGED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "array"),
    "words": (b"no array at all", "array"),
    "pickled objects": (npy(OBJECTS, pickled=True), "dtype"),
    "half a header": (npy(ONES)[:40], "array"),
    "values cut off": (npy(ONES)[:-1], "array"),
    "values added": (npy(ONES) + b"\0", "array"),
    "damaged zip": (b"PK\x03\x04 not really", "array"),
    "Fortran order": (npy(np.asfortranarray(np.ones((2, 2), np.float32))), "array"),
    "unhashable key": (npy_with("{[]: 1}"), "array"),
    "open bracket": (npy_with("{'descr': '<f4', 'shape': (4,"), "array"),
    "open quote": (npy_with("'''"), "array"),
    "deep nesting": (npy_with("-" * 9000 + "1"), "array"),
    "code": (npy_with("print('hello')"), "array"),
    "Python 2": (npy_with(GOOD.replace("4,", "4L,"), ONES.tobytes()), "array"),
    "boolean length": (npy_with(GOOD.replace("4,", "True,"), b"\0" * 4), "shape"),
    "negative length": (npy_with(GOOD.replace("4,", "-2, -2"), ONES.tobytes()), "shape"),
}


@pytest.mark.parametrize("name", DECLARED)
def test_array_that_is_not_what_it_declares_is_refused(name: str) -> None:
    array, code = DECLARED[name]
    assert code_of(reply(array), decode_answer) == code


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_array_is_refused_and_nothing_else_is_raised(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data, code = DAMAGED[name]
    for shape in [(4,), (2, 2)]:
        found = code_of(reply(Array("float32", shape, "numpy.ndarray", data)), decode_answer)
        assert found in {code, "shape"}
    assert capsys.readouterr().out == "", "nothing in an array may be executed"


def test_a_shape_is_not_believed_before_the_data_is_seen() -> None:
    """Believing it would take 40 TB of memory, and end the run by one reply."""
    data = npy_with(GOOD.replace("4", str(10**13)), b"\0" * 16)
    array = Array("float32", (10**13,), "numpy.ndarray", data)
    assert code_of(reply(array), decode_answer) == "array"
    array = Array("float32", (2**62, 4), "numpy.ndarray", npy_with(GOOD.replace("4,", "2**62, 4")))
    assert code_of(reply(array), decode_answer) == "array"


def test_objects_are_never_unpickled(monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    monkeypatch.setattr(pickle, "load", lambda *_, **__: pytest.fail("unpickled"))
    for dtype in ("float32", "object"):
        array = Array(dtype, (4,), "numpy.ndarray", npy(OBJECTS, pickled=True))
        assert code_of(reply(array), decode_answer) == "dtype"


def test_too_large_an_array_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_BYTES", len(npy(ONES)))
    decode_answer(reply(Array(ONES)))
    monkeypatch.setattr(wire, "MAX_BYTES", len(npy(ONES)) - 1)
    assert code_of(reply(Array(ONES)), decode_answer) == "size"


@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda b: npy(ONES)[:10] + b))
def test_any_bytes_give_an_array_or_a_wire_error(data: bytes) -> None:
    try:
        answer = decode_answer(reply(Array("float32", (4,), "numpy.ndarray", data)))
    except WireError:
        return
    assert isinstance(answer, Release)
    assert answer.update.shape == (4,)


@given(st.integers(0, 8 * len(npy(ONES)) - 1))
def test_any_flipped_bit_gives_a_vector_of_the_same_shape_or_a_wire_error(bit: int) -> None:
    data = bytearray(npy(ONES))
    data[bit // 8] ^= 1 << bit % 8
    try:
        answer = decode_answer(reply(Array("float32", (4,), "numpy.ndarray", bytes(data))))
    except WireError:
        return
    assert isinstance(answer, Release)
    assert answer.update.shape == (4,)
    assert answer.update.dtype == np.float32


# ------------------------------------------------------------------------ canonical JSON


def test_equal_settings_are_equal_text() -> None:
    assert compact({"b": 1.0, "a": [1, 2]}) == compact({"a": (1, 2), "b": 1.0})
    assert compact({"b": 1, "a": None}) == '{"a":null,"b":1}'
    with pytest.raises(ValueError, match="JSON"):
        compact({"loss": float("nan")})
