"""What a hospital, or somebody with its keys, sends to a server: one entry for each attack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, MetricRecord, RecordDict

from metaward.privacy import Answer, Attendance, Mark, Refusal, Scores
from metaward.privacy.wire import SCHEMA, Request
from tests.attacks.consortium import ATTACKER, OTHER, Act, Reply, good, member, signed
from tests.privacy.test_wire_arrays import DAMAGED, DECLARED
from tests.strategies.federation import THETA

HOSTILE = "\x1b[2J<script>alert(1)</script>\n2026-01-01 reply accepted"
"""Steers a terminal, runs in a page, and looks like a line of a log."""


@dataclass(frozen=True)
class Forged:
    """An answer that must not count. ``does`` completes "The hospital sends ...", ``reason`` is
    what the server's log says; from round ``since`` on."""

    does: str
    act: Act
    reason: str
    since: int = 1


def changed(**fields: Any) -> Act:
    """A signed update with other fields."""
    return lambda request: signed(good(request, **fields), request)


def valued(value: float) -> Act:
    """A signed update of which one value is another."""

    def act(request: Request) -> Reply:
        found = good(request).update.copy()
        found[1] = value
        return signed(good(request, update=found), request)

    return act


def shaped(shape: Callable[[Any], Any]) -> Act:
    """A signed update of another shape or type."""
    return lambda request: signed(good(request, update=shape(good(request).update)), request)


def with_array(array: Array) -> Act:
    """A signed update whose array was exchanged."""

    def act(request: Request) -> Reply:
        records = signed(good(request), request)
        records["arrays"] = ArrayRecord({"update": array})
        return records

    return act


def spoilt(change: Callable[[RecordDict], object]) -> Act:
    """A signed update whose records were changed afterwards."""

    def act(request: Request) -> Reply:
        records = signed(good(request), request)
        change(records)
        return records

    return act


def put(record: str, field: str, value: Any) -> Act:
    """A signed update with a value put into one of its records afterwards."""
    return spoilt(lambda records: records[record].update({field: value}))


def drop(record: str, field: str) -> Act:
    """A signed update from which a value was taken afterwards."""
    return spoilt(lambda records: records[record].pop(field))


def sends(make: Callable[[Request], Answer], key: str | None = None) -> Act:
    """Any answer, signed by the key of the hospital, or of another one."""
    return lambda request: signed(make(request), request, key=key)


def resigned(**fields: Any) -> Act:
    """What was signed for another request."""
    return lambda request: signed(good(request), replace(request, **fields))


def earlier(request: Request) -> Reply:
    """The answer to the round before, as it was."""
    before = replace(request, round=request.round - 1)
    return signed(good(before), before)


def refused(code: str) -> Act:
    """A refusal with a code of the hospital's own."""

    def act(request: Request) -> Reply:
        records = signed(Refusal("failed"), request)
        records["refusal"] = ConfigRecord({"schema": SCHEMA, "code": code})
        return records

    return act


def unsigned(request: Request) -> Reply:
    """An update without a signature."""
    records = signed(good(request), request)
    del records["signature"]
    return records


def of_another(request: Request) -> Reply:
    """The signed answer of another hospital to the same request."""
    found = member(OTHER)(request, "train")
    assert isinstance(found, RecordDict)
    return found


def marked(sequence: int, ledger: str = f"ledger-{ATTACKER}") -> Act:
    """An update whose mark is another point, or of another ledger."""
    return lambda request: signed(good(request, mark=Mark(ledger, sequence, "ab" * 32)), request)


def scores(request: Request) -> Scores:
    """What a hospital that judges would answer."""
    return Scores(ATTACKER, request.round, ("height",), THETA[None], THETA[None])


def huge_then_honest(request: Request) -> Reply:
    """In round 1 a mark that no ledger reaches, then true ones."""
    mark = Mark(f"ledger-{ATTACKER}", 2**62, "ab" * 32)
    return signed(good(request, mark=mark) if request.round == 1 else good(request), request)


def counts() -> Iterator[Forged]:
    """Weights and counts, which a server that believed them would multiply with."""
    for value in (1e12, -1.0, 0.0, float("nan")):
        for name in ("num-examples", "weight"):
            record = MetricRecord({name: value})
            change = lambda r, record=record: r.update({"metrics": record})  # noqa: E731
            yield Forged(f"a record {name} = {value:g}", spoilt(change), "malformed-keys")
        field = lambda r, value=value: r["release"].update({"weight": value})  # noqa: E731
        yield Forged(f"a field weight = {value:g} in its answer", spoilt(field), "malformed-keys")


def arrays() -> Iterator[Forged]:
    """Arrays that lie about themselves, or are none (``tests.privacy.test_wire_arrays``)."""
    for name, (array, fault) in DECLARED.items():
        yield Forged(f"an array that lies: {name}", with_array(array), f"malformed-{fault}")
    for name, (data, fault) in DAMAGED.items():
        array = Array("float32", (4,), "numpy.ndarray", data)
        yield Forged(f"a damaged array: {name}", with_array(array), f"malformed-{fault}")


BILLION = 2_500_000_000
HEADER = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({BILLION},), }}".encode()
TEN_GIGABYTES = Array(
    "float32",
    (BILLION,),
    "numpy.ndarray",
    b"\x93NUMPY\x01\x00" + len(HEADER).to_bytes(2, "little") + HEADER + bytes(24),
)

ONES = np.ones(6, np.float32)
TWICE = {"update": Array(ONES), "more": Array(ONES)}
FORGED = [
    Forged("one NaN in its update", valued(np.nan), "not-finite"),
    Forged("one infinity in its update", valued(np.inf), "not-finite"),
    Forged("one value of 1e30", valued(1e30), "norm-above-cap"),
    Forged("the largest numbers there are", shaped(lambda u: u * 0 + 3.4e38), "norm-above-cap"),
    Forged("one value too many", shaped(lambda u: np.append(u, u[:1])), "wrong-shape"),
    Forged("one value too few", shaped(lambda u: u[1:]), "wrong-shape"),
    Forged("a single value, which would be added to all", shaped(lambda u: u[:1]), "wrong-shape"),
    Forged("a scalar array, of shape ()", shaped(lambda u: np.array(0.5, u.dtype)), "wrong-shape"),
    Forged("a matrix of one row", shaped(lambda u: u[None]), "wrong-shape"),
    Forged("no values at all", shaped(lambda u: u[:0]), "wrong-shape"),
    Forged("float64 in place of float32", shaped(lambda u: u.astype(float)), "malformed-dtype"),
    Forged("whole numbers", shaped(lambda u: u.astype(np.int64)), "malformed-dtype"),
    Forged("complex numbers", with_array(Array(ONES.astype(np.complex64))), "malformed-dtype"),
    Forged("an array that claims 10 GB", with_array(TEN_GIGABYTES), "malformed-array"),
    *arrays(),
    *counts(),
    Forged("an empty message", lambda request: RecordDict(), "malformed-keys"),
    Forged("no array", spoilt(lambda r: r.pop("arrays")), "malformed-keys"),
    Forged(
        "two arrays", spoilt(lambda r: r.update({"arrays": ArrayRecord(TWICE)})), "malformed-keys"
    ),
    Forged("a further record", spoilt(lambda r: r.update({"x": ConfigRecord()})), "malformed-keys"),
    Forged("a megabyte of text", put("release", "note", "x" * 2**20), "malformed-keys"),
    Forged("no round", drop("release", "round"), "malformed-keys"),
    Forged("text in place of a number", put("release", "loss", HOSTILE), "malformed-type"),
    Forged("another version of the format", put("release", "schema", 99), "malformed-schema"),
    Forged("a loss of NaN", changed(loss=float("nan")), "not-finite"),
    Forged("a loss of infinity", changed(loss=float("inf")), "not-finite"),
    Forged("an attendance for an update", sends(lambda r: Attendance(ATTACKER, 2)), "wrong-kind"),
    Forged("scores for an update", sends(scores), "wrong-kind"),
    Forged("an update for a later round", sends(lambda r: good(r, round=99)), "wrong-round"),
    Forged("its answer of the round before again", earlier, "wrong-signature", since=2),
    Forged("its answer of another run", resigned(run="run-2"), "wrong-signature"),
    Forged("what it signed for another theta", resigned(theta=THETA + 1), "wrong-signature"),
    Forged("what it signed for another desk", resigned(desk="{ }"), "wrong-signature"),
    Forged("another hospital's signed answer", of_another, "wrong-hospital"),
    Forged("an answer in another's name", changed(hospital=OTHER), "wrong-signature"),
    Forged("an update without a signature", unsigned, "unsigned"),
    Forged("a signature by another's key", sends(good, key=OTHER), "wrong-signature"),
    Forged("a signature that is too short", put("signature", "signature", b"x"), "wrong-signature"),
    Forged("what was altered after it was signed", put("release", "loss", 0.25), "wrong-signature"),
    Forged("a mark from before its last one", marked(1), "ledger-rewound", since=2),
    Forged("the mark of another ledger", marked(99, "ledger-new"), "ledger-rewound", since=2),
    Forged("no mark any more", changed(mark=None), "ledger-rewound", since=2),
    Forged("a mark below zero", marked(-1), "malformed-mark"),
    Forged("a mark with text that steers a terminal", marked(9, HOSTILE), "malformed-mark"),
    Forged("a mark of a megabyte", marked(9, "a" * 2**20), "malformed-mark"),
    Forged("half a mark", drop("release", "head"), "malformed-keys"),
    Forged("a refusal with a code that does not exist", refused("because"), "malformed-code"),
    Forged("a refusal that steers a terminal or a page", refused(HOSTILE), "malformed-code"),
    Forged("an error with such a text", lambda request: Error(2, HOSTILE), "error-2"),
    Forged("an error with an unknown number", lambda request: Error(-77, HOSTILE), "error--77"),
    Forged("nothing", lambda request: None, "no-reply"),
]
