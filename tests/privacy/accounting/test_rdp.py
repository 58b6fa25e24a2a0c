"""The account of sampled sums that a ledger enforces: curves, conversion, filter."""

import logging
from dataclasses import replace
from math import comb, exp, expm1, inf, log, log1p

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from opacus.accountants import RDPAccountant

from metaward.privacy.accounting import rdp
from metaward.privacy.event import Budget, Event, gaussian
from tests.privacy.accounting.accounting_desk import noise_for

SIGMAS = (0.7, 1.0, 2.0, 5.0, 20.0)
RATES = (0.001, 0.02, 0.2, 1.0)
EVENT = st.builds(gaussian, st.sampled_from(SIGMAS), st.integers(1, 2000), st.sampled_from(RATES))
BUDGETS = st.builds(Budget, st.floats(0.2, 20), st.sampled_from((1e-3, 1e-5, 1e-7)))


def curve(sigma: float, rate: float) -> NDArray[np.float64]:
    return rdp.curve(gaussian(sigma, 1, rate).dp_event)


# --------------------------------------------------------------------------------- curves


def test_without_a_draw_the_curve_is_order_over_two_sigma_squared() -> None:
    """Mironov (2017). Also shows that what is read from dp-accounting is its curve."""
    assert curve(3.0, 1.0) == pytest.approx(np.array(rdp.ORDERS) / 18, rel=1e-10)


@pytest.mark.parametrize(("sigma", "rate"), [(1.0, 0.1), (2.0, 0.02), (5.0, 0.5)])
def test_curve_at_whole_orders(sigma: float, rate: float) -> None:
    """Mironov, Talwar, Zhang (2019), section 3.3: at a whole order a,
    A = sum_k C(a, k) (1 - q)^(a - k) q^k exp((k^2 - k) / (2 sigma^2)), divergence log A / (a-1)."""
    for order in (2, 5, 11):
        terms = (
            comb(order, k) * (1 - rate) ** (order - k) * rate**k * exp((k * k - k) / 2 / sigma**2)
            for k in range(order + 1)
        )
        found = curve(sigma, rate)[rdp.ORDERS.index(order)]
        assert found == pytest.approx(log(sum(terms)) / (order - 1), rel=1e-8)


@pytest.mark.parametrize("rate", [1e-5, 1e-6, 1e-7, 3e-8, 1e-9])
def test_a_rare_draw_loses_no_cost_to_rounding(rate: float) -> None:
    """At order 2, A - 1 = q^2 (exp(1/sigma^2) - 1): near q = 1e-8 a double next to 1 hides it."""
    exact = log1p(rate**2 * expm1(1.0))
    assert exact <= curve(1.0, rate)[rdp.ORDERS.index(2.0)] <= exact + 2 * rdp.SLACK


def test_rare_draws_however_many_stay_cheap() -> None:
    """The slack of 10^9 sums is 0.001; the rest is what order 63 admits, log(1/delta) / 62."""
    assert rdp.epsilon_of([gaussian(1.0, 10**9, 1e-9)], 1e-5) < 0.19


def test_curves_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        curve(1.0, 0.02)[0] = 0


def test_left_out_orders_are_infinite_and_nobody_is_alarmed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rdp.curve.cache_clear()
    with caplog.at_level(logging.WARNING, "absl"):
        assert curve(1.0, 0.1)[0] == inf, "the series at order 1.1 does not converge here"
        assert not caplog.records
        assert logging.getLogger("absl").level == logging.WARNING


# ----------------------------------------------------------------------------- conversion


def test_against_opacus() -> None:
    """q = 0.04, sigma = 1.5, 2250 steps. The same bound at nearly the same orders; ours drops the
    signs of the series at fractional orders, so it is a little above."""
    opacus = RDPAccountant()
    opacus.history = [(1.5, 0.04, 2250)]
    theirs = opacus.get_epsilon(1e-5)
    assert theirs == pytest.approx(7.32911117, abs=1e-8)
    assert theirs <= rdp.epsilon_of([gaussian(1.5, 2250, 0.04)], 1e-5) < theirs * 1.0001


@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-8])
@pytest.mark.parametrize("epsilon", [0.1, 1.0, 3.0, 8.0, 30.0])
def test_at_rate_one_above_the_exact_epsilon_by_a_quarter_at_most(
    epsilon: float, delta: float
) -> None:
    sigma = noise_for(epsilon, delta, 7)
    assert epsilon < rdp.epsilon_of([gaussian(sigma, 7)], delta) < 1.25 * epsilon


def test_ends() -> None:
    assert rdp.epsilon_of([], 1e-5) == 0
    assert rdp.epsilon_of([gaussian(0, 1, 0.5)], 1e-5) == inf
    assert rdp.epsilon_of([gaussian(20, 5), gaussian(1e-4, 1, 0.5)], 1e-5) == inf
    assert 1e4 < rdp.epsilon_of([gaussian(rdp.FAINTEST, 1)], 1e-5) < inf
    for delta in (0, 1, float("nan")):
        with pytest.raises(ValueError, match=f"delta = {delta} is not in"):
            rdp.epsilon_of([gaussian(1, 1)], delta)


@given(st.lists(EVENT, max_size=6), EVENT)
def test_every_event_costs(events: list[Event], another: Event) -> None:
    assert (rdp.total([*events, another]) > rdp.total(events))[10:].all()
    assert rdp.epsilon_of([*events, another], 1e-5) >= rdp.epsilon_of(events, 1e-5)


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_more_sums_less_noise_and_a_higher_rate_cost_more(a: int, b: int) -> None:
    few, many = sorted((a, b))
    assume(few < many)
    price = {
        (sigma, rate): rdp.epsilon_of([gaussian(sigma, few, rate)], 1e-5)
        for sigma in SIGMAS
        for rate in RATES
    }
    for (sigma, rate), epsilon in price.items():
        assert rdp.epsilon_of([gaussian(sigma, many, rate)], 1e-5) >= epsilon
        assert all(price[s, rate] <= epsilon for s in SIGMAS if s > sigma)
        assert all(price[sigma, r] >= epsilon for r in RATES if r > rate)


# --------------------------------------------------------------------------------- filter


@given(st.lists(EVENT, min_size=1, max_size=12), BUDGETS)
def test_what_the_filter_lets_through_is_within_the_budget(
    proposals: list[Event], budget: Budget
) -> None:
    """Adaptively: what is refused is asked for again, weaker, and accepted where it fits."""
    spent: list[Event] = []
    for proposal in proposals:
        for count in (proposal.count, proposal.count // 10, proposal.count // 100):
            event = replace(proposal, count=max(1, count))
            if rdp.allows([*spent, event], budget):
                spent.append(event)
                break
    assert rdp.epsilon_of(spent, budget.delta) <= budget.epsilon
    assert rdp.allows(spent, budget)


def last_allowed(sigma: float, rate: float, budget: Budget) -> int:
    """The largest count that the filter lets through."""
    low, high = 0, 10**8
    while high - low > 1:
        middle = (low + high) // 2
        fits = rdp.allows([gaussian(sigma, middle, rate)], budget)
        low, high = (middle, high) if fits else (low, middle)
    return low


@pytest.mark.parametrize(("sigma", "rate"), [(1.5, 0.04), (5.0, 0.1), (10.0, 0.2), (10.0, 1.0)])
@pytest.mark.parametrize("epsilon", [3.0, 8.0])
def test_an_order_fixed_by_the_budget_costs_little(
    sigma: float, rate: float, epsilon: float
) -> None:
    """Against choosing the order afterwards, which no theorem covers: at most one sum in fifty."""
    budget = Budget(epsilon, 1e-5)
    count = last_allowed(sigma, rate, budget)
    assert count > 40
    assert rdp.epsilon_of([gaussian(sigma, count, rate)], 1e-5) <= epsilon
    assert rdp.epsilon_of([gaussian(sigma, count + count // 50 + 1, rate)], 1e-5) > epsilon


def test_the_filter_uses_one_order_whatever_was_spent() -> None:
    """Four sums with sigma 1 and rate 0.1 are below epsilon 3 at their own best order, which is not
    the order that the budget fixes: the filter must say no all the same."""
    budget = Budget(3.0, 1e-5)
    events = [gaussian(1.0, 4, 0.1)]
    assert rdp.epsilon_of(events, budget.delta) < budget.epsilon
    assert not rdp.allows(events, budget)
    assert rdp.allows([gaussian(1.0, 1, 0.1)], budget)


def test_filter_at_the_ends() -> None:
    assert rdp.allows([], Budget(0, 1e-5))
    assert not rdp.allows([gaussian(1e4, 1, 0.001)], Budget(0, 1e-5))
    assert not rdp.allows([gaussian(0, 1, 0.001)], Budget(100, 1e-5))
    assert rdp.allows([gaussian(0, 1, 0.001)], Budget(inf, 1e-5))
    with pytest.raises(ValueError, match="epsilon = -1 is not 0 or above"):
        rdp.allows([], Budget(-1, 1e-5))
    with pytest.raises(ValueError, match="delta = 0 is not in"):
        rdp.allows([], Budget(1, 0))
