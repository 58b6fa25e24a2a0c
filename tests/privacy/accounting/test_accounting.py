"""What a ledger, a report and a verifier ask: which accountant answers, and that none is fooled."""

import ast
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf, sqrt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaward import privacy
from metaward.privacy import accounting
from metaward.privacy.accounting import (
    ACCOUNTANTS,
    METHODS,
    Reported,
    allows,
    enforced_epsilon,
    gdp,
    pld,
    rdp,
    reported_epsilon,
    second_epsilon,
)
from metaward.privacy.event import Budget, Event, gaussian
from tests.privacy.accounting.accounting_desk import delta_of

SIGMAS = (1.0, 2.5, 10.0)
RATES = (0.02, 0.2, 1.0)
PLAIN = st.builds(gaussian, st.floats(0.5, 50), st.integers(1, 500))
MIXED = st.builds(gaussian, st.sampled_from(SIGMAS), st.integers(1, 500), st.sampled_from(RATES))
Account = Callable[[Sequence[Event], float], float]


# ------------------------------------------------------------------------- who is asked


def test_sums_without_a_draw_are_enforced_and_reported_exactly() -> None:
    events = (gaussian(10, 20), gaussian(10, 30))
    exact = gdp.epsilon(sqrt(0.5), 1e-5)
    assert enforced_epsilon(events, 1e-5) == exact
    assert reported_epsilon(events, 1e-5) == Reported(1e-5, exact, METHODS["gdp"], "exact")
    assert second_epsilon(events, 1e-5) == pytest.approx(exact, rel=1e-5)
    assert second_epsilon(events, 1e-5) != exact, "another computation, not a copy"


def test_one_sampled_event_takes_the_whole_account_to_the_upper_bounds() -> None:
    events = (gaussian(10, 20), gaussian(5, 100, 0.1))
    reported = reported_epsilon(events, 1e-5)
    assert reported == Reported(
        1e-5, pld.epsilon_of(events, 1e-5), METHODS["pld"], "never below the truth"
    )
    assert enforced_epsilon(events, 1e-5) == rdp.epsilon_of(events, 1e-5) > reported.epsilon
    assert second_epsilon(events, 1e-5) == reported.epsilon


@pytest.mark.parametrize("bare", [gaussian(0, 1), gaussian(0, 1, 0.1)])
def test_no_noise_anywhere_is_no_finite_epsilon(bare: Event) -> None:
    for events in ((bare,), (gaussian(50, 1), bare), (gaussian(50, 1, 0.2), bare)):
        assert enforced_epsilon(events, 1e-5) == inf
        assert reported_epsilon(events, 1e-5).epsilon == inf
        assert second_epsilon(events, 1e-5) == inf
        assert not allows((), events, Budget(1e6, 1e-5))


def test_nothing_done_costs_nothing() -> None:
    assert enforced_epsilon((), 1e-5) == second_epsilon((), 1e-5) == 0
    assert reported_epsilon((), 1e-5) == Reported(1e-5, 0.0, METHODS["gdp"], "exact")
    assert allows((), (), Budget(0, 1e-5))


@pytest.mark.parametrize("rate", [1.0, 0.2])
def test_wrong_budgets_and_deltas_are_refused(rate: float) -> None:
    events = (gaussian(10, 5, rate),)
    for ask in (enforced_epsilon, reported_epsilon, second_epsilon):
        with pytest.raises(ValueError, match=r"delta = 100000\.0 is not in"):
            ask(events, 1e5)  # type: ignore[operator]
    for wrong in (Budget(float("nan"), 1e-5), Budget(-1, 1e-5)):
        with pytest.raises(ValueError, match=r"epsilon = .* is not 0 or above"):
            allows((), events, wrong)
    with pytest.raises(ValueError, match=r"delta = 0 is not in \(0, 1\); choose one well below"):
        allows((), events, Budget(1, 0))


def test_every_accountant_is_named_and_prices_a_plain_sum_alike() -> None:
    assert ACCOUNTANTS.keys() == METHODS.keys() == {"gdp", "rdp", "pld"}
    for name, accountant in ACCOUNTANTS.items():
        assert 1 <= accountant.epsilon_of((gaussian(3.7306316, 1),), 1e-5) * (1 + 1e-6) < 1.11, name


def test_advantage_of_an_attack() -> None:
    """At q = 1 Phi(mu/2). A draw hides the unit: with one sum the advantage is q times that of the
    sum, since in the other cases there is nothing to see."""
    assert gdp.attack_accuracy(1) == pytest.approx(0.69146246, abs=1e-8)  # Phi(0.5)
    drawn = delta_of((gaussian(1, 1, 0.2),), 0.0)
    assert drawn == pytest.approx(0.2 * gdp.advantage(1), rel=1e-4)


def test_plain_accounts_do_not_wait_for_the_libraries_of_the_others() -> None:
    """Importing dp-accounting takes seconds; no file of ours does so before it must."""
    folder = Path(str(accounting.__file__)).parent
    trees = {path.name: ast.parse(path.read_text()) for path in folder.glob("*.py")}
    heads = {
        name: [ast.unparse(n) for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
        for name, tree in trees.items()
    }
    assert any("numpy" in line for line in heads["gdp.py"])
    assert not [line for lines in heads.values() for line in lines if "dp_accounting" in line]
    assert "dp_accounting" in ast.unparse(trees["rdp.py"])


def test_no_account_of_ours_rests_on_opacus() -> None:
    """An object is not a ledger. Its accountants are asked beside ours, in a module of their own,
    but never its GDP accountant, which is below the truth for sampled sums."""
    folder = Path(str(accounting.__file__)).parent
    sources = {path.name: path.read_text() for path in folder.glob("*.py")}
    assert {"__init__.py", "gdp.py", "rdp.py", "pld.py"} <= sources.keys()
    asking = {name for name, text in sources.items() if "opacus" in text.replace("by_opacus", "")}
    assert asking == {"by_opacus.py"}
    for name, text in sources.items():
        assert name == "by_opacus.py" or "by_opacus" not in text, "no account depends on it"
    everywhere = list(Path(str(privacy.__file__)).parent.rglob("*.py"))
    assert everywhere
    assert not [path for path in everywhere if "GaussianAccountant" in path.read_text()]


# ----------------------------------------------------------------------------- properties


@given(
    st.lists(MIXED | PLAIN.map(lambda e: gaussian(2.5, e.count)), min_size=1, max_size=6), st.data()
)
def test_neither_order_nor_splitting_changes_a_bit(
    events: list[Event], data: st.DataObject
) -> None:
    pieces: list[Event] = []
    for event in events:
        cut = data.draw(st.integers(0, event.count))
        pieces += [replace(event, count=n) for n in (cut, event.count - cut) if n]
    shuffled = data.draw(st.permutations(pieces))
    assert enforced_epsilon(shuffled, 1e-5) == enforced_epsilon(events, 1e-5)
    at = data.draw(st.integers(0, len(shuffled)))
    budget = Budget(enforced_epsilon(events, 1e-5), 1e-5)
    whole = allows((), events, budget)
    assert allows(shuffled[:at], shuffled[at:], budget) == whole


@given(st.lists(PLAIN, min_size=1, max_size=8), st.data())
def test_order_changes_no_bit_of_an_exact_price(events: list[Event], data: st.DataObject) -> None:
    """Sums of many different terms are rounded once, at the end."""
    assert enforced_epsilon(data.draw(st.permutations(events)), 1e-5) == enforced_epsilon(
        events, 1e-5
    )


def test_five_are_two_and_three() -> None:
    for rate in (1.0, 0.2):
        whole, parts = (
            (gaussian(3, 5, rate),),
            (gaussian(3, 2, rate), gaussian(7, 1), gaussian(3, 3, rate)),
        )
        for ask in (enforced_epsilon, second_epsilon):
            assert (
                ask((*whole, gaussian(7, 1)), 1e-5)
                == ask(parts, 1e-5)
                == ask(parts[1:] + parts[:1], 1e-5)
            )


@pytest.mark.parametrize("ask", [enforced_epsilon, second_epsilon])
def test_every_account_grows_with_count_and_rate_and_falls_with_noise(ask: Account) -> None:
    here = ask((gaussian(4, 30, 0.2),), 1e-5)
    for dearer in (
        gaussian(4, 31, 0.2),
        gaussian(4, 30, 0.21),
        gaussian(3.9, 30, 0.2),
        gaussian(4, 30),
    ):
        assert ask((dearer,), 1e-5) > here * 1.001
    rates = [ask((gaussian(4, 30, rate),), 1e-5) for rate in (0.5, 0.8, 1.0)]
    assert rates[0] * 1.1 < rates[1] < rates[2] / 1.1
    for cheaper in (
        gaussian(4, 29, 0.2),
        gaussian(4, 30, 0.19),
        gaussian(4.1, 30, 0.2),
        gaussian(4, 1, 0.2),
    ):
        assert ask((cheaper,), 1e-5) < here * 0.999


@given(PLAIN, st.integers(1, 500), st.floats(1.001, 10))
def test_an_exact_price_grows_with_count_and_falls_with_noise(
    event: Event, more: int, times: float
) -> None:
    here = enforced_epsilon((event,), 1e-5)
    assert enforced_epsilon((replace(event, count=event.count + more),), 1e-5) > here
    assert enforced_epsilon((gaussian(event.noise_multiplier * times, event.count),), 1e-5) < here
