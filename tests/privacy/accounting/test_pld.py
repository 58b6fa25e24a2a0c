"""The second accountant, against the first, against Opacus, and against formulas."""

from math import expm1, inf, log1p

import numpy as np
import pytest
from opacus.accountants import PRVAccountant

from metaward.privacy.accounting import gdp, pld, rdp
from metaward.privacy.event import Event, gaussian
from tests.privacy.accounting.accounting_desk import delta_of, noise_for


@pytest.mark.parametrize("delta", [1e-10, 1e-5, 1e-3])
@pytest.mark.parametrize("epsilon", [0.01, 0.1, 1.0, 3.0, 30.0])
def test_agrees_with_the_exact_account_within_one_percent(epsilon: float, delta: float) -> None:
    """Measured: within one part in a million."""
    sigma = noise_for(epsilon, delta, 4)
    found = pld.epsilon_of([gaussian(sigma, 3), gaussian(sigma, 1)], delta)
    assert found == pytest.approx(epsilon, rel=1e-5)
    assert found > epsilon * (1 - 1e-8), "an upper bound, but for the noise's last digits"


def test_agrees_with_the_exact_account_on_a_mixture() -> None:
    events = [gaussian(10, 50), gaussian(3, 2), gaussian(40, 1000)]
    assert pld.epsilon_of(events, 1e-5) == pytest.approx(gdp.epsilon_of(events, 1e-5), rel=1e-5)
    assert delta_of(events, 1.0) == pytest.approx(gdp.delta(gdp.mu(events), 1.0), rel=1e-5)


@pytest.mark.parametrize(("sigma", "rate"), [(2.0, 0.1), (1.0, 0.5)])
def test_one_sampled_sum_by_formula(sigma: float, rate: float) -> None:
    """Of (1-q) N(0, 1) + q N(mu, 1) against N(0, 1) the likelihood ratio is 1 - q + q L; it exceeds
    e^eps where L exceeds e^eps' = 1 + (e^eps - 1) / q, so delta(eps) = q delta_mu(eps')
    (Balle, Barthe, Gaboardi 2018); the opposite direction is smaller."""
    for epsilon in (0.1, 1.0):
        exact = rate * gdp.delta(1 / sigma, log1p(expm1(epsilon) / rate))
        found = delta_of([gaussian(sigma, 1, rate)], epsilon)
        assert found == pytest.approx(exact, rel=1e-4)


def test_three_sampled_sums() -> None:
    """q = 0.2, sigma = 0.5, 3 steps: delta(1) = 0.15594 at five digits."""
    assert delta_of([gaussian(0.5, 3, 0.2)], 1.0) == pytest.approx(0.15594, abs=1e-5)


def test_against_opacus_prv() -> None:
    """Opacus adds its error bound of 0.01 to epsilon."""
    opacus = PRVAccountant()
    opacus.history = [(1.5, 0.04, 2250)]
    found = pld.epsilon_of([gaussian(1.5, 2250, 0.04)], 1e-5)
    assert opacus.get_epsilon(1e-5) == pytest.approx(found + 0.01, abs=0.002)


@pytest.mark.parametrize(
    "events",
    [
        [gaussian(1.5, 2250, 0.04)],
        [gaussian(5, 500, 0.1), gaussian(10, 20), gaussian(2, 30, 0.01)],
    ],
)
def test_below_the_renyi_account_by_less_than_a_fifth(events: list[Event]) -> None:
    upper = rdp.epsilon_of(events, 1e-5)
    assert 0.8 * upper < pld.epsilon_of(events, 1e-5) < upper


def test_opacus_gdp_is_below_the_truth_where_sums_are_sampled() -> None:
    """Why it is nowhere used. q = 0.001, sigma = 0.5, 1000 steps at delta 1e-5: its central limit
    mu = q sqrt(T (e^(1/sigma^2) - 1)) = 0.2315 gives 0.85, the truth is 3.24."""
    mu = 0.001 * np.sqrt(1000 * expm1(1 / 0.5**2))
    assert gdp.epsilon(mu, 1e-5) == pytest.approx(0.852, abs=0.001)
    assert pld.epsilon_of([gaussian(0.5, 1000, 0.001)], 1e-5) == pytest.approx(3.239, abs=0.001)


def test_a_coarser_grid_keeps_low_noise_affordable_and_the_bound_close() -> None:
    """The usual step would need memory in proportion to the spread of losses: here 1e5 nats."""
    exact = gdp.epsilon(100, 1e-5)
    assert exact < pld.epsilon_of([gaussian(0.01, 1)], 1e-5) < exact * 1.001


def test_ends() -> None:
    assert pld.epsilon_of([], 1e-5) == delta_of([], 0.5) == 0
    for faint in (0, 1e-5):
        assert pld.epsilon_of([gaussian(5, 3), gaussian(faint, 1, 0.1)], 1e-5) == inf
        assert delta_of([gaussian(5, 3), gaussian(faint, 1, 0.1)], 50.0) == 1
    assert delta_of([gaussian(0.05, 10)], 0.0) == pytest.approx(1, abs=1e-9)
    for delta in (0, 1):
        with pytest.raises(ValueError, match=f"delta = {delta} is not in"):
            pld.epsilon_of([gaussian(1, 1)], delta)
