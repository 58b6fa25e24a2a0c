"""The only file that knows Flower's record keys: typed requests and answers to records and back.

Reading is strict, because the other side is not trusted: a wrong key, type or schema raises
``WireError`` with a fixed word, never the sender's own words.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from dataclasses import fields as fields_of
from math import prod
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from metaward.errors import InputError
from metaward.privacy.event import Mark
from metaward.privacy.release import REFUSALS, Answer, Attendance, Refusal, Release, Scores

SCHEMA = 3
MARK: dict[str, type] = {"ledger": str, "sequence": int, "head": str}
RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
MAX_BYTES = 1 << 30
"""Larger arrays are not even opened."""


class WireError(InputError):
    """A message that is not ours: ``fault`` says in a fixed word what is wrong with it."""

    code = "bad-request"

    def __init__(self, fault: str) -> None:
        super().__init__(fault)
        self.fault = fault


@dataclass(frozen=True)
class Request:
    """What the server asks of a hospital.

    ``desk`` says as JSON how to work (``client.desk``); ``theta`` (dim,) float32, or None where no
    vector is needed; ``episodes`` how many to evaluate (0 in training). ``run`` names the run and
    learner (a retry has the same name, another run has not); ``mark`` is the last point of the
    hospital's ledger that the server saw.
    """

    round: int
    desk: str
    theta: NDArray[np.float32] | None = None
    episodes: int = 0
    run: str = "run"
    mark: Mark | None = None


def encode_request(request: Request) -> RecordDict:
    """Records for the way to a hospital."""
    records = RecordDict()
    if request.theta is not None:
        records["theta"] = ArrayRecord({"theta": Array(request.theta)})
    records["request"] = ConfigRecord(
        {
            "schema": SCHEMA,
            "round": request.round,
            "desk": request.desk,
            "episodes": request.episodes,
            "run": request.run,
            **_marked(request.mark),
        }
    )
    return records


def decode_request(records: RecordDict) -> Request:
    """The request in a message; ``WireError`` where it is not one of ours."""
    if set(records) - {"theta"} != {"request"}:
        raise WireError("keys")
    fields = _fields(records, "request", optional=MARK, round=int, desk=str, episodes=int, run=str)
    if not RUN.fullmatch(fields["run"]):
        raise WireError("run")
    theta = _array(records, "theta") if "theta" in records else None
    return Request(theta=theta, mark=_mark(fields), **fields)


def encode_answer(answer: Answer) -> RecordDict:
    """Records for the way out. Only the four answer types pass; anything else is a leak.

    A subclass is something else: it could carry fields that no mechanism has seen.
    """
    if type(answer) is Release:
        return _records("release", answer, {"update": answer.update})
    if type(answer) is Scores:
        return _records("scores", answer, {"before": answer.before, "after": answer.after})
    if type(answer) is Attendance:
        return _records("attendance", answer, {})
    if type(answer) is Refusal and answer.code in REFUSALS:
        return _records("refusal", answer, {})
    raise TypeError(f"{type(answer).__name__} may not leave a hospital")


def decode_answer(records: RecordDict) -> Answer:
    """The answer in a reply; ``WireError`` where it is not one of ours. Arrays are unjudged."""
    kinds = set(records) - {"arrays"}
    if len(kinds) != 1 or not kinds <= _READERS.keys():
        raise WireError("keys")
    return _READERS[kinds.pop()](records)


def _release(records: RecordDict) -> Release:
    optional = {"loss": float, **MARK}
    fields = _fields(records, "release", hospital=str, round=int, optional=optional)
    arrays = _arrays(records, "update")
    mark, loss = _mark(fields), fields.pop("loss", None)
    return Release(update=arrays["update"], loss=loss, mark=mark, **fields)


def _scores(records: RecordDict) -> Scores:
    fields = _fields(records, "scores", hospital=str, round=int, names=list)
    names = tuple(fields.pop("names"))
    if not all(type(name) is str for name in names):
        raise WireError("type")
    arrays = _arrays(records, "before", "after")
    return Scores(names=names, before=arrays["before"], after=arrays["after"], **fields)


def _attendance(records: RecordDict) -> Attendance:
    return Attendance(**_fields(_alone(records), "attendance", hospital=str, index=int))


def _refusal(records: RecordDict) -> Refusal:
    code = _fields(_alone(records), "refusal", code=str)["code"]
    if code not in REFUSALS:
        raise WireError("code")
    return Refusal(code)


_READERS: dict[str, Callable[[RecordDict], Answer]] = {
    "release": _release,
    "scores": _scores,
    "attendance": _attendance,
    "refusal": _refusal,
}


def _records(kind: str, answer: Answer, arrays: dict[str, NDArray[np.float32]]) -> RecordDict:
    values = {field.name: getattr(answer, field.name) for field in fields_of(answer)}
    values |= _marked(values.pop("mark", None))
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
    scalars = {k: v for k, v in values.items() if k not in arrays and v is not None}
    records = RecordDict({kind: ConfigRecord({"schema": SCHEMA, **scalars})})
    if arrays:
        records["arrays"] = ArrayRecord({key: Array(value) for key, value in arrays.items()})
    return records


def _fields(
    records: RecordDict, key: str, *, optional: dict[str, type] | None = None, **expected: type
) -> dict[str, Any]:
    record = records[key]
    optional = optional or {}
    schema = record.get("schema") if isinstance(record, ConfigRecord) else None
    if type(schema) is not int or schema != SCHEMA:
        raise WireError("schema")
    fields = {name: record[name] for name in record if name != "schema"}
    if not expected.keys() <= fields.keys() <= expected.keys() | optional.keys():
        raise WireError("keys")
    kinds = expected | optional
    if any(type(value) is not kinds[name] for name, value in fields.items()):
        raise WireError("type")
    return fields


def _alone(records: RecordDict) -> RecordDict:
    if "arrays" in records:
        raise WireError("keys")
    return records


def _arrays(records: RecordDict, *keys: str) -> dict[str, NDArray[np.float32]]:
    record = records.get("arrays")
    if not isinstance(record, ArrayRecord) or set(record) != set(keys):
        raise WireError("keys")
    return {key: _open(record[key]) for key in keys}


def _array(records: RecordDict, key: str) -> NDArray[np.float32]:
    record = records[key]
    if not isinstance(record, ArrayRecord) or set(record) != {key}:
        raise WireError("keys")
    return _open(record[key])


def _open(array: Array) -> NDArray[np.float32]:
    """Decode one array without ever unpickling; what is declared must be what is there.

    A header may claim any shape: it is compared with the length of the data before memory is taken.
    """
    if array.stype != "numpy.ndarray":
        raise WireError("type")
    if len(array.data) > MAX_BYTES:
        raise WireError("size")
    shape, dtype, start = _header(array.data)
    if dtype != np.float32 or array.dtype != "float32":
        raise WireError("dtype")
    if shape != tuple(array.shape) or any(type(n) is not int or n < 0 for n in shape):
        raise WireError("shape")
    if len(array.data) - start != prod(shape) * dtype.itemsize:
        raise WireError("array")
    return np.frombuffer(array.data, dtype, offset=start).reshape(shape).copy()


def _header(data: bytes) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, dtype and start of the values in a .npy file, version 1.0 in C order."""
    stream = io.BytesIO(data)
    try:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise WireError("array")
        with warnings.catch_warnings(action="error"):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    except Exception as error:  # numpy's parser meets hostile text with errors of many kinds
        raise WireError("array") from error
    if fortran:
        raise WireError("array")
    return shape, dtype, stream.tell()


def _marked(mark: Mark | None) -> dict[str, Any]:
    return {} if mark is None else {name: getattr(mark, name) for name in MARK}


def _mark(fields: dict[str, Any]) -> Mark | None:
    """The mark among the fields, taken out of them; all of it or nothing."""
    found = {name: fields.pop(name) for name in MARK if name in fields}
    if found and len(found) < len(MARK):
        raise WireError("keys")
    return Mark(**found) if found else None


def with_mark(request: Request, mark: Mark | None) -> Request:
    """The request with what the server knows of the hospital's ledger."""
    return replace(request, mark=mark)


def digest(request: Request) -> str:
    """SHA-256 in hex of all that is asked; the mark is not asked for, it only informs."""
    theta = b"" if request.theta is None else request.theta.astype("<f4").tobytes()
    head = compact([request.run, request.round, request.desk, request.episodes])
    return hashlib.sha256(head.encode() + b"\n" + theta).hexdigest()


def pack(release: Release) -> bytes:
    """A release as bytes for the hospital's own ledger: a line of JSON, then the update."""
    head = {"hospital": release.hospital, "round": release.round, "loss": release.loss}
    line = compact(head | {"mark": _marked(release.mark)})
    return line.encode() + b"\n" + release.update.astype("<f4").tobytes()


def unpack(stored: bytes) -> Release:
    """The inverse of ``pack``."""
    line, _, values = stored.partition(b"\n")
    head = json.loads(line)
    update = np.frombuffer(values, "<f4").astype(np.float32)
    return Release(head["hospital"], head["round"], update, head["loss"], _mark(head["mark"]))


def compact(value: object) -> str:
    """Canonical JSON: sorted keys, no spaces, no NaN, so that equal settings are equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
