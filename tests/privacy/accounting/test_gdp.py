"""The exact account of sums without a draw, against numbers computed with sixty digits."""

from math import inf, nan, sqrt

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from metaward.privacy.accounting import gdp
from metaward.privacy.event import Budget, Event, gaussian
from tests.privacy.accounting.accounting_desk import noise_for

MUS = st.floats(1e-4, 100)
DELTAS = st.floats(-12, -0.5).map(lambda power: 10**power)
EPSILONS = st.floats(-3, 3).map(lambda power: 10**power)
EVENTS = st.lists(st.builds(gaussian, st.floats(0.1, 100), st.integers(1, 10_000)), max_size=8)


# ------------------------------------------------------------------------- known answers


@pytest.mark.parametrize(
    ("mu", "epsilon", "delta"),
    [  # Phi(mu/2 - e/mu) - exp(e) Phi(-mu/2 - e/mu) in 60-digit arithmetic
        (1e-4, 1e-5, 3.509370857218219e-5),
        (1e-4, 5e-4, 5.3475022360388826e-12),
        (1e-2, 0.05, 5.4814402007468775e-10),
        (0.1, 0.5, 6.8565824558387266e-9),
        (1.0, 1.0, 0.12693673750664395),
        (1.0, 7.0, 5.1676297039177365e-12),
        (10.0, 50.0, 0.460493305898614),
        (10.0, 120.0, 7.4431637053240804e-13),
        (100.0, 5000.0, 0.49601097601864319),
        (100.0, 5700.0, 1.1944487798159217e-12),
    ],
)
def test_delta(mu: float, epsilon: float, delta: float) -> None:
    assert gdp.delta(mu, epsilon) == pytest.approx(delta, rel=1e-9, abs=0)


@pytest.mark.parametrize(
    ("mu", "delta", "epsilon"),
    [  # the root of that formula, in 60-digit arithmetic
        (1e-4, 1e-12, 5.3045548672329399e-4),
        (1e-4, 1e-5, 9.0237094325635038e-5),
        (1e-2, 1e-12, 0.060752210629786216),
        (0.1, 1e-5, 0.34066936468432641),
        (1.0, 1e-12, 7.2384944201788584),
        (10.0, 1e-12, 119.58840871231336),
        (100.0, 1e-12, 5702.4820157389061),
        (100.0, 1e-3, 5308.0384014214845),
    ],
)
def test_epsilon(mu: float, delta: float, epsilon: float) -> None:
    assert gdp.epsilon(mu, delta) == pytest.approx(epsilon, rel=1e-9, abs=0)


def test_epsilon_of_mu_one_at_the_usual_deltas() -> None:
    found = [gdp.epsilon(1, delta) for delta in (1e-3, 1e-5, 1e-6)]
    assert found == pytest.approx([3.138671, 4.377178, 4.886554], abs=6e-7)


@pytest.mark.parametrize(
    ("delta", "mus"), [(1e-5, (0.2681, 0.7191, 1.666)), (1e-3, (0.3884, 0.9641, 2.083))]
)
def test_mu_of_epsilon_1_3_and_8(delta: float, mus: tuple[float, ...]) -> None:
    assert [gdp.mu_of(e, delta) for e in (1, 3, 8)] == pytest.approx(mus, rel=2e-4)


def test_fifty_steps_with_noise_multiplier_ten() -> None:
    fifty = [gaussian(10, 50)]
    assert gdp.mu(fifty) == pytest.approx(sqrt(0.5), rel=1e-15)
    assert gdp.epsilon_of(fifty, 1e-5) == pytest.approx(2.943225, rel=1e-6)
    assert gdp.epsilon_of(fifty, 1e-3) == pytest.approx(2.053335, rel=1e-6)


def test_noise_multiplier_for_one_sum_at_epsilon_one() -> None:
    assert noise_for(1, 1e-5, 1) == pytest.approx(3.7306316, abs=6e-8)


def test_attack_accuracy_at_epsilon_1_3_and_8() -> None:
    found = [gdp.attack_accuracy(gdp.mu_of(e, 1e-5)) for e in (1, 3, 8)]
    assert found == pytest.approx([0.553, 0.640, 0.798], abs=5e-4)


def test_attack_accuracy_is_that_of_the_attack() -> None:
    """Noise N(0, 1), shifted by mu = 1.2 for members: "member where x > mu/2" is the best test
    (Neyman, Pearson). Right with probability p = Phi(0.6) = 0.7257; the standard error of n =
    200,000 tries is sqrt(p (1 - p) / n) = 0.001, and five of them are allowed."""
    rng = np.random.default_rng(5)
    member = rng.random(200_000) < 0.5
    right = float(np.mean((rng.normal(size=200_000) + 1.2 * member > 0.6) == member))
    assert gdp.attack_accuracy(1.2) == pytest.approx(right, abs=0.005)
    assert gdp.advantage(1.2) == pytest.approx(2 * gdp.attack_accuracy(1.2) - 1, rel=1e-12)


# ------------------------------------------------------------------------------- the ends


def test_ends() -> None:
    assert gdp.mu([]) == 0
    assert gdp.mu([gaussian(10, 5), gaussian(0, 1)]) == inf
    assert gdp.mu([gaussian(1e-200, 1)]) == inf, "too faint to square is no noise, not an error"
    assert gdp.delta(0, 0) == gdp.delta(1, inf) == 0
    assert gdp.delta(inf, 5) == 1
    assert gdp.epsilon(0, 1e-5) == 0
    assert gdp.epsilon(inf, 1e-5) == gdp.epsilon(1e200, 1e-5) == inf
    assert gdp.mu_of(inf, 1e-5) == inf
    assert gdp.attack_accuracy(0) == 0.5
    assert gdp.attack_accuracy(inf) == 1


def test_epsilon_is_zero_exactly_where_delta_suffices() -> None:
    """delta(mu, 0) = 2 Phi(mu/2) - 1 is about mu / sqrt(2 pi): 3.99e-5 for mu = 1e-4."""
    assert gdp.delta(1e-4, 0) == pytest.approx(3.98942e-5, rel=1e-5)
    assert gdp.epsilon(1e-4, 4.0e-5) == 0
    assert 0 < gdp.epsilon(1e-4, 3.9e-5) < 1e-4
    assert 1e-4 * (1 - 3e-9) < gdp.mu_of(0, gdp.delta(1e-4, 0)) < 1e-4


def test_no_digit_is_lost_at_epsilon_zero() -> None:
    """Two nearly equal terms are subtracted there."""
    for mu in (1e-4, 1e-9, 1e-12, 1e-15):
        assert gdp.delta(mu, 0) == pytest.approx(mu / sqrt(2 * np.pi), rel=1e-8, abs=0)


@pytest.mark.parametrize("delta", [0, 1, -0.1, nan, inf])
def test_refuses_a_delta_outside_0_and_1(delta: float) -> None:
    for price in (lambda: gdp.epsilon(1, delta), lambda: gdp.mu_of(1, delta)):
        with pytest.raises(ValueError, match=f"delta = {delta} is not in"):
            price()


@pytest.mark.parametrize("value", [-1.0, nan])
def test_refuses_negative_numbers_and_nan(value: float) -> None:
    for price in (
        lambda: gdp.delta(1, value),
        lambda: gdp.mu_of(value, 1e-5),
        lambda: gdp.delta(value, 1),
        lambda: gdp.epsilon(value, 1e-5),
        lambda: gdp.advantage(value),
        lambda: gdp.allows([], Budget(value, 1e-5)),
    ):
        with pytest.raises(ValueError, match=f"= {value} is not 0 or above"):
            price()


def test_refuses_what_has_no_mu() -> None:
    with pytest.raises(ValueError, match=r"Sampled.*0\.5.* has no exact mu; price it with"):
        gdp.mu([gaussian(1, 1), gaussian(1, 1, 0.5)])
    with pytest.raises(ValueError, match="count = 0 is below 1"):
        gaussian(1, 0)


# ----------------------------------------------------------------------------- properties


@given(MUS, DELTAS)
def test_epsilon_inverts_delta(mu: float, delta: float) -> None:
    epsilon = gdp.epsilon(mu, delta)
    if epsilon == 0:
        assert gdp.delta(mu, 0) <= delta
    else:
        assert gdp.delta(mu, epsilon) == pytest.approx(delta, rel=1e-9, abs=0)


@given(EPSILONS, DELTAS)
def test_mu_of_inverts_epsilon_and_is_never_too_large(epsilon: float, delta: float) -> None:
    mu = gdp.mu_of(epsilon, delta)
    assert gdp.epsilon(mu, delta) <= epsilon
    assert gdp.epsilon(mu * (1 + 3e-9), delta) > epsilon


@pytest.mark.parametrize("delta", [1e-12, 1e-8, 1e-5, 0.1])
@pytest.mark.parametrize("epsilon", [0.0, 1e-12, 1e-9, 1e-6, 1e-3, 1.0, 30.0])
def test_the_filter_is_on_the_safe_side_in_fifty_digits(epsilon: float, delta: float) -> None:
    """Also where the formula's two terms are nearly equal, at epsilon 0 or almost. A thousandth of
    mu more would not be safe anywhere: nothing else is given away."""

    def exact(mu: float) -> mpmath.mpf:
        m, e = mpmath.mpf(mu), mpmath.mpf(epsilon)
        return mpmath.ncdf(m / 2 - e / m) - mpmath.exp(e) * mpmath.ncdf(-m / 2 - e / m)

    with mpmath.workdps(50):
        mu = gdp.mu_of(epsilon, delta)
        assert exact(mu) <= delta < exact(mu * 1.001)


@given(MUS, MUS, DELTAS)
def test_epsilon_and_attack_grow_with_mu(a: float, b: float, delta: float) -> None:
    low, high = sorted((a, b))
    assert gdp.epsilon(low, delta) <= gdp.epsilon(high, delta) * (1 + 1e-9)
    assert gdp.attack_accuracy(low) <= gdp.attack_accuracy(high)


@given(MUS, EPSILONS, EPSILONS)
def test_delta_falls_with_epsilon(mu: float, a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert gdp.delta(mu, high) <= gdp.delta(mu, low) * (1 + 1e-9)


@given(EPSILONS, DELTAS, st.integers(1, 100_000), st.integers(1, 9))
def test_planned_noise_is_let_through_and_not_a_sum_more(
    epsilon: float, delta: float, count: int, parts: int
) -> None:
    sigma, budget = noise_for(epsilon, delta, count), Budget(epsilon, delta)
    pieces = [
        gaussian(sigma, n) for n in np.diff([0, *range(parts, count, 997), count]).tolist() if n
    ]
    assert sum(piece.count for piece in pieces) == count
    assert gdp.allows(pieces, budget)
    assert not gdp.allows([*pieces, gaussian(sigma, 1)], budget)


@given(EVENTS, st.floats(0.1, 100), st.integers(1, 100))
def test_one_more_event_costs_more_and_more_noise_less(
    events: list[Event], sigma: float, count: int
) -> None:
    more = gdp.mu([*events, gaussian(sigma, count)])
    assert more > gdp.mu(events)
    assert (
        gdp.mu([*events, gaussian(sigma, count + 1)])
        > more
        > gdp.mu([*events, gaussian(2 * sigma, count)])
    )


# ------------------------------------------------------- the filter under an adaptive attack


def attacked(spent_within: float, paths: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Privacy losses (paths,) of an adversary who chooses the noise from what was released.

    Where the unit took part, a sum with noise multiplier 1/m shows x ~ N(m, 1), and the loss grows
    by log N(x; m, 1) / N(x; 0, 1) = m x - m^2 / 2. The adversary asks for a loud sum (m = 0.8)
    after a low loss and for a quiet one (m = 0.2) after a high one, and stops when neither keeps
    the sum of m^2 ``spent_within``.
    """
    losses, spent = np.zeros(paths), np.zeros(paths)
    for _ in range(60):
        m = np.where(losses < 1.0, 0.8, 0.2)
        m = np.where(spent + m**2 <= spent_within, m, 0.2)
        m = np.where(spent + m**2 <= spent_within, m, 0.0)
        losses += m * rng.normal(m) - m**2 / 2
        spent += m**2
    return losses


def test_the_filter_holds_against_an_adaptive_choice_of_noise() -> None:
    """delta(eps) = E[(1 - e^(eps - loss))+] where the unit took part. The budget mu = 1 has
    delta(1) = 0.12694. Over n = 200,000 paths each term is in [0, 1], its standard deviation below
    0.26 (measured), so the mean's standard error is below 0.0006; four of them are allowed.
    A filter that allows one sum of m = 0.8 too many (spent 1.64) must be seen to break it."""
    rng = np.random.default_rng(11)

    def delta(spent_within: float) -> float:
        losses = attacked(spent_within, 200_000, rng)
        return float(np.mean(np.maximum(0, -np.expm1(1 - losses))))

    claimed = gdp.delta(1, 1)
    allowed = gdp.mu_of(gdp.epsilon(1, claimed), claimed) ** 2
    assert allowed == pytest.approx(1, abs=1e-8)
    assert 0.11 < delta(allowed + 1e-6) < claimed + 0.0024, "the attack must be one, and must fail"
    assert delta(1 + 0.8**2) > claimed + 0.05
