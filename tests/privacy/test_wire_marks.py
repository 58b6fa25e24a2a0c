"""Marks of a ledger on the wire, and what the ledger keeps of a request and of its answer."""

import re
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from metaward.privacy import Mark, Release
from metaward.privacy.wire import Request, decode_answer, digest, encode_answer, pack, unpack
from tests.privacy.answers import code_of, release
from tests.privacy.test_wire import ANSWERS, INT64, MARKS, NAMES, REQUEST, VECTORS, same

MARK = Mark("0123456789abcdef", 4, "00" * 32)


@pytest.mark.parametrize("left_out", ["ledger", "sequence", "head"])
def test_half_a_mark_is_refused(left_out: str) -> None:
    """All of it or nothing: half of one could not be told from none."""
    records = encode_answer(release(mark=MARK))
    del records["release"][left_out]
    assert code_of(records, decode_answer) == "keys"


def test_a_mark_is_on_releases_only() -> None:
    for kind in ("scores", "attendance", "refusal"):
        records = encode_answer(ANSWERS[kind])
        records[kind].update({"ledger": "a", "sequence": 1, "head": "b"})
        assert code_of(records, decode_answer) == "keys"


# ------------------------------------------------- what the hospital's own ledger keeps


@given(NAMES, INT64, VECTORS, st.none() | st.floats(allow_nan=False, allow_infinity=False), MARKS)
def test_a_stored_release_comes_back(
    hospital: str,
    number: int,
    update: NDArray[np.float32],
    loss: float | None,
    mark: Mark | None,
) -> None:
    """Whatever bytes the update has: the ledger answers a retry with them."""
    back = unpack(pack(Release(hospital, number, update, loss, mark)))
    assert (back.hospital, back.round, back.loss, back.mark) == (hospital, number, loss, mark)
    assert same(back.update, update)
    assert back.update.dtype == np.float32
    assert back.update.flags.writeable


CHANGES: dict[str, Any] = {
    "round": 3,
    "desk": "{ }",
    "theta": np.array([1, 1, 1, 2], np.float32),
    "episodes": 6,
    "run": "other",
}


def test_a_digest_tells_requests_apart_and_knows_a_retry() -> None:
    """Every field but the mark, which only informs: a retry may carry a later one."""
    once = digest(REQUEST)
    assert re.fullmatch("[0-9a-f]{64}", once)
    assert digest(replace(REQUEST, theta=np.ones(4, np.float32))) == once
    assert digest(replace(REQUEST, mark=MARK)) == once
    others = [digest(replace(REQUEST, **{key: value})) for key, value in CHANGES.items()]
    others.append(digest(replace(REQUEST, theta=None)))
    assert len({once, *others}) == len(CHANGES) + 2
    assert CHANGES.keys() == {f.name for f in fields(Request)} - {"mark"}
