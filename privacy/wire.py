"""The only file that knows Flower's record keys: typed requests and answers to records and back.

Reading is strict, because the other side is not trusted: a wrong key, type or schema raises
``WireError`` with a fixed code, never the sender's own words.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from privacy.release import REFUSALS, Answer, Attendance, Refusal, Release, Scores

SCHEMA = 1
MAX_BYTES = 1 << 30
"""Larger arrays are not even opened."""


class WireError(ValueError):
    """A message that is not ours: ``code`` says in a fixed word what is wrong with it."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Request:
    """What the server asks of a hospital.

    ``theta`` (dim,) float32, or None where no vector is needed; ``sim`` the run's whole
    configuration as JSON; ``learner`` the algorithm's section as JSON (a baseline's differs from
    the run's); ``episodes`` how many to evaluate (0 in training).
    """

    round: int
    sim: str
    learner: str
    theta: NDArray[np.float32] | None = None
    episodes: int = 0


def encode_request(request: Request) -> RecordDict:
    """Records for the way to a hospital."""
    records = RecordDict()
    if request.theta is not None:
        records["theta"] = ArrayRecord({"theta": Array(request.theta)})
    records["request"] = ConfigRecord(
        {
            "schema": SCHEMA,
            "round": request.round,
            "sim": request.sim,
            "learner": request.learner,
            "episodes": request.episodes,
        }
    )
    return records


def decode_request(records: RecordDict) -> Request:
    """The request in a message; ``WireError`` where it is not one of ours."""
    if set(records) - {"theta"} != {"request"}:
        raise WireError("keys")
    fields = _fields(records, "request", round=int, sim=str, learner=str, episodes=int)
    theta = _array(records, "theta") if "theta" in records else None
    return Request(theta=theta, **fields)


def encode_answer(answer: Answer) -> RecordDict:
    """Records for the way out. Only the four answer types pass; anything else is a leak."""
    if isinstance(answer, Release):
        return _records("release", answer, {"update": answer.update})
    if isinstance(answer, Scores):
        return _records("scores", answer, {"before": answer.before, "after": answer.after})
    if isinstance(answer, Attendance):
        return _records("attendance", answer, {})
    if isinstance(answer, Refusal) and answer.code in REFUSALS:
        return _records("refusal", answer, {})
    raise TypeError(f"{type(answer).__name__} may not leave a hospital")


def decode_answer(records: RecordDict) -> Answer:
    """The answer in a reply; ``WireError`` where it is not one of ours. Arrays are unjudged."""
    kinds = [key for key in records if key in _READERS]
    if len(kinds) != 1 or set(records) - {*kinds, "arrays"}:
        raise WireError("keys")
    return _READERS[kinds[0]](records)


def _release(records: RecordDict) -> Release:
    fields = _fields(records, "release", hospital=str, round=int, optional={"loss": float})
    arrays = _arrays(records, "update")
    return Release(update=arrays["update"], loss=fields.pop("loss", None), **fields)


def _scores(records: RecordDict) -> Scores:
    fields = _fields(records, "scores", hospital=str, round=int)
    arrays = _arrays(records, "before", "after")
    return Scores(before=arrays["before"], after=arrays["after"], **fields)


def _attendance(records: RecordDict) -> Attendance:
    return Attendance(**_fields(records, "attendance", hospital=str, index=int))


def _refusal(records: RecordDict) -> Refusal:
    code = _fields(records, "refusal", code=str)["code"]
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
    scalars = {k: v for k, v in vars(answer).items() if k not in arrays and v is not None}
    records = RecordDict({kind: ConfigRecord({"schema": SCHEMA, **scalars})})
    if arrays:
        records["arrays"] = ArrayRecord({key: Array(value) for key, value in arrays.items()})
    return records


def _fields(
    records: RecordDict, key: str, *, optional: dict[str, type] | None = None, **expected: type
) -> dict[str, Any]:
    record = records[key]
    optional = optional or {}
    if not isinstance(record, ConfigRecord) or record.get("schema") != SCHEMA:
        raise WireError("schema")
    fields = {name: record[name] for name in record if name != "schema"}
    if not expected.keys() <= fields.keys() <= expected.keys() | optional.keys():
        raise WireError("keys")
    kinds = expected | optional
    if any(type(value) is not kinds[name] for name, value in fields.items()):
        raise WireError("type")
    return fields


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
    """Decode one array without ever unpickling; the declared type must be the real one."""
    if len(array.data) > MAX_BYTES or array.stype != "numpy.ndarray":
        raise WireError("size" if len(array.data) > MAX_BYTES else "type")
    try:
        value = np.load(io.BytesIO(array.data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise WireError("array") from error
    if not isinstance(value, np.ndarray) or value.dtype != np.float32:
        raise WireError("dtype")
    return value


def compact(value: object) -> str:
    """Canonical JSON: sorted keys, no spaces, no NaN, so that equal settings are equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
