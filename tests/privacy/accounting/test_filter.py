"""The ledger's question, asked by an adversary: may these sums still be added?"""

from dataclasses import replace

import dp_accounting
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaward.privacy.accounting import allows, enforced_epsilon, gdp
from metaward.privacy.event import Budget, Event, gaussian
from tests.privacy.accounting.accounting_desk import noise_for

PLAIN = st.builds(gaussian, st.floats(0.5, 50), st.integers(1, 500))
MIXED = st.builds(
    gaussian,
    st.sampled_from((1.0, 2.5, 10.0)),
    st.integers(1, 500),
    st.sampled_from((0.02, 0.2, 1.0)),
)
BUDGETS = st.builds(Budget, st.floats(0.3, 20), st.sampled_from((1e-3, 1e-5, 1e-7)))


@given(st.lists(st.one_of(PLAIN, MIXED), min_size=1, max_size=15), BUDGETS)
def test_no_adaptive_choice_gets_past_the_budget(proposals: list[Event], budget: Budget) -> None:
    """What is refused is asked for again with fewer sums; draws come and go as they please."""
    spent: tuple[Event, ...] = ()
    for proposal in proposals:
        for event in (replace(proposal, count=max(1, proposal.count // n)) for n in (1, 7, 60)):
            if allows(spent, (event,), budget):
                spent = (*spent, event)
                break
    assert enforced_epsilon(spent, budget.delta) <= budget.epsilon


@given(st.floats(0.5, 100), BUDGETS)
def test_a_greedy_adversary_gets_all_of_the_budget_and_no_more(
    sigma: float, budget: Budget
) -> None:
    """As many sums as are let through, then ones with more noise, to the last: in the end less
    than two of the quietest sums are left."""
    spent: tuple[Event, ...] = ()
    for quieter in np.geomspace(1, 300, 24) * sigma:
        count = 1 << 24
        while count:
            if allows(spent, (gaussian(quieter, count),), budget):
                spent = (*spent, gaussian(quieter, count))
            count //= 2
    assert enforced_epsilon(spent, budget.delta) <= budget.epsilon
    assert (
        gdp.mu(spent) ** 2 > gdp.mu_of(budget.epsilon, budget.delta) ** 2 - 2 / (300 * sigma) ** 2
    )


def test_adding_to_a_full_key_is_refused_and_to_another_is_not() -> None:
    budget = Budget(3, 1e-5)
    half = gaussian(noise_for(3, 1e-5, 10), 5)
    assert allows((), (half,), budget)
    assert allows((half,), (half,), budget)
    assert not allows((half, half), (gaussian(1e3, 1),), budget)
    assert not allows((half, half), (gaussian(1e3, 1, 0.02),), budget)


def test_a_round_of_plain_checks_solves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget's mu is found once; each key then costs one sum. Hundreds are asked a round."""
    budget, spent = Budget(2.125, 1e-5), (gaussian(20, 50),)
    assert allows(spent, (gaussian(20, 5),), budget)
    monkeypatch.setattr(dp_accounting, "get_sigma_gaussian", None)
    assert all(allows(spent, (gaussian(20, count),), budget) for count in range(1, 30))
    assert not allows(spent, (gaussian(20, 500),), budget)
