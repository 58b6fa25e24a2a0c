"""Records as bytes: what was sent arrives, and anything else is refused."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.proto.recorddict_pb2 import RecordDict as Letter
from hypothesis import given, settings
from hypothesis import strategies as st

from metaward.client.guarding.letters import packed, unpacked
from metaward.privacy import Mark, Release
from metaward.privacy.wire import decode_answer, decode_request, encode_answer, encode_request
from tests.client.bedside import request


def test_a_request_arrives_as_it_was_sent() -> None:
    sent = request(mark=Mark("a-ledger", 3, "0" * 64))
    found = decode_request(unpacked(packed(encode_request(sent))))
    assert found.theta is not None
    assert sent.theta is not None
    assert found.theta.tobytes() == sent.theta.tobytes()
    assert (found.desk, found.round, found.mark) == (sent.desk, sent.round, sent.mark)


def test_an_answer_arrives_bit_for_bit() -> None:
    update = np.array([1e-30, -0.0, np.float32(1 / 3)], np.float32)
    answer = Release("north", 2, update, 0.1, Mark("a", 1, "b"))
    found = decode_answer(unpacked(packed(encode_answer(answer))))
    assert isinstance(found, Release)
    assert found.update.tobytes() == update.tobytes()
    assert (found.loss, found.mark) == (0.1, answer.mark)


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_records_or_refused(letter: bytes) -> None:
    try:
        found = unpacked(letter)
    except ValueError:
        return
    assert unpacked(packed(found)) is not None


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_a_damaged_letter_is_records_or_refused(data: st.DataObject) -> None:
    letter = bytearray(packed(encode_request(request())))
    for _ in range(data.draw(st.integers(1, 5))):
        letter[data.draw(st.integers(0, len(letter) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        unpacked(bytes(letter))
    except ValueError:
        return


def test_a_record_of_no_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="no records"):
        unpacked(Letter(items=[Letter.Item(key="request")]).SerializeToString())
