"""A seat belongs to a key: who cannot sign for a hospital neither speaks for it nor harms it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import RecordDict

from metaward.privacy import Answer, Attendance, Mark, Refusal, Release, Scores
from metaward.privacy.signing import Signature, Statement, public_text, sign, verify
from metaward.privacy.wire import (
    Request,
    WireError,
    decode_answer,
    decode_signature,
    encode_answer,
    stated,
)
from metaward.strategies import roster as module
from metaward.strategies.checks import Rejected, read
from metaward.strategies.proof import SeatKeys, read_keys, seat_faults, seat_line
from metaward.strategies.roster import Roster, RosterError
from tests.strategies.fake_grid import FakeGrid, Script

SEATS = ["north", "east", "south"]
KEYS = {name: Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n, name in enumerate(SEATS)}
LINES = [seat_line(name, public_text(key)) for name, key in KEYS.items()]
ROLL_CALL = Request(0, "{}", run="run-1")
TRAINING = Request(3, "{}", np.ones(4, np.float32), run="run-1.own")
MARK = Mark("ledger", 7, "ab" * 32)
RELEASE = Release("north", 3, np.arange(4, dtype=np.float32), 0.5, MARK)
SCORES = Scores("north", 3, ("accuracy",), np.ones((1, 2), np.float32), np.ones((1, 2), np.float32))


def signed(
    answer: Answer, request: Request, hospital: str = "north", key: str | None = None
) -> RecordDict:
    statement = stated(answer, request, hospital)
    return encode_answer(answer, sign(KEYS[key or hospital], statement))


def judged(content: RecordDict, request: Request = TRAINING) -> Any:
    class Reply:
        def has_error(self) -> bool:
            return False

    reply: Any = Reply()
    reply.content = content
    return read(reply, Release, "north", request, SeatKeys(read_keys(LINES)))


# ---------------------------------------------------------------------------- one answer


def test_a_signed_answer_counts_and_is_kept() -> None:
    kept: list[tuple[Statement, bytes]] = []
    keys = SeatKeys(read_keys(LINES), lambda *line: kept.append(line))
    for answer in (RELEASE, SCORES):
        content = signed(answer, TRAINING)
        signature = decode_signature(content)
        assert keys.fault(decode_answer(content), signature, TRAINING) is None
    assert [statement.kind for statement, _ in kept] == ["release", "scores"]
    statement, signature = kept[0]
    assert statement.mark == MARK
    assert verify(KEYS["north"].public_key(), statement, signature)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (encode_answer(RELEASE), "unsigned"),
        (encode_answer(Refusal("policy-noise")), "unsigned-policy-noise"),
        (signed(RELEASE, TRAINING, key="east"), "wrong-signature"),
        (signed(RELEASE, replace(TRAINING, round=2)), "wrong-signature"),
        (signed(RELEASE, replace(TRAINING, run="run-2.own")), "wrong-signature"),
        (signed(RELEASE, replace(TRAINING, desk="{ }")), "wrong-signature"),
        (signed(RELEASE, replace(TRAINING, theta=np.zeros(4, np.float32))), "wrong-signature"),
        (signed(replace(RELEASE, hospital="east"), TRAINING, "north"), "wrong-signature"),
        (signed(RELEASE, TRAINING, "nobody", key="north"), "wrong-signature"),
    ],
    ids=[
        *("unsigned", "unsigned refusal", "another's key", "another round", "another run"),
        *("another desk", "another theta", "another's answer", "no hospital"),
    ],
)
def test_what_does_not_prove_the_seat_does_not_count(content: RecordDict, reason: str) -> None:
    assert judged(content) == Rejected("north", reason)


@pytest.mark.parametrize(
    "change",
    [
        {"update": np.array([0, 1, 2, 3.0000002], np.float32)},
        {"update": np.array([-0.0, 1, 2, 3], np.float32)},
        {"loss": 0.5000001},
        {"loss": None},
        {"mark": replace(MARK, sequence=8)},
        {"mark": replace(MARK, head="cd" * 32)},
        {"mark": None},
        {"round": 4},
    ],
    ids=str,
)
def test_a_signature_covers_every_bit(change: dict[str, Any]) -> None:
    altered = replace(RELEASE, **change)
    signature = sign(KEYS["north"], stated(RELEASE, TRAINING, "north"))
    assert judged(encode_answer(RELEASE, signature)).update.shape == (4,)
    assert judged(encode_answer(altered, signature)) == Rejected("north", "wrong-signature")


def test_an_answer_of_another_kind_has_another_statement() -> None:
    refused = stated(Refusal("failed"), TRAINING, "north")
    assert refused.content != stated(Refusal("data-refused"), TRAINING, "north").content
    assert refused.kind == "refusal"


def test_a_mark_of_the_request_is_not_signed() -> None:
    """It only informs, and the hospital's digest leaves it out as well."""
    informed = replace(TRAINING, mark=MARK)
    assert stated(RELEASE, informed, "north") == stated(RELEASE, TRAINING, "north")


@pytest.mark.parametrize(
    "record",
    [
        Signature("north", b""),
        Signature("north", b"x" * 64),
        Signature("", b"x" * 64),
    ],
)
def test_a_signature_that_is_none_is_refused(record: Signature) -> None:
    assert judged(encode_answer(RELEASE, record)) == Rejected("north", "wrong-signature")


def test_a_damaged_signature_record_is_malformed() -> None:
    content = signed(RELEASE, TRAINING)
    del content["signature"]["signature"]
    with pytest.raises(WireError, match="keys"):
        decode_signature(content)
    assert judged(content).reason == "malformed-keys"


# ------------------------------------------------------------------------------ the seats


def test_seats_that_fit_have_no_fault() -> None:
    assert list(seat_faults(LINES, SEATS)) == []
    assert list(seat_faults((), SEATS)) == []
    spaced = [seat_line("north east", public_text(KEYS["north"]) + " old comment")]
    assert list(read_keys(spaced)) == ["north east"]
    assert list(seat_faults(spaced, ["north east"])) == []


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (LINES[:2], "south without a key"),
        ([*LINES, seat_line("north2", public_text(Ed25519PrivateKey.generate()))], "no hospital"),
        ([LINES[0], LINES[1], seat_line("south", LINES[0])], "south has the key of north"),
        ([*LINES[:2], "ssh-ed25519 AAAA south"], r"seats\[2\].*no public key"),
        ([*LINES[:2], "south"], "write it as"),
        ([*LINES[:2], " ".join(LINES[2].split()[:2])], "with the hospital's name"),
    ],
)
def test_seats_that_do_not_fit_are_named(lines: list[str], fault: str) -> None:
    import re

    assert any(re.search(fault, found) for found in seat_faults(lines, SEATS))


# -------------------------------------------------------------------------- the roll call


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.0)


def sits(hospital: str, key: str | None = None, request: Request | None = None) -> Script:
    index = SEATS.index(hospital)
    answer = Attendance(hospital, index)
    return lambda asked, kind: signed(answer, request or asked, hospital, key)


OWNERS = {31: sits("south"), 12: sits("north"), 77: sits("east")}
SEATED = {"north": 12, "east": 77, "south": 31}


def gather(grid: FakeGrid, timeout: float = 5.0) -> Roster:
    roster = Roster(SEATS, ROLL_CALL, timeout, keys=SeatKeys(read_keys(LINES)))
    roster.gather(grid)
    return roster


STRANGERS = {
    "unsigned": lambda *_: Attendance("north", 0),
    "with its own key": sits("north", key="east"),
    "replayed": sits("north", request=replace(ROLL_CALL, run="run-0")),
    "refusing": lambda *_: Refusal("data-refused"),
    "garbage": lambda *_: RecordDict(),
}


@pytest.mark.parametrize("stranger", STRANGERS.values(), ids=STRANGERS)
def test_a_stranger_gets_no_seat_and_does_no_harm(stranger: Script) -> None:
    assert gather(FakeGrid({1: stranger, **OWNERS})).nodes == SEATED
    assert gather(FakeGrid({**OWNERS, 99: stranger})).nodes == SEATED


@pytest.mark.parametrize("stranger", STRANGERS.values(), ids=STRANGERS)
def test_the_owner_who_is_away_is_missing_and_the_stranger_named(stranger: Script) -> None:
    grid = FakeGrid({1: stranger, 31: OWNERS[31], 77: OWNERS[77]})
    with pytest.raises(RosterError, match=r"1 of 3 .* north; without proof of a seat: node 1 \("):
        gather(grid, timeout=0.0)


def test_the_first_node_with_the_key_keeps_the_seat() -> None:
    roster = gather(FakeGrid({**OWNERS, 99: sits("north")}))
    assert roster.nodes == SEATED
    assert roster.turned_away[99].reason == "seat-taken"


def test_the_second_node_with_the_key_gets_the_seat_when_the_first_is_gone() -> None:
    grid = FakeGrid({**OWNERS, 99: sits("north")})
    roster = gather(grid)
    asked = len(grid.sent)
    roster.refresh(grid)
    assert (roster.nodes, len(grid.sent)) == (SEATED, asked), "who waits is not asked every round"
    del grid.scripts[12]
    roster.refresh(grid)
    assert roster.nodes == SEATED | {"north": 99}


@pytest.mark.parametrize("stranger", STRANGERS.values(), ids=STRANGERS)
def test_a_stranger_gets_no_seat_whose_owner_leaves(stranger: Script) -> None:
    grid = FakeGrid({**OWNERS, 99: stranger})
    roster = gather(grid)
    del grid.scripts[12]
    roster.refresh(grid)
    assert "north" not in roster.nodes
    grid.scripts[50] = sits("north")
    roster.refresh(grid)
    assert roster.nodes == SEATED | {"north": 50}


def test_a_hospital_that_could_not_sign_at_first_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "ASIDE", 0.0)
    tries = iter([Refusal("signing-key")] * 2)

    def late(asked: Request, kind: str) -> Refusal | RecordDict:
        found = next(tries, None) or sits("north")(asked, kind)
        assert isinstance(found, Refusal | RecordDict)
        return found

    roster = gather(FakeGrid({**OWNERS, 12: late}))
    assert (roster.nodes, roster.aside) == (SEATED, {})


def test_a_stranger_that_says_nothing_does_not_take_all_the_time() -> None:
    waits: list[float | None] = []

    class Waiting(FakeGrid):
        def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> Any:
            waits.append(timeout)
            return super().send_and_receive(messages, timeout=timeout)

    keys = SeatKeys(read_keys(LINES))
    grid = Waiting({**OWNERS, 1: lambda *_: None}, late={31: 3})
    Roster(SEATS, ROLL_CALL, 900.0, 60.0, keys).gather(grid)
    assert waits == [60.0, 120.0, 240.0, 450.0], "half of all the time at most"


def test_a_hospital_that_answers_more_slowly_than_a_short_call_is_heard() -> None:
    """Its records take 100 seconds to open; every shorter call ends without its answer."""

    class Waiting(FakeGrid):
        def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> Any:
            replies = super().send_and_receive(messages, timeout=timeout)
            slow = timeout is not None and timeout < 100.0
            return [r for r in replies if not slow or r.metadata.src_node_id != 12]

    roster = Roster(SEATS, ROLL_CALL, 900.0, 60.0, SeatKeys(read_keys(LINES)))
    roster.gather(Waiting(dict(OWNERS)))
    assert roster.nodes == SEATED


def test_a_refusal_that_another_hospital_signed_is_not_this_ones() -> None:
    content = signed(Refusal("budget-spent"), TRAINING, "east")
    assert judged(content) == Rejected("north", "wrong-hospital")
    own = signed(Refusal("budget-spent"), TRAINING, "north")
    assert judged(own) == Rejected("north", "budget-spent", proven=True)


def test_a_signed_refusal_ends_the_roll_call_at_once() -> None:
    def refuses(asked: Request, kind: str) -> RecordDict:
        return signed(Refusal("data-refused"), asked, "north")

    with pytest.raises(RosterError, match="north cannot take part: data-refused"):
        gather(FakeGrid({**OWNERS, 12: refuses}))
