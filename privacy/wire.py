"""Requests and answers as Flower's records and back; no other file knows the records' keys.

Reading is strict, because the sender is not trusted: a wrong key, type or schema raises
``WireError`` with a fixed word, and nothing that the sender wrote is repeated.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from metaward.errors import InputError
from metaward.json_text import read_json
from metaward.options import compact
from metaward.privacy.event import Mark
from metaward.privacy.release import REFUSALS, Answer, Attendance, Refusal, Release, Scores
from metaward.privacy.signing import Signature, Statement

Records = RecordDict
SCHEMA = 3
MARK: dict[str, type] = {"ledger": str, "sequence": int, "head": str}
RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
MARKED = re.compile(r"[A-Za-z0-9-]{1,100}")
"""A ledger's name and the head of its chain: they are written down and shown, so no other text."""
MAX_BYTES = 1 << 30
"""Larger arrays are not even opened."""


class WireError(InputError):
    """A message that is not metaward's; ``fault`` is a fixed word for what is wrong with it."""

    code = "bad-request"

    def __init__(self, fault: str) -> None:
        super().__init__(fault)
        self.fault = fault


@dataclass(frozen=True)
class Request:
    """What the server asks of a hospital.

    ``desk`` is JSON that says how to work (``client.desk``); ``theta`` is (dim,) float32, or None
    where no vector is needed; ``episodes`` are to be evaluated (0 in training). ``run`` names the
    run and the learner: a retry has the same name, another run has another. ``mark`` is the last
    point of the hospital's ledger that the server saw.
    """

    round: int
    desk: str
    theta: NDArray[np.float32] | None = None
    episodes: int = 0
    run: str = "run"
    mark: Mark | None = None


@dataclass(frozen=True)
class Form:
    """How one type is encoded: a record of scalars under its name, and its arrays, if it has any.

    A list travels for each tuple of texts.
    """

    of: type[Any]
    scalars: dict[str, type]
    optional: dict[str, type] = field(default_factory=dict)
    arrays: tuple[str, ...] = ()


FORMS = {
    "request": Form(Request, {"round": int, "desk": str, "episodes": int, "run": str}, MARK),
    "release": Form(Release, {"hospital": str, "round": int}, {"loss": float, **MARK}, ("update",)),
    "scores": Form(Scores, {"hospital": str, "round": int, "names": list}, {}, ("before", "after")),
    "attendance": Form(Attendance, {"hospital": str, "index": int}),
    "refusal": Form(Refusal, {"code": str}),
    "signature": Form(Signature, {"hospital": str, "signature": bytes}),
}
ANSWERS = {form.of: kind for kind, form in FORMS.items() if kind not in ("request", "signature")}


def encode_request(request: Request) -> RecordDict:
    """The records of a request."""
    records = _encoded("request", request)
    if request.theta is not None:
        records["theta"] = ArrayRecord({"theta": Array(request.theta)})
    return records


def decode_request(records: RecordDict) -> Request:
    """The request in a message; ``WireError`` where it is not one of ours."""
    if set(records) - {"theta"} != {"request"}:
        raise WireError("keys")
    theta = _arrays(records, "theta", ("theta",)) if "theta" in records else {}
    request: Request = _decoded("request", records, theta)
    if not RUN.fullmatch(request.run):
        raise WireError("run")
    if request.round < 0 or request.episodes < 0:
        raise WireError("range")
    if request.theta is not None and not np.isfinite(request.theta).all():
        raise WireError("finite")  # whatever is computed from it is worth nothing, and would cost
    return request


def encode_answer(answer: Answer, signature: Signature | None = None) -> RecordDict:
    """The records of an answer. ``TypeError`` for all but the four answer types.

    A subclass is refused, too: it could carry fields that no mechanism has seen.
    """
    kind = ANSWERS.get(type(answer))
    if kind is None or (isinstance(answer, Refusal) and answer.code not in REFUSALS):
        raise TypeError(f"{type(answer).__name__} may not leave a hospital")
    records = _encoded(kind, answer)
    if signature is not None:
        records["signature"] = _encoded("signature", signature)["signature"]
    return records


def decode_answer(records: RecordDict) -> Answer:
    """The answer in a reply; ``WireError`` where it is not one of ours.

    The values of arrays are not checked, nor is a signature (``decode_signature``).
    """
    kinds = set(records) - {"arrays", "signature"}
    if len(kinds) != 1 or not kinds <= set(ANSWERS.values()):
        raise WireError("keys")
    kind = kinds.pop()
    expected = FORMS[kind].arrays
    if ("arrays" in records) != bool(expected):
        raise WireError("keys")
    arrays = _arrays(records, "arrays", expected) if expected else {}
    answer: Answer = _decoded(kind, records, arrays)
    if isinstance(answer, Refusal) and answer.code not in REFUSALS:
        raise WireError("code")
    return answer


def decode_signature(records: RecordDict) -> Signature | None:
    """The signature in a reply, unverified; None without one."""
    return _decoded("signature", records, {}) if "signature" in records else None


def _encoded(kind: str, value: Any) -> RecordDict:
    form, mark = FORMS[kind], getattr(value, "mark", None)
    values = vars(value) | (vars(mark) if mark else {})
    names = [*form.scalars, *form.optional]
    scalars = {name: values[name] for name in names if values.get(name) is not None}
    scalars |= {name: list(value) for name, value in scalars.items() if type(value) is tuple}
    records = RecordDict({kind: ConfigRecord({"schema": SCHEMA, **scalars})})
    if form.arrays:
        records["arrays"] = ArrayRecord({name: Array(values[name]) for name in form.arrays})
    return records


def _decoded(kind: str, records: RecordDict, arrays: dict[str, NDArray[np.float32]]) -> Any:
    record, form = records[kind], FORMS[kind]
    schema = record.get("schema") if isinstance(record, ConfigRecord) else None
    if type(schema) is not int or schema != SCHEMA:
        raise WireError("schema")
    fields: dict[str, Any] = {name: record[name] for name in record if name != "schema"}
    types = form.scalars | form.optional
    if not form.scalars.keys() <= fields.keys() <= types.keys():
        raise WireError("keys")
    for name, value in fields.items():
        texts = value if type(value) is list else ()
        if type(value) is not types[name] or any(type(text) is not str for text in texts):
            raise WireError("type")
        fields[name] = tuple(value) if type(value) is list else value
    if "ledger" in form.optional:
        fields["mark"] = _mark(fields)
    return form.of(**fields, **arrays)


def _arrays(
    records: RecordDict, key: str, names: tuple[str, ...]
) -> dict[str, NDArray[np.float32]]:
    record = records[key]
    if not isinstance(record, ArrayRecord) or set(record) != set(names):
        raise WireError("keys")
    return {name: _open(record[name]) for name in names}


def _open(array: Array) -> NDArray[np.float32]:
    """Decode one array without unpickling; its declared shape and dtype must be the real ones.

    A header may claim any shape, so it is compared with the data's length before memory is taken.
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
    try:
        return np.frombuffer(array.data, dtype, offset=start).reshape(shape).copy()
    except ValueError as error:  # without values, of a size or a rank that numpy does not know
        raise WireError("shape") from error


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


def _mark(fields: dict[str, Any]) -> Mark | None:
    """Take the mark out of the fields; ``WireError`` where only a part of it is there, or where no
    ledger has such a point."""
    values = {name: fields.pop(name) for name in MARK if name in fields}
    if not values:
        return None
    if len(values) < len(MARK):
        raise WireError("keys")
    mark = Mark(**values)
    if mark.sequence < 0 or not all(map(MARKED.fullmatch, (mark.ledger, mark.head))):
        raise WireError("mark")
    return mark


def array_bytes(records: RecordDict) -> int:
    """Bytes of all arrays in a message's records."""
    arrays = [record for record in records.values() if isinstance(record, ArrayRecord)]
    return sum(len(array.data) for record in arrays for array in record.values())


def with_mark(request: Request, mark: Mark | None) -> Request:
    """The request with what the server knows of the hospital's ledger."""
    return replace(request, mark=mark)


def marked(release: Release, mark: Mark | None) -> Release:
    """A stored release on its way out, with the mark of the ledger's row that holds it."""
    return replace(release, mark=mark)


def digest(request: Request) -> str:
    """SHA-256 in hex of all that is asked; the mark only informs and is left out."""
    theta = b"" if request.theta is None else request.theta.astype("<f4").tobytes()
    head = compact([request.run, request.round, request.desk, request.episodes])
    return hashlib.sha256(head.encode() + b"\n" + theta).hexdigest()


def stated(answer: Answer, request: Request, hospital: str) -> Statement:
    """What ``hospital`` signs when it gives this answer to this request."""
    kind, mark = ANSWERS[type(answer)], getattr(answer, "mark", None)
    asked = request.run, request.round, digest(request)
    return Statement(SCHEMA, kind, hospital, *asked, content_digest(answer), mark)


def content_digest(answer: Answer) -> str:
    """SHA-256 in hex of an answer without its mark: its scalars, then each array's shape, values.

    A number's bits count, so that no value is another's text.
    """
    kind = ANSWERS[type(answer)]
    form, values = FORMS[kind], vars(answer)
    arrays = [np.asarray(values[name]) for name in form.arrays]
    scalars = {name: values.get(name) for name in [*form.scalars, *form.optional]}
    exact = {n: v.hex() if isinstance(v, float) else v for n, v in scalars.items() if v is not None}
    found = hashlib.sha256(compact([kind, exact, [array.shape for array in arrays]]).encode())
    for array in arrays:
        found.update(array.astype("<f4").tobytes())
    return found.hexdigest()


def pack(release: Release) -> bytes:
    """A release as bytes for the hospital's own ledger: a line of JSON, then the update."""
    head = {"hospital": release.hospital, "round": release.round, "loss": release.loss}
    line = compact(head | {"mark": vars(release.mark) if release.mark else {}})
    return line.encode() + b"\n" + release.update.astype("<f4").tobytes()


def unpack(stored: bytes) -> Release:
    """The inverse of ``pack``."""
    line, _, values = stored.partition(b"\n")
    head = read_json(line)
    update = np.frombuffer(values, "<f4").astype(np.float32)
    return Release(head["hospital"], head["round"], update, head["loss"], _mark(head["mark"]))
