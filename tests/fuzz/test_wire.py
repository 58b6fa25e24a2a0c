"""Requests and answers from anybody: any records, damaged ones of ours, headers of any array."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import strategies as st

from metaward.privacy import Attendance, Mark, Refusal, Release, Scores
from metaward.privacy.wire import (
    Request,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
)
from tests.fuzz.damage import damaged
from tests.fuzz.harness import Counted, fuzz, inputs

ONES = np.ones((2, 2), np.float32)
INT64 = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 1, 3])
SCALARS = INT64 | st.floats() | st.booleans() | st.text(max_size=9) | st.binary(max_size=9)
VALUES = SCALARS | st.lists(INT64, max_size=3) | st.lists(st.text(max_size=5), max_size=3)
KEYS = st.sampled_from(
    [
        "schema",
        "round",
        "desk",
        "episodes",
        "run",
        "ledger",
        "sequence",
        "head",
        "hospital",
        "loss",
        "names",
        "index",
        "code",
        "more",
    ]
)
CONFIGS = st.dictionaries(KEYS, VALUES, max_size=6).map(ConfigRecord)
NAMES = st.sampled_from(
    ["request", "release", "scores", "attendance", "refusal", "arrays", "theta", "more"]
)
SIZES = st.sampled_from([0, 1, 2, 4, -1, True, 2**31, 2**63, 2**64, 10**30])
SHAPES = st.lists(SIZES, max_size=4).map(tuple) | st.just((1,) * 70) | st.just((2, 2))
DTYPES = st.sampled_from(["float32", "float64", "object", "", "<f4", "int8"])
DESCRS = st.sampled_from(
    ["'<f4'", "'<f4'", "'<f4'", "'>f4'", "'|O'", "'<M8[s]'", "[('a','<f4')]", "'<U1'", "'<f4', 2"]
)


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@st.composite
def headers(draw: st.DrawFn, shape: tuple[int, ...] | None = None) -> bytes:
    """A .npy file whose header says anything, with as many values as it says, where that can be."""
    said = draw(SHAPES) if shape is None else shape
    order = draw(st.sampled_from(["False", "False", "True", "0"]))
    text = f"{{'descr': {draw(DESCRS)}, 'fortran_order': {order}, 'shape': {said}, }}"
    size = abs(int(np.prod([min(int(n), 9) for n in said[:4]])))
    length = draw(st.sampled_from([len(text), len(text), 0, 65535]))
    return b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + text.encode() + bytes(4 * size)


@st.composite
def arrays_of(draw: st.DrawFn) -> Array:
    """An array that may say of itself what it is."""
    shape = draw(SHAPES)
    data = draw(headers(shape) | headers() | damaged(npy(ONES)) | st.just(npy(ONES)))
    said = shape if draw(st.booleans()) else draw(SHAPES)
    return Array(draw(DTYPES | st.just("float32")), said, "numpy.ndarray", data)


ARRAYS = st.dictionaries(
    st.sampled_from(["theta", "update", "before", "after", "more"]), arrays_of(), max_size=3
).map(ArrayRecord)
RECORDS = CONFIGS | ARRAYS | st.just(MetricRecord({"round": 1}))
ANY = st.dictionaries(NAMES, RECORDS, max_size=3).map(RecordDict)

MARK = Mark("0" * 16, 3, "f" * 64)
REQUESTS = [Request(3, "{}", ONES.ravel(), 0, "run", MARK), Request(0, "{}")]
ANSWERS = [
    Release("a", 3, ONES.ravel(), 0.5, MARK),
    Scores("a", 3, ("hits",), ONES, ONES),
    Attendance("a", 0),
    Refusal("failed"),
]


@st.composite
def spoilt(draw: st.DrawFn, goods: list[RecordDict]) -> RecordDict:
    """A message of ours with a field, an array or a record changed, added or taken out."""
    good = draw(st.sampled_from(goods))
    records = RecordDict({key: type(value)(dict(value)) for key, value in good.items()})
    key = draw(st.sampled_from([*records]))
    record = records[key]
    field = draw(st.sampled_from([*record]) | KEYS)
    if draw(st.integers(0, 4)) == 0:
        records[draw(NAMES)] = draw(RECORDS)
    elif draw(st.integers(0, 4)) == 0:
        record.pop(field, None)
    else:
        record[field] = draw(arrays_of() if isinstance(record, ArrayRecord) else VALUES)
    return records


def came_back(records: RecordDict, again: RecordDict) -> None:
    """What was read is written with the same fields and values; arrays in their one form."""
    assert records.keys() == again.keys()
    for key, record in records.items():
        assert record.keys() == again[key].keys()
        if isinstance(record, ConfigRecord):
            assert repr(dict(record)) == repr({name: again[key][name] for name in record})
        else:
            for name in record:
                assert tuple(record[name].shape) == tuple(again[key][name].shape)


def read_request(records: RecordDict) -> None:
    came_back(records, encode_request(decode_request(records)))


def read_answer(records: RecordDict) -> None:
    came_back(records, encode_answer(decode_answer(records)))


def flat(shape: tuple[int, ...]) -> RecordDict:
    """A release whose update has this shape, and no value or one."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    size = 4 * (0 not in shape)
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(size)
    records = encode_answer(ANSWERS[0])
    records["arrays"]["update"] = Array("float32", shape, "numpy.ndarray", data)
    return records


KNOWN = [flat((0, 2**63)), flat((1,) * 65)]
"""Shapes that agree with their data and that numpy cannot hold."""


@inputs(80, 1200)
def test_requests(number: int, counted: Counted) -> None:
    drawn = ANY | spoilt([encode_request(one) for one in REQUESTS])
    fuzz(number, drawn, read_request, counted)


@inputs(120, 2000)
def test_answers(number: int, counted: Counted) -> None:
    drawn = ANY | spoilt([encode_answer(one) for one in ANSWERS])
    fuzz(number, drawn, read_answer, counted, KNOWN)


@inputs(120, 2000)
def test_arrays(number: int, counted: Counted) -> None:
    """A release, right in all but its array."""
    good = encode_answer(ANSWERS[0])

    def with_array(array: Array) -> RecordDict:
        return RecordDict({**good, "arrays": ArrayRecord({"update": array})})

    fuzz(number, arrays_of().map(with_array), read_answer, counted, KNOWN)
