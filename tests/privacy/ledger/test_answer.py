"""Replies that are stored before they are sent, refusals, and marks."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from metaward.privacy.event import Charge, gaussian
from metaward.privacy.ledger import Ledger, LedgerError, verify
from tests.privacy.ledger.ledger_desk import (
    CAP,
    RECORDS,
    STEPS,
    code_of,
    full,
    keys,
    pay,
    request,
    spent,
    vandal,
    within,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hospital.ledger"


@pytest.fixture
def ledger(path: Path) -> Ledger:
    return Ledger.create(path, "phantom-01", "a privacy officer")


def test_a_retry_gets_the_same_bytes_and_costs_nothing(ledger: Ledger, path: Path) -> None:
    entry = pay(ledger, 1)
    assert entry.reply is None
    assert ledger.answer(entry, b"first").reply == b"first"
    before = ledger.mark()
    again = pay(Ledger.open(path), 1)
    assert (again.reply, again.sequence) == (b"first", entry.sequence)
    assert ledger.mark() == before


def test_a_retry_is_answered_when_nothing_is_left(ledger: Ledger) -> None:
    for number in range(3):
        ledger.answer(pay(ledger, number, "a"), b"reply %d" % number)
    assert pay(ledger, 1, "a").reply == b"reply 1"


def test_the_slower_of_two_drops_its_own_reply(ledger: Ledger) -> None:
    one, two = pay(ledger, 1), pay(ledger, 1)
    assert one == two
    assert ledger.answer(one, b"one").reply == b"one"
    assert ledger.answer(two, b"two").reply == b"one"
    assert pay(ledger, 1).reply == b"one"


def test_a_crash_before_the_reply_is_paid_once(ledger: Ledger) -> None:
    lost = pay(ledger, 1, "a")
    found = pay(ledger, 1, "a")
    assert found == lost
    assert spent(ledger, "record:a") == (STEPS,)
    assert ledger.answer(found, b"at last").reply == b"at last"


def test_a_crash_after_the_last_budget_does_not_refuse_the_retry(ledger: Ledger) -> None:
    for number in range(3):
        last = pay(ledger, number, "a")
    assert pay(ledger, 2, "a") == last


def test_another_price_is_another_charge(ledger: Ledger, path: Path) -> None:
    """The hospital changed its noise between crash and retry: the old charge does not cover it."""
    dear, cheap = pay(ledger, 1, "ab"), pay(ledger, 1, "ab", gaussian(4.0, 4))
    assert cheap.sequence > dear.sequence
    assert pay(ledger, 1, "ab", gaussian(4.0, 4)) == cheap
    more = pay(ledger, 1, "abc", gaussian(4.0, 4))
    assert more.sequence > cheap.sequence
    assert ledger.answer(dear, b"under the first").reply == b"under the first"
    assert ledger.answer(more, b"under the last").reply == b"under the first"
    assert pay(ledger, 1, "ab").sequence == dear.sequence
    assert verify(path) == []


def test_the_same_round_with_another_content_is_another_charge(ledger: Ledger) -> None:
    charge = [Charge(keys("a"), (STEPS,))]
    one = ledger.charge(request(1), RECORDS, charge, CAP, within)
    ledger.answer(one, b"one")
    two = ledger.charge(request(1, text="other theta"), RECORDS, charge, CAP, within)
    assert two.reply is None
    assert two.sequence > one.sequence
    assert spent(ledger, "record:a") == (gaussian(2.0, 8),)


def test_a_reply_that_was_changed_on_disk_is_not_sent(ledger: Ledger, path: Path) -> None:
    ledger.answer(pay(ledger, 1), b"noisy")
    vandal(path, "UPDATE request SET reply = x'00'")
    with pytest.raises(LedgerError, match="not what was stored") as error:
        pay(ledger, 1)
    assert code_of(error) == "ledger-damaged"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE request SET reply = NULL WHERE charge = 2",
        "UPDATE request SET answered = NULL, reply = NULL WHERE charge = 2",
        "DELETE FROM request WHERE charge = 2",
    ],
)
def test_a_reply_that_was_lost_is_not_computed_again(
    ledger: Ledger, path: Path, statement: str
) -> None:
    """The chain says that it was stored, so it may have been sent: fresh noise is a second one."""
    ledger.answer(pay(ledger, 1), b"noisy")
    open_charge, other = pay(ledger, 2), ledger.answer(pay(ledger, 3), b"other")
    vandal(path, statement)
    before = ledger.mark()
    for attempt in (
        lambda: pay(ledger, 1),
        lambda: ledger.answered(request(1)),
        lambda: pay(ledger, 4),
        lambda: ledger.answer(open_charge, b"noise"),
    ):
        with pytest.raises(LedgerError, match=r"not what was stored|lost the reply of row 3") as e:
            attempt()
        assert code_of(e) == "ledger-damaged"
    assert ledger.mark() == before
    assert pay(ledger, 3) == other, "what is still there is sent again"


def test_another_requests_reply_is_not_sent(ledger: Ledger, path: Path) -> None:
    for number in (1, 2):
        ledger.answer(pay(ledger, number), b"reply %d" % number)
    ids = [request(number).id for number in (1, 2)]
    vandal(path, f"DELETE FROM request WHERE id = '{ids[0]}'")
    vandal(path, f"UPDATE request SET id = '{ids[0]}' WHERE id = '{ids[1]}'")
    with pytest.raises(LedgerError, match="not what was stored"):
        pay(ledger, 1)


def test_nothing_is_answered_by_a_ledger_that_was_exchanged(ledger: Ledger, path: Path) -> None:
    backup = path.with_name("backup")
    shutil.copy(path, backup)
    entry = pay(ledger, 1)
    shutil.copy(backup, path)
    with pytest.raises(LedgerError, match="exchanged") as error:
        ledger.answer(entry, b"reply")
    assert code_of(error) == "ledger-damaged"
    pay(ledger, 2)  # takes the row number of the charge that is gone
    with pytest.raises(LedgerError, match="exchanged"):
        ledger.answer(entry, b"reply")


def test_an_empty_reply(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="empty"):
        ledger.answer(pay(ledger, 1), b"")


# -------------------------------------------------------------------------------- refuse


def test_a_flood_of_refusals_leaves_few_rows(ledger: Ledger, path: Path) -> None:
    """150 of one code: 20 rows, then numbers 32, 64 and 128. Another code is not drowned."""
    for number in range(150):
        ledger.refuse("bad-request", "x" * 1000, "y" * 1000, number)
    ledger.refuse("budget-spent", "2 of 4 keys", "run-1", 7)
    noted = ledger.history().refusals
    days = {refusal.time[:10] for refusal in noted}
    if len(days) == 1:  # else midnight passed, and the count began anew
        assert [r.count for r in noted] == [*range(1, 21), 32, 64, 128, 1]
    assert {len(r.reason) for r in noted[:-1]} == {300}
    assert {len(r.run) for r in noted[:-1]} == {200}
    last = noted[-1]
    assert (last.code, last.reason, last.run, last.round) == (
        "budget-spent",
        "2 of 4 keys",
        "run-1",
        7,
    )
    assert verify(path) == []


@pytest.mark.parametrize("code", ["", "Bad", "two words", "a" * 41, "patient 7"])
def test_codes_are_fixed_words(ledger: Ledger, code: str) -> None:
    with pytest.raises(ValueError, match="words and hyphens"):
        ledger.refuse(code, "reason")


# --------------------------------------------------------------------------------- marks


def test_marks_are_points_of_this_chain(path: Path) -> None:
    ledger = full(path)
    mark = ledger.mark()
    assert (mark.ledger, mark.sequence) == (ledger.id, 7)
    assert ledger.holds(mark)
    pay(ledger, 8, "z")
    assert ledger.holds(mark)
    assert not ledger.holds(replace(mark, ledger="0" * 16))
    assert not ledger.holds(replace(mark, head="0" * 64))
    assert not ledger.holds(replace(mark, sequence=6))
    for beyond in (-1, 0, 9, 2**63, 2**200):
        assert not ledger.holds(replace(mark, sequence=beyond))


def test_an_entry_carries_the_mark_of_its_charge(ledger: Ledger) -> None:
    entry = pay(ledger, 1)
    assert entry.mark == ledger.mark()
    ledger.answer(entry, b"reply")
    assert entry.mark != ledger.mark()
    assert ledger.holds(entry.mark)


def test_a_reply_has_a_mark_that_no_other_ledger_holds(ledger: Ledger, path: Path) -> None:
    """Not even a copy from after its charge, in which the same request is answered once more."""
    entry = pay(ledger, 1)
    backup = path.with_name("backup")
    shutil.copy(path, backup)
    sent = ledger.answer(entry, b"first")
    assert sent == pay(ledger, 1) == ledger.answered(request(1))
    assert sent.sent == ledger.mark()
    assert ledger.holds(sent.sent)
    shutil.copy(backup, path)
    assert pay(ledger, 1) == entry, "unanswered, as far as this one knows"
    assert ledger.holds(entry.mark)
    assert not ledger.holds(sent.sent)
    again = ledger.answer(entry, b"second").sent
    assert again is not None
    assert again.sequence == sent.sent.sequence
    assert not ledger.holds(sent.sent)


def test_an_older_copy_is_a_perfect_ledger_but_does_not_hold_the_mark(path: Path) -> None:
    """The one thing that nobody can see in the file itself."""
    ledger = full(path)
    backup = path.with_name("backup")
    shutil.copy(path, backup)
    pay(ledger, 8, "z")
    seen = ledger.mark()
    shutil.copy(backup, path)
    assert verify(path) == []
    assert not Ledger.open(path).holds(seen)
    pay(Ledger.open(path), 9, "z")  # the chain grows to the same length, but not to the same hash
    assert Ledger.open(path).mark().sequence == seen.sequence
    assert not Ledger.open(path).holds(seen)
