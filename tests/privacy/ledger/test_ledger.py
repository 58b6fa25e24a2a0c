"""What is charged to whom, and what is refused."""

import re
from pathlib import Path

import pytest

from metaward.privacy import accounting
from metaward.privacy.event import Budget, Charge, gaussian
from metaward.privacy.ledger import (
    BudgetSpent,
    Entry,
    Events,
    Ledger,
    LedgerError,
    RequestKey,
    verify,
)
from tests.privacy.ledger.ledger_desk import (
    CAP,
    NOTHING,
    PATIENTS,
    RECORDS,
    STEPS,
    code_of,
    description,
    keys,
    pay,
    read,
    request,
    spent,
    within,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hospital.ledger"


@pytest.fixture
def ledger(path: Path) -> Ledger:
    return Ledger.create(path, "phantom-01", "a privacy officer")


def test_a_charge_is_paid_by_each_key_and_by_no_other(ledger: Ledger) -> None:
    pay(ledger, 1, "ab")
    pay(ledger, 2, "bc", gaussian(3.0, 5))
    assert spent(ledger, "record:a") == (STEPS,)
    assert spent(ledger, "record:b") == (STEPS, gaussian(3.0, 5))
    assert spent(ledger, "record:c") == (gaussian(3.0, 5),)
    assert spent(ledger, "record:d") == ()


def test_equal_events_add_up(ledger: Ledger) -> None:
    pay(ledger, 1, "a")
    pay(ledger, 2, "a")
    pay(ledger, 3, "a", gaussian(2.0, 1, 0.5))
    assert set(spent(ledger, "record:a")) == {gaussian(2.0, 1, 0.5), gaussian(2.0, 8)}
    assert len(spent(ledger, "record:a")) == 2


def test_a_key_in_two_charges_of_one_request_pays_both(ledger: Ledger) -> None:
    """Two thirds of the budget at once leave a third: one more, not two."""
    twice = [Charge(keys("ab"), (STEPS,)), Charge(keys("a"), (STEPS,))]
    ledger.charge(request(1), RECORDS, twice, CAP, within)
    assert spent(ledger, "record:a") == (gaussian(2.0, 8),)
    pay(ledger, 2, "a")
    with pytest.raises(BudgetSpent):
        pay(ledger, 3, "a")


def test_the_budget_holds_to_the_last_step(ledger: Ledger, path: Path) -> None:
    """mu^2 = 1 each of 3: the fourth is refused, and so is the smallest further step."""
    for number in range(3):
        pay(ledger, number, "a")
    before = ledger.mark()
    for event in (STEPS, gaussian(1000.0, 1)):
        with pytest.raises(BudgetSpent) as error:
            pay(ledger, 4, "a", event)
        assert (error.value.code, error.value.keys, error.value.asked) == ("budget-spent", 1, 1)
    assert ledger.mark() == before
    assert spent(ledger, "record:a") == (gaussian(2.0, 12),)


def test_one_spent_key_refuses_all_and_charges_none(ledger: Ledger) -> None:
    for number in range(3):
        pay(ledger, number, "ab")
    with pytest.raises(BudgetSpent, match="2 of 4 keys would exceed epsilon = 3") as error:
        pay(ledger, 4, "abcd")
    assert (error.value.keys, error.value.asked) == (2, 4)
    assert not {"record:a", "a", "b"} & set(str(error.value).split())
    assert spent(ledger, "record:c") == ()
    assert read(ledger.path, "SELECT COUNT(*) FROM unit") == [(2,)]


def test_a_budget_outlives_run_purpose_and_process(ledger: Ledger, path: Path) -> None:
    charge = [Charge(keys("a"), (STEPS,))]
    for key in (request(1), request(1, "run-2"), request(1, purpose="evaluate")):
        Ledger.open(path).charge(key, RECORDS, charge, CAP, within)
    with pytest.raises(BudgetSpent):
        Ledger.open(path).charge(request(1, "run-3"), RECORDS, charge, CAP, within)


def test_the_whole_request_is_charged_and_not_what_fits(ledger: Ledger) -> None:
    with pytest.raises(BudgetSpent):
        pay(ledger, 1, "a", gaussian(2.0, 13))
    assert spent(ledger, "record:a") == ()


def test_equal_cases_are_judged_once(ledger: Ledger) -> None:
    """400 keys with two histories and one price: two questions, and what they say is right."""
    asked: list[tuple[Events, Events]] = []

    def allows(spent: Events, new: Events, budget: Budget) -> bool:
        asked.append((spent, new))
        return within(spent, new, budget)

    pay(ledger, 1, range(100))
    charges = [Charge(keys(range(400)), (STEPS,)), Charge(keys(range(50)), (STEPS,))]
    ledger.charge(request(2), RECORDS, charges, CAP, allows)
    expected = {((), (STEPS,)), ((STEPS,), (STEPS,)), ((STEPS,), (gaussian(2.0, 8),))}
    assert len(asked) == 3
    assert set(asked) == expected
    assert spent(ledger, "record:399") == (STEPS,)
    assert spent(ledger, "record:99") == (gaussian(2.0, 8),)
    assert spent(ledger, "record:49") == (gaussian(2.0, 12),)


def test_an_accountant_that_fails_charges_nothing(ledger: Ledger) -> None:
    def broken(spent: Events, new: Events, budget: Budget) -> bool:
        raise ArithmeticError

    before = ledger.mark()
    with pytest.raises(ArithmeticError):
        ledger.charge(request(1), RECORDS, [Charge(keys("a"), (STEPS,))], CAP, broken)
    assert ledger.mark() == before
    assert pay(ledger, 1, "a").sequence == 2


@pytest.mark.parametrize("charges", [[], [Charge((), (STEPS,))], [Charge(keys("a"), ())]])
def test_nothing_goes_unpaid(ledger: Ledger, charges: list[Charge]) -> None:
    with pytest.raises(ValueError, match="unpaid"):
        ledger.charge(request(1), RECORDS, charges, CAP, within)


def test_a_key_twice_in_one_sum_is_a_wrong_price(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="2 of 5 keys are twice"):
        pay(ledger, 1, "abcab")


def test_keys_must_name_their_kind_and_are_not_repeated_in_errors(ledger: Ledger) -> None:
    for key in ("Meier", "Record:Meier", ":Meier", "record:"):
        with pytest.raises(ValueError, match=f"a key of {len(key)} characters") as error:
            ledger.charge(request(1), RECORDS, [Charge((key,), (STEPS,))], CAP, within)
        assert "Meier" not in str(error.value)


@pytest.mark.parametrize(
    "budget", [Budget(float("inf"), 1e-5), Budget(0.0, 1e-5), Budget(1.0, 0.0), Budget(1.0, 1.0)]
)
def test_a_budget_that_is_no_cap(ledger: Ledger, budget: Budget) -> None:
    with pytest.raises(ValueError, match="is no cap"):
        ledger.charge(
            request(1), RECORDS, [Charge(keys("a"), (STEPS,))], budget, lambda s, n, b: True
        )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"run": ""}, "run has 0"),
        ({"run": "x" * 201}, "run has 201"),
        ({"round": -1}, "round = -1"),
        ({"round": True}, "round = True"),
        ({"purpose": ""}, "purpose has 0"),
        ({"digest": "ab"}, "digest = 'ab'"),
    ],
)
def test_requests_are_checked(change: dict[str, object], words: str) -> None:
    fields = {"run": "r", "round": 1, "purpose": "train", "digest": "0" * 64}
    with pytest.raises(ValueError, match=words):
        RequestKey(**fields | change)  # type: ignore[arg-type]


def test_the_ledger_names_no_record(ledger: Ledger, path: Path) -> None:
    """Neither the identity nor its plain hash can be found in the file; the kind can."""
    pay(ledger, 1, ["Meier-1957"])
    raw = path.read_bytes()
    assert b"Meier" not in raw
    assert b"record:" in raw
    assert spent(ledger, "record:Meier-1957") == (STEPS,)


def test_a_ledger_counts_by_one_unit_for_good(ledger: Ledger) -> None:
    """Under a clipped patient a record may cost twice what is written down: budgets of two units
    do not add up, whatever is left of them, and whichever records are meant."""
    charge = [Charge(("patient:p", "content:c"), (STEPS,))]
    ledger.charge(request(1), PATIENTS, charge, CAP, within)
    before = ledger.mark()
    others = (RECORDS, description("whole", "task"), description("whole", "hospital"), NOTHING)
    for other in others:
        with pytest.raises(
            LedgerError, match=f"counts what each patient spent.*unit {other.protection.unit}"
        ) as error:
            ledger.charge(request(2), other, [Charge(keys("z"), (STEPS,))], CAP, within)
        assert code_of(error) == "ledger-unit"
    assert ledger.mark() == before
    ledger.charge(request(2), PATIENTS, charge, CAP, within)
    assert ledger.history().protections() == (PATIENTS.protection,)


def test_a_ledger_that_counts_by_task_keeps_to_one_deal(ledger: Ledger, path: Path) -> None:
    """Records that were one task and are parts of several would move several clipped updates."""
    said, charge = description("whole", "task"), [Charge(keys("ab"), (STEPS,))]

    def ask(number: int, deal: str | None) -> Entry:
        return ledger.charge(request(number), said, charge, CAP, within, deal)

    first = ask(1, "a+b")
    before = ledger.mark()
    for number, other in ((1, "b+c"), (2, "b+c"), (3, None)):
        with pytest.raises(LedgerError, match="deals them into others") as error:
            ask(number, other)
        assert code_of(error) == "ledger-deal"
    assert ledger.mark() == before
    assert ask(1, "a+b") == first
    ask(2, "a+b")
    (name,) = {charge.deal for charge in ledger.history().charges}
    assert name is not None
    assert re.fullmatch("deal:[0-9a-f]{64}", name)
    assert b"a+b" not in path.read_bytes(), "a guessed deal must not be told from another"
    assert verify(path) == []


def test_a_unit_may_be_served_by_several_mechanisms(ledger: Ledger) -> None:
    """A patient's losses add up whatever noised the sums; each charge says by which mechanism."""
    charge = [Charge(("patient:p",), (STEPS,))]
    other = description("secure_sum", "patient")
    for number, said in enumerate((PATIENTS, other, PATIENTS)):
        ledger.charge(request(number), said, charge, CAP, within)
    history = ledger.history()
    assert [charge.description for charge in history.charges] == [PATIENTS, other, PATIENTS]
    assert history.protections() == (PATIENTS.protection, other.protection)
    assert spent(ledger, "patient:p") == (gaussian(2.0, 12),)
    with pytest.raises(BudgetSpent):
        ledger.charge(request(9), other, charge, CAP, within)


def test_the_same_request_by_another_mechanism_is_another_charge(ledger: Ledger) -> None:
    """Its noise differs, so an open charge by one mechanism pays for nothing by the other."""
    charge = [Charge(("patient:p",), (STEPS,))]
    first = ledger.charge(request(1), PATIENTS, charge, CAP, within)
    assert ledger.charge(request(1), PATIENTS, charge, CAP, within) == first
    other = ledger.charge(request(1), description("secure_sum", "patient"), charge, CAP, within)
    assert other.sequence == first.sequence + 1


def test_with_the_real_accountant(ledger: Ledger) -> None:
    """epsilon 3 at delta 1e-5 is mu = 0.7191 (Dong, Roth, Su 2019), mu^2 = 0.5171: at noise 10 that
    is 51 steps of mu^2 = 1/100, and not 52."""
    budget = Budget(3.0, 1e-5)
    for number, steps in enumerate([20, 20, 10, 1]):
        charge = [Charge(keys("a"), (gaussian(10.0, steps),))]
        ledger.charge(request(number), RECORDS, charge, budget, accounting.allows)
    with pytest.raises(BudgetSpent):
        ledger.charge(
            request(9),
            RECORDS,
            [Charge(keys("a"), (gaussian(10.0, 1),))],
            budget,
            accounting.allows,
        )
    points = ledger.history().spending(lambda events: accounting.enforced_epsilon(events, 1e-5))
    assert 2.9 < points[-1][1] <= 3.0
