"""Events of any mechanism: written down, read back, counted, priced, or refused by name."""

import json
from math import inf
from pathlib import Path

import dp_accounting as dp
import numpy as np
import pytest
from dp_accounting import dp_event as library

from metaward.privacy.accounting import (
    ACCOUNTANTS,
    METHODS,
    allows,
    enforced_epsilon,
    gdp,
    pld,
    reported_epsilon,
    second_epsilon,
)
from metaward.privacy.event import Budget, Charge, Event, counted, from_plain, gaussian, to_plain
from metaward.privacy.ledger import BudgetSpent, Ledger, file, verify
from metaward.server.office.accounts.account import account
from tests.privacy.accounting.accounting_desk import delta_of
from tests.privacy.ledger.ledger_desk import description, keys, read, request, spent

GAUSSIAN = dp.GaussianDpEvent(2.0)
LAPLACE = dp.LaplaceDpEvent(2.0)
ALL = [
    GAUSSIAN,
    LAPLACE,
    dp.PoissonSampledDpEvent(0.1, GAUSSIAN),
    dp.PoissonSampledDpEvent(0.1, LAPLACE),
    dp.RandomizedResponseDpEvent(0.5, 4),
    library.DiscreteLaplaceDpEvent(0.5, 1),
    dp.ZCDpEvent(0.1),
    dp.SingleEpochTreeAggregationDpEvent(4.0, (8, 3)),
    dp.SelfComposedDpEvent(GAUSSIAN, 3),
    dp.ComposedDpEvent((GAUSSIAN, LAPLACE)),
]
MIXTURE = library.MixtureOfGaussiansDpEvent(2.0, (0.0, 1.0), (0.5, 0.5))  # slow to price
KINDS = pytest.mark.parametrize("kind", [*ALL, MIXTURE], ids=repr)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.create(tmp_path / "hospital.ledger", "phantom-01")


# ----------------------------------------------------------------------------- as plain data


@KINDS
def test_what_is_written_down_is_read_back(kind: dp.DpEvent) -> None:
    event = Event(kind, 3)
    text = json.dumps(to_plain(event.dp_event), allow_nan=False)
    again = from_plain(json.loads(text))
    assert again == event.dp_event == kind
    assert hash(again) == hash(event.dp_event)


def test_numbers_become_pythons_own_and_lists_tuples() -> None:
    """Or equal events would be two lines of text, and a list could be no key."""
    event = Event(dp.GaussianDpEvent(np.float64(2)), np.int64(3))  # type: ignore[arg-type]
    assert to_plain(event.dp_event) == {"type": "GaussianDpEvent", "noise_multiplier": 2.0}
    assert {type(event.count), type(event.dp_event.noise_multiplier)} == {int, float}
    assert Event(dp.GaussianDpEvent(2), 3) == event
    composed = Event(dp.ComposedDpEvent([GAUSSIAN, LAPLACE]))
    assert hash(composed) == hash(Event(dp.ComposedDpEvent((GAUSSIAN, LAPLACE))))


def test_equal_events_are_counted_together_in_one_order() -> None:
    found = counted([gaussian(2.0, 4), Event(LAPLACE), gaussian(2.0, 1, 0.5), gaussian(2, 3)])
    assert set(found) == {gaussian(2.0, 7), Event(LAPLACE), gaussian(2.0, 1, 0.5)}
    assert found == counted(reversed(found))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: gaussian(-1.0, 1), r"noise_multiplier = -1.0 is not in \[0, inf\)"),
        (lambda: gaussian(inf, 1), "noise_multiplier = inf is not"),
        (lambda: gaussian(float("nan"), 1), "noise_multiplier = nan is not"),
        (lambda: gaussian(1.0, 0), "count = 0 is below 1"),
        (lambda: gaussian(1.0, 1, 0.0), r"sampling_rate = 0.0 is not in \(0, 1\]"),
        (lambda: gaussian(1.0, 1, 1.5), "sampling_rate = 1.5 is not"),
        (lambda: Event(dp.ZCDpEvent(-0.1)), "rho = -0.1 is not"),
        (lambda: Event("noise"), "str is no event of dp_accounting"),
        (lambda: from_plain({"type": "Popen", "args": "ls"}), "'Popen' is no event"),
        (lambda: from_plain({"type": "annotations"}), "'annotations' is no event"),
    ],
)
def test_what_is_no_event(make: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()  # type: ignore[operator]


# --------------------------------------------------------------------------------- the price


@pytest.mark.parametrize("kind", ALL, ids=repr)
def test_each_use_is_counted(kind: dp.DpEvent) -> None:
    """By every accountant that supports it: one of the library's own forgets to (0.6)."""
    able = [name for name in ACCOUNTANTS if ACCOUNTANTS[name].supports([Event(kind)])]
    assert able
    for name in able:
        accountant = ACCOUNTANTS[name]
        once, often = (accountant.epsilon_of([Event(kind, n)], 1e-5) for n in (1, 20))
        assert 1.5 * once < often < inf, name


def test_the_closest_accountant_reports_and_a_filter_enforces() -> None:
    events = (Event(LAPLACE, 3), gaussian(5.0, 10))
    reported = reported_epsilon(events, 1e-5)
    assert reported.method == METHODS["pld"]
    assert reported.epsilon == pld.epsilon_of(events, 1e-5) == second_epsilon(events, 1e-5)
    assert reported.epsilon < enforced_epsilon(events, 1e-5)
    tree = (Event(dp.SingleEpochTreeAggregationDpEvent(4.0, 8)),)
    assert reported_epsilon(tree, 1e-5).method == METHODS["rdp"]
    assert second_epsilon(tree, 1e-5) == enforced_epsilon(tree, 1e-5)


def test_pure_epsilon_by_hand() -> None:
    """Laplace noise of scale b over an L1 sensitivity of 1 has losses of at most 1/b."""
    assert pld.epsilon_of([Event(LAPLACE, 4)], 1e-12) == pytest.approx(4 / 2.0, rel=1e-3)
    advantage = delta_of([Event(LAPLACE)], 0.0)
    assert advantage == pytest.approx(1 - np.exp(-0.25), rel=1e-3)


@pytest.mark.parametrize("faint", [dp.LaplaceDpEvent(0.0), dp.NonPrivateDpEvent()])
def test_no_noise_is_no_finite_epsilon(faint: dp.DpEvent) -> None:
    events = (gaussian(50, 1), Event(faint))
    for epsilon in (enforced_epsilon(events, 1e-5), reported_epsilon(events, 1e-5).epsilon):
        assert epsilon == inf


def test_what_no_accountant_can_price_is_refused_by_name() -> None:
    unknown = (gaussian(10, 1), Event(dp.UnsupportedDpEvent()))
    for ask in (enforced_epsilon, reported_epsilon, second_epsilon):
        with pytest.raises(ValueError, match=r"^UnsupportedDpEvent: none of the accountants"):
            ask(unknown, 1e-5)  # type: ignore[operator]
    with pytest.raises(ValueError, match="gdp, rdp can price it"):
        allows((), (Event(library.DiscreteLaplaceDpEvent(0.5, 1)),), Budget(8.0, 1e-5))
    with pytest.raises(ValueError, match=r"LaplaceDpEvent.* has no exact mu"):
        gdp.mu([Event(LAPLACE)])


# ----------------------------------------------------------------------------- in the ledger


def test_a_ledger_takes_any_event_without_a_change(ledger: Ledger) -> None:
    """Charged, verified, shown and priced; no table has a column of one mechanism's."""
    budget = Budget(3.0, 1e-5)
    paid = [Charge(keys("ab"), (Event(LAPLACE, 2), gaussian(20.0, 5)))]
    said = description("sums", "record", *paid[0].events)
    ledger.answer(ledger.charge(request(1), said, paid, budget, allows), b"reply")
    assert verify(ledger.path) == []
    assert set(spent(ledger, "record:a")) == {Event(LAPLACE, 2), gaussian(20.0, 5)}
    assert set(ledger.history().totals().values()) == {spent(ledger, "record:b")}
    shown = account(ledger.path)
    assert shown.mu is None
    assert shown.spent[0].method == METHODS["pld"]
    assert shown.spent[0].epsilon == pld.epsilon_of(spent(ledger, "record:a"), 1e-5)
    assert shown.budgets[0].left == 3.0 - enforced_epsilon(spent(ledger, "record:a"), 1e-5)
    with pytest.raises(BudgetSpent):
        ledger.charge(request(2), said, [Charge(keys("a"), paid[0].events * 3)], budget, allows)
    assert not {"noise", "sampling", "gaussian"} & set(file.SCHEMA.lower().split())


@KINDS
def test_every_event_is_kept_as_it_is(ledger: Ledger, kind: dp.DpEvent) -> None:
    charge, said = [Charge(keys("a"), (Event(kind, 3),))], description("none", "none", Event(kind))
    for number in range(2):
        ledger.charge(request(number), said, charge, None, allows)
    assert verify(ledger.path) == []
    assert spent(ledger, "record:a") == (Event(kind, 6),)
    assert read(ledger.path, "SELECT COUNT(*) FROM total") == [(1,)]


def test_an_event_without_an_accountant_charges_nothing(ledger: Ledger) -> None:
    before = ledger.mark()
    charge = [Charge(keys("a"), (Event(dp.UnsupportedDpEvent()),))]
    with pytest.raises(ValueError, match="UnsupportedDpEvent"):
        ledger.charge(request(1), description("sums", "record"), charge, Budget(3.0, 1e-5), allows)
    assert ledger.mark() == before
