"""Arrays from a hostile sender: refused by a fixed code, whatever their bytes are."""

import io
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from metaward.privacy import Release, wire
from metaward.privacy.wire import (
    WireError,
    decode_answer,
)
from tests.privacy.answers import code_of


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
    fields = ConfigRecord({"schema": wire.SCHEMA, "hospital": "a", "round": 3})
    return RecordDict({"release": fields, "arrays": ArrayRecord({"update": array})})


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


@pytest.mark.parametrize(
    ("header", "shape", "data"),
    [("True,", (True,), b"\0" * 4), ("-2, -2", (-2, -2), b"\0" * 16), ("-1,", (-1,), b"")],
)
def test_a_shape_that_is_none_is_refused_even_where_it_is_declared(
    header: str, shape: tuple[int, ...], data: bytes
) -> None:
    hostile = npy_with(GOOD.replace("4,", header), data)
    array = Array("float32", shape, "numpy.ndarray", hostile)
    assert code_of(reply(array), decode_answer) == "shape"


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
