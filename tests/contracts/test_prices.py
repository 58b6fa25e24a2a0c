"""What every mechanism must keep, whatever learner runs inside it: the price is known beforehand,
it is the real one, it keeps the budget, and what comes out is protected by fresh noise."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from metaward.client.charging import plan
from metaward.client.inner import Algorithm
from metaward.client.schedule import Share
from metaward.privacy import Mechanism
from metaward.privacy.accounting import allows, enforced_epsilon
from metaward.privacy.event import Event
from metaward.privacy.noise import SeededNoise
from metaward.privacy.price import counts, events
from tests.contracts.requests import (
    MASK,
    PAIRS,
    PATIENTS,
    PHI,
    ROUNDS,
    ROWS,
    SHARE,
    TASK_ROWS,
    TRAINED,
    Watch,
    delta_of,
    every_mechanism,
    every_pair,
    later_price_of,
    learner,
    price_of,
    setting,
    small_session,
    squares,
)
from tests.mechanisms import EVERY


def test_every_mechanism_serves_most_learners() -> None:
    """The pairs below are not few by mistake."""
    refused = {(m, a) for m in EVERY for a in TRAINED} - set(PAIRS)
    assert {(m.unit.name, a) for m, a in refused} == {
        ("task", learner) for learner in ("fedavg", "local", "metric", "proto_anil")
    }


# ------------------------------------------------------------------------ the rehearsal


@every_pair
def test_rehearsed_uses_are_the_real_ones(mechanism: Mechanism, algorithm: str) -> None:
    seen = list[Watch]()
    delta_of(mechanism, learner(algorithm), 1, lambda s: seen.append(Watch(s)) or seen[0])
    uses = price_of(mechanism, learner(algorithm)).uses
    assert uses
    if not seen[0].raw:
        assert seen[0].uses == list(uses)
        return
    whole = sorted({row for rows in TASK_ROWS for row in rows})
    assert sorted({row for u in uses for row in u.rows}) == whole, "a record that nobody pays for"
    assert {row for u in seen[0].uses for row in u.rows} <= set(whole)
    if mechanism.unit.clips_tasks:
        assert [u.rows for u in uses] == [tuple(sorted(rows)) for rows in TASK_ROWS]
        assert seen[0].combined == 1, "an update that went round the clipping"


@every_pair
def test_the_price_depends_on_no_value(mechanism: Mechanism, algorithm: str) -> None:
    method = learner(algorithm)
    other = [replace(e, support_x=e.support_x * np.nan, query_x=-e.query_x) for e in SHARE.episodes]
    own = setting(algorithm)
    theta = method.initial(own, 77)
    share, rng = Share(tuple(other), ROUNDS), np.random.default_rng(9)
    assert plan(mechanism, method, own, theta, share, rng) == price_of(mechanism, method)


# ---------------------------------------------------------------------------- the budget


def spent_by(
    mechanism: Mechanism,
    algorithm: Algorithm,
    unit: Callable[[int], Any],
    rounds: int,
    noise: float = 1.0,
) -> list[tuple[Event, ...]]:
    """All that each unit spends in so many rounds, with ``noise`` times the noise."""
    first, later = (price(mechanism, algorithm) for price in (price_of, later_price_of))
    added = {kind: noise * sigma for kind, sigma in first.noise.items()}
    one, other = (counts(price.uses, unit) for price in (first, later))
    rate = mechanism.sampling_rate
    return [
        events(one[who], added, rate) + events(other[who], added, rate) * (rounds - 1)
        for who in one
    ]


def dearest(
    mechanism: Mechanism, algorithm: Algorithm, unit: Callable[[int], Any], rounds: int
) -> float:
    """The largest epsilon that any unit spends in so many rounds."""
    assert mechanism.budget is not None
    delta = mechanism.budget.delta
    spent = spent_by(mechanism, algorithm, unit, rounds)
    return max(enforced_epsilon(one, delta) for one in spent)


def unit_of(mechanism: Mechanism) -> Callable[[int], Any]:
    """The worst that is not ruled out by what is public: a patient may hold a whole task."""
    return (lambda row: row // ROWS) if mechanism.unit.cap else lambda row: row


@every_pair
def test_derived_noise_keeps_the_budget_and_wastes_none(
    mechanism: Mechanism, algorithm: str
) -> None:
    method = learner(algorithm)
    price = price_of(mechanism, method)
    assert price.noise.keys() == {u.kind for u in price.uses}
    if mechanism.budget is None:
        assert set(price.noise.values()) == {0.0}
        assert "NO PRIVACY" in mechanism.claim
        return
    spent = dearest(mechanism, method, unit_of(mechanism), ROUNDS)
    assert 0.99 * mechanism.budget.epsilon < spent <= mechanism.budget.epsilon
    assert dearest(mechanism, method, unit_of(mechanism), ROUNDS + 1) > mechanism.budget.epsilon
    if mechanism.unit.cap:
        real = dearest(mechanism, method, lambda row: PATIENTS[row], ROUNDS)
        assert real <= mechanism.budget.epsilon


@pytest.mark.parametrize(
    "options",
    [
        {"epsilon": 0.5, "delta": 1e-3},
        {"epsilon": 20.0, "delta": 1e-8},
        {"epsilon": 3.0, "sampling_rate": 0.3},
    ],
)
@every_mechanism
def test_any_budget_is_kept(mechanism: Mechanism, options: Mapping[str, float]) -> None:
    if not set(options) <= set(getattr(mechanism, "__dataclass_fields__", ())):
        return
    mechanism = replace(mechanism, **options)  # type: ignore[type-var]
    method, unit = learner("reptile"), unit_of(mechanism)
    assert mechanism.budget is not None
    spent = dearest(mechanism, method, unit, ROUNDS)
    # A ledger's filter fixes the order of a Renyi account by the budget alone. The best order,
    # known afterwards, finds a few per cent less: no noise is wasted, as the next lines show.
    least = 0.99 if mechanism.sampling_rate == 1 else 0.92
    assert least * options["epsilon"] < spent <= options["epsilon"]
    whole = spent_by(mechanism, method, unit, ROUNDS)
    assert all(allows((), one, mechanism.budget) for one in whole)
    less = spent_by(mechanism, method, unit, ROUNDS, noise=0.999)
    assert not all(allows((), one, mechanism.budget) for one in less)


@every_mechanism
def test_a_given_multiplier_is_taken_as_it_is(mechanism: Mechanism) -> None:
    if not hasattr(mechanism, "noise_multiplier"):
        assert not mechanism.unit.protected
        return
    given = replace(mechanism, noise_multiplier=3.25)  # type: ignore[type-var]
    price = price_of(given, learner("maml"))
    assert set(price.noise.values()) == {3.25}


# ------------------------------------------------------------------------------ the noise


def at_server(mechanism: Mechanism, seed: int, updates: NDArray[np.float32]) -> NDArray[np.float32]:
    return mechanism.at_server(updates, lambda u: u.mean(axis=0), 2.0, SeededNoise(seed))


UPDATES = np.linspace(-0.1, 0.1, 12, dtype=np.float32).reshape(3, 4)


def outcome(mechanism: Mechanism, algorithm: str, seed: int) -> bytes:
    """All that the outside world sees of one round: the hospital's update, then the server's."""
    delta = delta_of(mechanism, learner(algorithm), seed)
    release = mechanism.release("a", 1, delta, torch.zeros(()), None)
    assert release.update.shape == delta.shape
    assert np.isfinite(release.update).all()
    return release.update.tobytes() + at_server(mechanism, seed, UPDATES).tobytes()


@every_pair
def test_same_noise_same_output_and_fresh_noise_another(
    mechanism: Mechanism, algorithm: str
) -> None:
    one, again, other = (outcome(mechanism, algorithm, seed) for seed in (1, 1, 2))
    assert one == again
    assert (one != other) == (mechanism.budget is not None)


@every_mechanism
def test_every_sum_has_noise_of_its_own(mechanism: Mechanism) -> None:
    """Two equal sums in one session: equal only where nothing is noised inside it."""
    session, batch = small_session(mechanism, 1, times=2)
    one, two = (session.gradient(squares, [(PHI, batch)], "support", MASK)[0] for _ in range(2))
    assert torch.equal(one, two) == session.raw


@every_mechanism
def test_at_the_server(mechanism: Mechanism) -> None:
    kept = UPDATES.copy()
    found = at_server(mechanism, 1, UPDATES)
    assert (found.shape, found.dtype) == ((4,), np.float32)
    assert np.isfinite(found).all()
    assert UPDATES.tobytes() == kept.tobytes()
    plain = UPDATES.mean(axis=0).tobytes()
    assert (found.tobytes() == plain) == (not mechanism.unit.noise_at_server)
