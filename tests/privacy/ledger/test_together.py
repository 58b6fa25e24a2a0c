"""Several threads and processes on one ledger: budgets hold, and each request has one reply."""

import os
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from metaward.privacy.event import Budget, Charge, gaussian
from metaward.privacy.ledger import BudgetSpent, Events, Ledger, verify
from tests.privacy.ledger.ledger_desk import CAP, RECORDS, STEPS, pay, request, spent

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.create(tmp_path / "hospital.ledger", "phantom-01")


def test_threads_that_ask_the_same_all_send_the_same(ledger: Ledger) -> None:
    """All have computed, each with noise of its own, before the first may store."""
    ready = threading.Barrier(8, timeout=20)

    def serve(worker: int) -> bytes | None:
        entry = pay(ledger, 1)
        ready.wait()
        return ledger.answer(entry, b"noise of worker %d" % worker).reply

    with ThreadPoolExecutor(8) as pool:
        sent = set(pool.map(serve, range(8)))
    assert len(sent) == 1
    assert len(ledger.history().charges) == 1
    assert pay(ledger, 1).reply in sent


def test_threads_cannot_spend_the_same_budget_twice(ledger: Ledger) -> None:
    """24 requests for one record whose budget is enough for three."""

    def ask(number: int) -> bool:
        try:
            pay(ledger, number, "a")
        except BudgetSpent:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert Counter(pool.map(ask, range(24))) == {True: 3, False: 21}
    assert spent(ledger, "record:a") == (gaussian(2.0, 12),)
    assert verify(ledger.path) == []


def test_nobody_is_judged_while_another_is(ledger: Ledger) -> None:
    """The second asks its accountant only after the first has paid, and with what it has paid."""
    seen: list[Events] = []
    first_asks, second_asks = threading.Event(), threading.Event()

    def slow(spent: Events, new: Events, budget: Budget) -> bool:
        first_asks.set()
        assert not second_asks.wait(0.3)
        return True

    def quick(spent: Events, new: Events, budget: Budget) -> bool:
        second_asks.set()
        seen.append(spent)
        return True

    charge = [Charge(("record:a",), (STEPS,))]
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ledger.charge, request(1), RECORDS, charge, CAP, slow)
        assert first_asks.wait(20)
        second = pool.submit(ledger.charge, request(2), RECORDS, charge, CAP, quick)
        assert (first.result().sequence, second.result().sequence) == (2, 3)
    assert seen == [(STEPS,)]


def test_processes_cannot_either(ledger: Ledger) -> None:
    """Four forks of this process use the ledger object that they inherited."""
    children = []
    for worker in range(4):
        child = os.fork()
        if child == 0:
            os._exit(_granted(ledger, range(10 * worker, 10 * worker + 10)))
        children.append(child)
    granted = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert sum(granted) == 3
    assert len(ledger.history().charges) == 3
    assert verify(ledger.path) == []


def _granted(ledger: Ledger, numbers: range) -> int:
    """How many of these requests were paid, as an exit status; 99 after any error."""
    try:
        granted = 0
        for number in numbers:
            try:
                pay(ledger, number, "a")
                granted += 1
            except BudgetSpent:
                pass
        return granted
    except BaseException:
        return 99
