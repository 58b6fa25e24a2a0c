"""Every learner's private adaptation: what a unit moves, what else tells, how large noise is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from metaward.client.inner import Setting
from metaward.client.inner.metric import Metric
from metaward.client.inner.setting import Predictor
from metaward.privacy import Batch, Opening, OpenSession, Session, Sums
from metaward.privacy.accounting import gdp
from metaward.privacy.noise import SystemNoise, deviation
from metaward.privacy.price import events
from tests.server.adapting.private_desk import (
    LEARNERS,
    UNIT_NAMES,
    Onlooker,
    fit,
    moved,
    owners,
    sums,
    task,
    tensors,
    without,
)


def worlds(name: str, mechanism: Sums, learner: Any = None) -> tuple[float, float, bool]:
    """With a unit and without it: how far sums moved, what was charged, and whether all that is
    made of the same noisy sums is the same."""
    asked, support = task(name, mechanism)
    asked = replace(asked, learner=learner or asked.learner)
    gone = owners(mechanism) == owners(mechanism)[5]
    a = Onlooker()
    first = fit(asked, support, a)
    b = Onlooker(given=a.noised)
    second = fit(asked, without(support, gone), b)
    price = asked.price(support)
    mu = max(gdp.mu(events(one, price.noise, 1.0)) for one in price.profiles)
    same = all(torch.equal(*pair) for pair in zip(tensors(first), tensors(second), strict=True))
    return moved(a, b), mu**2, same


@pytest.mark.parametrize("unit", UNIT_NAMES)
@pytest.mark.parametrize("name", LEARNERS)
def test_a_unit_moves_the_sums_by_what_is_charged_and_nothing_else_tells(
    name: str, unit: str
) -> None:
    far, charged, same = worlds(name, sums(unit))
    assert same, "something else than noisy sums is in the model"
    assert 0 < far <= charged * (1 + 1e-6)
    assert far > 0.9 * charged, "the vectors are clipped, so a unit moves as far as it may"


@dataclass(frozen=True)
class Peeking(Metric):
    """A learner that looks at records beside its session."""

    def adapt(
        self,
        setting: Setting,
        theta: torch.Tensor,
        support: Batch,
        steps: int,
        session: Session = OpenSession(),  # noqa: B008
    ) -> Predictor:
        super().adapt(setting, theta, support, steps, session)
        return super().adapt(setting, theta, support, steps, OpenSession())


def test_a_learner_that_looks_beside_its_session_is_found() -> None:
    assert not worlds("metric", sums(), Peeking())[2]


def test_less_noise_than_was_charged_is_found() -> None:
    asked, support = task("metric", sums())
    price, gone = asked.price(support), np.arange(24) == 5
    weaker = {kind: sigma / 2 for kind, sigma in price.noise.items()}
    seen = []
    for batch in (support, without(support, gone)):
        opening = Opening(price.uses, weaker, owners(sums()), SystemNoise())
        seen.append(Onlooker())
        with seen[-1].watching():
            asked.adapted(batch, sums().session(opening))
    mu = max(gdp.mu(events(one, price.noise, 1.0)) for one in price.profiles)
    assert moved(*seen) > 3.5 * mu**2


@pytest.mark.parametrize("factor", [1.0, 0.8])
def test_the_noise_in_a_published_head_has_the_scale_that_is_claimed(factor: float) -> None:
    """Class means of equal numbers: each coordinate's noise is sigma * C / records of the class.

    The test finds noise that is four fifths of it.
    """
    mechanism = sums()
    asked, support = task("proto_maml", mechanism, steps=0)
    price = asked.price(support)
    residues = []
    for _ in range(40):
        seen = Onlooker()
        fitted = fit(asked, support, seen)
        weights = fitted.weights.double().numpy() / 2  # of a prototype c the weights are 2 c
        exact = seen.sums[0].total.reshape(weights.shape) / 8
        residues.append(weights - exact)
    sigma, clip = price.noise["features"], mechanism.clip_of("features")
    values = np.concatenate(residues).ravel()
    claimed = factor * deviation(clip, sigma, weights.size) / 8
    statistic = float((values**2).sum() / claimed**2)
    low, high = chi2.ppf([1e-5, 1 - 1e-5], len(values))
    assert (low < statistic < high) == (factor == 1.0)


def test_the_sums_together_cost_the_epsilon_that_is_asked() -> None:
    asked, support = task("proto_anil", sums(epsilon=1.0))
    price = asked.price(support)
    spent = max(gdp.mu(events(one, price.noise, 1.0)) for one in price.profiles)
    assert gdp.epsilon(spent, 1e-5) == pytest.approx(1.0, rel=1e-6)
    assert {one.kind: one.sums for one in price.description.sums} == {
        "centre": 1,
        "features": 1,
        "support": 2,
    }
