"""Each attack of a hospital on the server, in a run with honest ones (``on_server``)."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, RecordDict

from metaward.privacy import Attendance, Release
from metaward.privacy.wire import Request
from metaward.strategies.checks import Rejected, read
from metaward.strategies.combine import Median
from metaward.strategies.proof import SeatKeys, read_keys
from tests.attacks.consortium import (
    ATTACKER,
    LINES,
    OTHER,
    ROUNDS,
    Act,
    Course,
    carried_out,
    good,
    member,
    node_of,
    nodes,
    signed,
    turned,
)
from tests.attacks.on_server import FORGED, Forged, huge_then_honest
from tests.strategies.federation import SEATS, THETA, TRAIN

FIRST = Request(1, "{}", np.copy(THETA))
IDS = [forged.does for forged in FORGED]


def attacked(act: Act, since: int = 1, **changes: Any) -> Course:
    """A run in which one hospital acts from round ``since`` on."""
    return carried_out(nodes(**{ATTACKER: turned(ATTACKER, act, since)}), **changes)


def without(since: int = 1) -> Course:
    """The same run, in which that hospital says nothing from then on."""
    return attacked(lambda request: None, since)


def everybody() -> Course:
    """The same run with all hospitals honest."""
    return carried_out(nodes())


@pytest.mark.parametrize("forged", FORGED, ids=IDS)
def test_an_answer_that_must_not_count(forged: Forged) -> None:
    """Theta is that of the others to the last bit, the attacker is named in each round, nobody else
    is, and no text of the attacker's is written down."""
    course = attacked(forged.act, forged.since)
    assert course.theta == without(forged.since).theta
    rounds = range(forged.since, ROUNDS + 1)
    assert course.rejected() == [(number, ATTACKER, forged.reason) for number in rounds]
    for _, report in course.steps:
        others = tuple(sorted(set(TRAIN) - {ATTACKER})) if report.round >= forged.since else None
        assert report.accepted == (others or tuple(sorted(TRAIN)))
    written = json.dumps(course.told, default=str)
    assert "x1b" not in written
    assert "script" not in written
    assert "reply accepted" not in written.replace('"reply accepted"', "")


def test_a_mark_that_no_ledger_reaches() -> None:
    """It counts once; the hospital's own true marks are behind it from then on."""
    course = attacked(huge_then_honest)
    assert course.theta == without(since=2).theta
    assert course.rejected() == [(n, ATTACKER, "ledger-rewound") for n in range(2, ROUNDS + 1)]


def test_a_loss_of_1e30() -> None:
    """The update counts, the loss is left out of the mean, and the hospital is named."""
    course = attacked(lambda request: signed(good(request, loss=1e30), request))
    assert course.theta == everybody().theta
    assert {report.loss_left_out for _, report in course.steps} == {(ATTACKER,)}
    assert {report.loss for _, report in course.steps} == {0.5}


def test_an_update_of_zeros() -> None:
    """It is a valid update: it dilutes the mean by one in five, and moves no median out of the
    range of the honest updates."""

    def zeros(request: Any) -> RecordDict:
        return signed(good(request, update=np.zeros_like(THETA)), request)

    first = attacked(zeros, num_rounds=1).steps[0][0].theta
    honest = attacked(lambda request: None, num_rounds=1).steps[0][0].theta
    np.testing.assert_allclose(first - THETA, 4 / 5 * (honest - THETA), rtol=1e-4, atol=1e-6)
    median = attacked(zeros, num_rounds=1, combine=Median()).steps[0][0].theta - THETA
    others = [h for h in TRAIN if h != ATTACKER]
    updates = 0.5 * np.stack([good(FIRST, hospital).update for hospital in others])
    assert (median >= updates.min(0) - 1e-6).all()
    assert (median <= updates.max(0) + 1e-6).all()


# ------------------------------------------------------------------- replies out of turn


def test_every_reply_twice() -> None:
    """One counts for each request."""
    course = carried_out(nodes(), arrive=lambda replies: [*replies, *replies])
    assert course.theta == everybody().theta
    assert course.rejected() == []


def test_two_different_replies_to_one_request() -> None:
    """The first valid one counts."""

    def twice(replies: list[Message]) -> list[Message]:
        return [*replies, *(as_reply(one, longer(one)) for one in replies if is_update(one))]

    course = carried_out(nodes(), arrive=twice)
    assert course.theta == everybody().theta
    assert course.rejected() == []


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_reply_to_the_request_of_another_hospital(place: str) -> None:
    """Who knows the number of another's request can answer it, but cannot sign for the other: the
    other's own answer counts, whichever came first."""

    def forge(replies: list[Message]) -> list[Message]:
        forged = [as_reply(one, longer(one)) for one in replies if is_update(one)]
        for one in forged:
            one.content.pop("signature")
        return [*forged, *replies] if place == "before" else [*replies, *forged]

    course = carried_out(nodes(), arrive=forge)
    assert course.theta == everybody().theta
    assert course.rejected() == []


def test_a_reply_that_comes_after_the_time_is_over() -> None:
    """It answers a request of a round that is over."""
    held: list[Message] = []

    def late(replies: list[Message]) -> list[Message]:
        mine = [one for one in replies if is_update(one, ATTACKER)]
        there = [*held, *(one for one in replies if one not in mine)]
        held[:] = mine
        return there

    course = carried_out(nodes(), arrive=late)
    assert course.theta == without().theta
    assert course.rejected() == [(n, ATTACKER, "no-reply") for n in range(1, ROUNDS + 1)]


def test_a_second_node_claims_the_seat() -> None:
    """Without the signing key it gets no seat, whether it comes before the owner or after."""
    seat = Attendance(ATTACKER, SEATS.index(ATTACKER))
    stranger = lambda request, kind: signed(seat, request, key=OTHER)  # noqa: E731
    for first in (True, False):
        extra = {1: stranger} if first else {999: stranger}
        course = carried_out({**extra, **nodes()})
        assert course.theta == everybody().theta
        assert course.rejected() == []


def is_update(reply: Message, hospital: str = OTHER) -> bool:
    return "release" in reply.content and reply.content["release"]["hospital"] == hospital


def longer(reply: Message) -> RecordDict:
    """A copy of an answer with another update."""
    records = RecordDict(dict(reply.content))
    update = 3 * reply.content["arrays"]["update"].numpy()
    records["arrays"] = ArrayRecord({"update": Array(update)})
    return records


def as_reply(to: Message, content: RecordDict) -> Message:
    """Another reply to the same request."""
    made = Message(content, reply_to=to)
    made.metadata.__dict__["_reply_to_message_id"] = to.metadata.reply_to_message_id
    return made


# ------------------------------------------------------------------------- each byte


def test_each_byte_of_a_signed_answer() -> None:
    """Whichever byte of the signature or the update is altered, the answer does not count; where an
    altered byte has no meaning, it is the same answer."""
    request = FIRST
    whole = member(ATTACKER)(request, "train")
    assert isinstance(whole, RecordDict)
    assert isinstance(judged(whole, request), Release)
    signature = bytes(whole["signature"]["signature"])  # type: ignore[arg-type]
    data = whole["arrays"]["update"].data  # type: ignore[union-attr]
    for place in range(len(signature)):
        whole["signature"]["signature"] = flipped(signature, place)
        assert judged(whole, request) == Rejected(ATTACKER, "wrong-signature"), place
    whole["signature"]["signature"] = signature
    for place in range(len(data)):
        whole["arrays"]["update"].data = flipped(data, place)  # type: ignore[union-attr]
        found = judged(whole, request)  # blanks in the array's header say nothing
        assert isinstance(found, Rejected) or same(found, good(request)), place


def same(one: Release, other: Release) -> bool:
    return one.update.tobytes() == other.update.tobytes() and one.update.shape == other.update.shape


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def judged(content: RecordDict, request: Any) -> Any:
    class Reply:
        def has_error(self) -> bool:
            return False

    reply: Any = Reply()
    reply.content = content
    return read(reply, Release, ATTACKER, request, SeatKeys(read_keys(LINES)))


def test_the_nodes_of_the_harness_are_the_seats() -> None:
    assert node_of(ATTACKER) in nodes()
