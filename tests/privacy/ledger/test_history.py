"""What is read back: for the report and for ``show``."""

from pathlib import Path
from typing import Any

import pytest

from metaward.privacy.event import Charge, counted, gaussian
from metaward.privacy.ledger import Events, Ledger, LedgerError, Payment, verify
from tests.privacy.ledger.ledger_desk import (
    CAP,
    RECORDS,
    STEPS,
    full,
    mu_squared,
    pay,
    read,
    request,
    spent,
    within,
)

A, B = "a1" * 32, "b2" * 32
"""Hashes of bundles of code."""


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return full(tmp_path / "hospital.ledger")


def test_charges_come_back_as_they_were_made(ledger: Ledger) -> None:
    """Units are numbered as they appear: a, b, c, d are 1, 2, 3, 4."""
    first, second, third = ledger.history().charges
    assert [c.sequence for c in (first, second, third)] == [2, 5, 7]
    assert [c.request for c in (first, second, third)] == [request(n) for n in (1, 2, 3)]
    assert first.payments == (Payment((1, 2, 3), (STEPS,)),)
    assert second.payments == (Payment((2, 3, 4), (STEPS,)),)
    assert third.payments == (Payment((1,), (STEPS,)),)
    assert {c.budget for c in (first, second, third)} == {CAP}
    assert [len(c.new) for c in (first, second, third)] == [3, 1, 0]


def test_events_and_parts_keep_every_number(tmp_path: Path) -> None:
    ledger = Ledger.create(tmp_path / "a.ledger", "phantom-01")
    events = (gaussian(1 / 3, 1), gaussian(1e300, 10**15, 0.1))
    charges = [
        Charge(("patient:208", "record:ü/\udcff"), events),
        Charge(("patient:208",), (STEPS,)),
    ]
    ledger.charge(request(0), RECORDS, charges, CAP, lambda spent, new, budget: True)
    (found,) = ledger.history().charges
    assert found.payments == (Payment((1, 2), events), Payment((1,), (STEPS,)))
    assert spent(ledger, "patient:208") == counted((*events, STEPS))
    assert spent(ledger, "record:ü/\udcff") == events


def test_a_charge_keeps_the_hash_of_the_code_that_asked_for_it(tmp_path: Path) -> None:
    ledger = Ledger.create(tmp_path / "a.ledger", "phantom-01")
    for number, code in enumerate([None, A, B, A]):
        charges = [Charge((f"record:{number}",), (STEPS,))]
        ledger.charge(request(number), RECORDS, charges, CAP, within, code=code)
    history = ledger.history()
    assert [charge.code for charge in history.charges] == [None, A, B, A]
    assert [run.code for run in history.runs()] == [(A, B)]
    assert verify(ledger.path) == []


@pytest.mark.parametrize("code", ["", "abc", "A1" * 32, 7, A + "0", [A]], ids=repr)
def test_a_hash_of_code_that_is_none_is_not_read(tmp_path: Path, code: Any) -> None:
    """The chain is whole: somebody wrote a row that no version of metaward writes."""
    ledger = Ledger.create(tmp_path / "a.ledger", "phantom-01")
    charges = [Charge(("record:a",), (STEPS,))]
    ledger.charge(request(1), RECORDS, charges, CAP, within, code=code)
    with pytest.raises(LedgerError, match="row 2"):
        ledger.history()
    assert any("rows 2 cannot be read" in fault for fault in verify(ledger.path))


def test_totals_from_the_chain_are_those_of_the_table(ledger: Ledger) -> None:
    double = gaussian(2.0, 8)
    assert ledger.history().totals() == {1: (double,), 2: (double,), 3: (double,), 4: (STEPS,)}
    rows = read(ledger.path, "SELECT unit, event, count FROM total ORDER BY unit")
    text = '{"noise_multiplier":2.0,"type":"GaussianDpEvent"}'
    assert rows == [(unit, text, count) for unit, count in enumerate((8, 8, 8, 4), 1)]


def test_spend_over_time_follows_the_worst_unit_so_far(tmp_path: Path) -> None:
    """mu^2 by hand: a 1; b 1/4, still a; b 1/4 + 1; c small, still b."""
    ledger = Ledger.create(tmp_path / "a.ledger", "phantom-01")
    asked: list[Events] = []

    def price(events: Events) -> float:
        asked.append(events)
        return mu_squared(events)

    for number, (name, event) in enumerate(
        [("a", STEPS), ("b", gaussian(4.0, 4)), ("b", STEPS), ("c", gaussian(8.0, 1))]
    ):
        pay(ledger, number, name, event)
    points = ledger.history().spending(price)
    assert [(charge.request.round, spend) for charge, spend in points] == [
        (0, 1.0),
        (1, 1.0),
        (2, 1.25),
        (3, 1.25),
    ]
    assert len(asked) == 4


def test_units_are_counted_by_kind(tmp_path: Path) -> None:
    ledger = Ledger.create(tmp_path / "a.ledger", "phantom-01")
    assert ledger.history().units() == {}
    assert ledger.history().spending(mu_squared) == []
    charge = [Charge(("record:a", "record:b", "content:00", "patient:7"), (STEPS,))]
    ledger.charge(request(1), RECORDS, charge, CAP, within)
    ledger.charge(request(2), RECORDS, charge, CAP, within)
    assert ledger.history().units() == {"record": 2, "content": 1, "patient": 1}


def test_replies_refusals_and_runs(ledger: Ledger) -> None:
    ledger.answer(
        ledger.charge(request(1, "run-2"), RECORDS, [Charge(("record:z",), (STEPS,))], CAP, within),
        b"z",
    )
    history = ledger.history()
    assert [(r.sequence, r.charge) for r in history.replies] == [(3, 2), (6, 5), (9, 8)]
    assert [(r.sequence, r.code, r.reason) for r in history.refusals] == [
        (4, "bad-request", "no such purpose")
    ]
    assert [(r.run, r.charges, r.replies) for r in history.runs()] == [
        ("run-1", 3, 2),
        ("run-2", 1, 1),
    ]
    assert history.mark == ledger.mark()
    assert all(r.first <= r.last for r in history.runs())


def test_the_history_holds_no_identity(ledger: Ledger) -> None:
    text = repr(ledger.history())
    assert "phantom-01" in text
    assert "record:a'" not in text
    assert ledger.secret.hex() not in text
