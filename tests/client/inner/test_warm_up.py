"""The first round: what hospitals estimate, what the frame becomes, what the run may spend."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from metaward.client.charging import plan
from metaward.client.inner import ALGORITHMS, FirstRound, Fomaml, ProtoAnil, Setting, WarmUp
from metaward.client.inner.reptile import named, pooled
from metaward.client.models import Mlp
from metaward.client.schedule import Share
from metaward.client.tasks.kinds import REGRESSION
from metaward.privacy import UNITS, Opening, OpenSession, Rehearsal
from metaward.privacy.accounting import gdp
from metaward.privacy.mechanisms import Sums
from metaward.privacy.mechanisms.sums import Split
from metaward.privacy.noise import SeededNoise
from metaward.privacy.price import counts, events
from tests.client.inner.test_proto_anil import EPISODES, SETTING, SPEC, D

FIRST = FirstRound(WarmUp(shrink=0.3), ProtoAnil())
CENTRED = FirstRound(WarmUp(shrink=0.3, centre=True), ProtoAnil())
ROUNDS = 9


def start() -> Tensor:
    return ProtoAnil().initial(SETTING, 1)


def covariance() -> Tensor:
    every = pooled([named(SETTING, e) for e in EPISODES])
    rest = torch.cat([every.x[every.y == c] - every.x[every.y == c].mean(0) for c in (0, 2, 4, 5)])
    return rest.T @ rest / len(rest)


def test_the_frame_becomes_the_whitening_of_the_covariance() -> None:
    """After shrinkage by a share s of the mean eigenvalue m, the covariance S + s m is white."""
    theta, rng = start(), np.random.default_rng(1)
    update = FIRST.update(SETTING, theta, EPISODES, OpenSession(), rng)
    settled = FIRST.settle(SETTING, theta, update.delta)
    place = SETTING.network(0).mask({"frame"})
    w, s = settled[place].view(D, D), covariance()
    shrunk = s + 0.3 * torch.eye(D) * s.trace() / D
    torch.testing.assert_close(w @ shrunk @ w.T, torch.eye(D), rtol=1e-4, atol=1e-4)
    assert torch.equal(settled[~place], theta[~place]), "nothing else moves"
    assert not update.delta[~place].any()
    torch.testing.assert_close(update.loss, s.trace())


def test_a_learner_that_remembers_finds_the_class_means() -> None:
    rng = np.random.default_rng(1)
    kept = FIRST.update(SETTING, start(), EPISODES, OpenSession(), rng).keep
    own = ProtoAnil().update(SETTING, start(), EPISODES, OpenSession(), rng).keep
    assert torch.equal(kept["means"], own["means"])
    other = FirstRound(WarmUp(), Fomaml())
    theta = Fomaml().initial(SETTING, 1)
    assert other.update(SETTING, theta, EPISODES, OpenSession(), rng).keep == {}


def test_its_sums() -> None:
    session = Rehearsal()
    FIRST.update(SETTING, start(), EPISODES, session, np.random.default_rng(1))
    assert [use.kind for use in session.uses] == ["features", "moments"]
    session = Rehearsal()
    CENTRED.update(SETTING, start(), EPISODES, session, np.random.default_rng(1))
    assert [use.kind for use in session.uses] == ["centre", "features", "moments"]


def test_centring_changes_no_mean_and_shortens_what_is_clipped() -> None:
    """Features 30 away from zero: around their centre a clip norm of 8 cuts nothing."""
    far = [replace(e, support_x=e.support_x + 30, query_x=e.query_x + 30) for e in EPISODES]
    clips = Sums(clip_norm=1e6, clip_centre=100.0, clip_features=8.0)
    kept = {}
    for name, first in (("plain", FIRST), ("centred", CENTRED)):
        rng = np.random.default_rng(1)
        exact = first.update(SETTING, start(), far, OpenSession(), rng).keep["means"]
        session = Rehearsal()
        first.update(SETTING, start(), far, session, rng)
        silent = dict.fromkeys(("centre", "features", "moments"), 0.0)
        opening = Opening(session.uses, silent, np.arange(1000), SeededNoise(0))
        clipped = first.update(SETTING, start(), far, clips.session(opening), rng).keep["means"]
        held = first.update(SETTING, start(), far, OpenSession(), rng).keep["counts"] > 0
        kept[name] = exact[held], clipped[held]
    torch.testing.assert_close(kept["plain"][0], kept["centred"][0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(kept["centred"][1], kept["centred"][0], rtol=1e-4, atol=1e-4)
    assert float(kept["plain"][1].abs().max()) < 9


@pytest.mark.parametrize("name", sorted(ALGORITHMS.keys() - {"centroid", "metric"}))
@pytest.mark.parametrize("split", [Split(), Split(support=0.1, query=2.0)])
def test_all_rounds_together_keep_the_budget_and_waste_none(name: str, split: Split) -> None:
    """One first round and all later ones, for the unit that spends most, is epsilon 8.

    With other weights than 1 less is spent where support and query records are in other sums: a
    kind that both are in has the noise that the one with less left for it needs.
    """
    learner, mechanism = ALGORITHMS[name](), Sums(split=split)
    learner = replace(learner, steps=2) if hasattr(learner, "steps") else learner
    first = FirstRound(WarmUp(), learner)
    theta, rng = learner.initial(SETTING, 1), np.random.default_rng(1)
    kept = first.update(SETTING, theta, EPISODES, Rehearsal(), rng).keep
    share = Share(EPISODES, ROUNDS)

    def price(setting: Setting, opening: bool) -> dict[int, tuple]:
        made = plan(
            mechanism, learner, setting, theta, share, np.random.default_rng(1), first, opening
        )
        uses = counts(made.uses, lambda row: row)
        return {row: events(count, made.noise, 1.0) for row, count in uses.items()}

    opening, later = price(SETTING, True), price(SETTING.recalling(kept), False)
    assert opening.keys() == later.keys()
    whole = [gdp.mu(opening[row] + later[row] * (ROUNDS - 1)) for row in later]
    allowed = gdp.mu_of(8.0, 1e-5)
    assert max(whole) <= allowed
    if split == Split() or len(set(later.values())) == 1:
        assert max(whole) > 0.999 * allowed


def test_the_budget_is_split_by_the_weights() -> None:
    """mu^2 of each kind over the run is its weight's share."""
    mechanism = Sums(split=Split(support=0.1, query=2.0, features=0.5, moments=0.4))
    theta, learner = start(), ProtoAnil(steps=3)
    first = FirstRound(WarmUp(), learner)
    rng = np.random.default_rng(1)
    opening = plan(
        mechanism, learner, SETTING, theta, Share(EPISODES, ROUNDS), rng, first, opening=True
    )
    kept = first.update(SETTING, theta, EPISODES, Rehearsal(), rng).keep
    later = plan(
        mechanism, learner, SETTING.recalling(kept), theta, Share(EPISODES, ROUNDS), rng, first
    )
    noise = {**opening.noise, **later.noise}
    times = {"features": 1, "moments": 1, "support": 3 * (ROUNDS - 1), "query": ROUNDS - 1}
    spent = {kind: n / noise[kind] ** 2 for kind, n in times.items()}
    whole = gdp.mu_of(8.0, 1e-5) ** 2
    shares = {kind: one / whole for kind, one in spent.items()}
    expected = {"support": 0.1 / 3, "query": 2 / 3, "features": 0.5 / 3, "moments": 0.4 / 3}
    assert shares == pytest.approx(expected, rel=1e-6)


def test_what_has_no_frame_is_refused_with_the_way_out() -> None:
    setting = Setting(Mlp((5,)), SPEC)
    with pytest.raises(ValueError, match=r"no frame.*network: adapter.*warm_up to null"):
        FirstRound(WarmUp(), Fomaml()).check(setting, SPEC, UNITS["record"])
    with pytest.raises(ValueError, match="needs classes"):
        FIRST.check(SETTING, replace(SPEC, kind=REGRESSION), UNITS["record"])
    with pytest.raises(ValueError, match="pools its tasks"):
        FIRST.check(SETTING, SPEC, UNITS["task"])
