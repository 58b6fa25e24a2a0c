"""Proto-ANIL: its gradient by hand, its sums, what it keeps, and what it refuses."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from metaward.client.inner import ProtoAnil, Setting
from metaward.client.inner.reptile import named, pooled
from metaward.client.models import Mlp
from metaward.client.tasks.base import Episode, TaskSpec
from metaward.client.tasks.kinds import CLASSIFICATION, REGRESSION
from metaward.privacy import UNITS, Opening, OpenSession, Rehearsal
from metaward.privacy.mechanisms import Sums
from metaward.privacy.noise import SeededNoise
from tests.client.models.flat import Flat

D, VOCABULARY, TEMPERATURE = 5, 7, 0.3
SPEC = TaskSpec(CLASSIFICATION, (D,), 3, VOCABULARY, False)
SETTING = Setting(Flat(), SPEC)


def task(number: int, classes: list[int]) -> Episode:
    rng = np.random.default_rng(number)
    support, query = np.repeat(np.arange(3), 2), np.repeat(np.arange(3), 4)

    def x(y: np.ndarray) -> np.ndarray:
        centres = np.random.default_rng(99).normal(size=(VOCABULARY, D))[np.array(classes)[y]]
        return (centres + 0.5 * rng.normal(size=(len(y), D))).astype(np.float32)

    rows = 18 * number + np.arange(18)
    own = np.array(classes)
    return Episode(x(support), support, x(query), query, own, rows[:6], rows[6:])


EPISODES = (task(0, [4, 0, 2]), task(1, [2, 5, 4]))
EVERY = pooled([named(SETTING, e) for e in EPISODES])


def somewhere() -> Tensor:
    """A theta whose adapter does something, in a frame that is not the identity."""
    theta = ProtoAnil().initial(SETTING, 1)
    return theta + 0.2 * torch.randn(len(theta), generator=torch.Generator().manual_seed(5))


def by_hand(theta: Tensor, steps: int, lr: float) -> tuple[Tensor, Tensor]:
    """The meta-gradient, written out: the steps on the head are constants for theta."""
    body, held = SETTING.network(0), [0, 2, 4, 5]
    y = torch.tensor([held.index(int(c)) for c in EVERY.y])
    centres = torch.stack([EVERY.x[EVERY.y == c].mean(0) for c in held])

    def start(theta: Tensor) -> tuple[Tensor, Tensor]:
        c = body.forward(theta, centres)
        return 2 * TEMPERATURE * c, -TEMPERATURE * c.square().sum(1)

    features = body.forward(theta, EVERY.x).detach()
    w, b = (part.detach().requires_grad_() for part in start(theta))
    w0, b0 = w.detach(), b.detach()
    for _ in range(steps):
        loss = functional.cross_entropy(features @ w.T + b, y)
        gw, gb = torch.autograd.grad(loss, (w, b))
        w, b = (w - lr * gw).detach().requires_grad_(), (b - lr * gb).detach().requires_grad_()
    phi = theta.detach().requires_grad_()
    ws, bs = start(phi)
    head, offset = ws + (w - w0).detach(), bs + (b - b0).detach()
    loss = functional.cross_entropy(body.forward(phi, EVERY.x) @ head.T + offset, y)
    return torch.autograd.grad(loss, phi)[0], loss.detach()


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_the_meta_gradient_by_hand(steps: int) -> None:
    learner, theta = ProtoAnil(lr=0.5, steps=steps, temperature=TEMPERATURE), somewhere()
    found = learner.update(SETTING, theta, EPISODES, OpenSession(), np.random.default_rng(1))
    g, loss = by_hand(theta, steps, 0.5)
    frame = SETTING.network(0).mask({"frame"})
    assert bool(frame.any())
    assert not found.delta[frame].any(), "no gradient changes the frame"
    torch.testing.assert_close(found.delta[~frame], -g[~frame], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.loss, loss)
    assert float(g[~frame].norm()) > 0.01


def test_without_noise_the_private_way_is_the_open_one() -> None:
    """Clips so wide that nothing is cut, and next to no noise: the sums are all that is used."""
    wide = {f"clip_{kind}": 20.0 for kind in ("norm", "query", "features")}
    mechanism = Sums(noise_multiplier=1e-9, **wide)  # type: ignore[arg-type]
    learner, theta = ProtoAnil(lr=0.5, steps=2, temperature=TEMPERATURE), somewhere()
    rehearsal, rng = Rehearsal(), np.random.default_rng(1)
    learner.update(SETTING, theta, EPISODES, rehearsal, rng)
    noise = {use.kind: 1e-9 for use in rehearsal.uses}
    opening = Opening(rehearsal.uses, noise, np.arange(36), SeededNoise(1))
    private = learner.update(SETTING, theta, EPISODES, mechanism.session(opening), rng)
    plain = learner.update(SETTING, theta, EPISODES, OpenSession(), rng)
    torch.testing.assert_close(private.delta, plain.delta, rtol=0, atol=1e-3)  # of the noise's grid
    assert float(plain.delta.norm()) > 0.1


def test_its_sums() -> None:
    """Means once, then T steps on the head and one meta-gradient a round, over all records."""
    learner, theta, rng = ProtoAnil(steps=3), somewhere(), np.random.default_rng(1)
    first, later = Rehearsal(), Rehearsal()
    kept = learner.update(SETTING, theta, EPISODES, first, rng).keep
    learner.update(SETTING.recalling(kept), theta, EPISODES, later, rng)
    assert [use.kind for use in first.uses] == ["features", *["support"] * 3, "query"]
    assert [use.kind for use in later.uses] == [*["support"] * 3, "query"]
    assert all(sorted(use.rows) == list(range(36)) for use in first.uses + later.uses)


def test_class_means_are_taken_once_and_kept() -> None:
    learner, theta, rng = ProtoAnil(), somewhere(), np.random.default_rng(1)
    kept = learner.update(SETTING, theta, EPISODES, OpenSession(), rng).keep
    assert kept["counts"].tolist() == [6, 0, 12, 0, 12, 6, 0]
    torch.testing.assert_close(kept["means"][4], EVERY.x[EVERY.y == 4].mean(0))
    wrong = {"means": kept["means"] + 1, "counts": kept["counts"]}
    other = learner.update(SETTING.recalling(wrong), theta, EPISODES, OpenSession(), rng)
    assert torch.equal(other.keep["means"], wrong["means"]), "they are not taken anew"
    assert learner.remembers


def test_records_of_a_class_without_a_mean_are_left_out() -> None:
    """Class 5 came in a later round: which classes a hospital has means of is public."""
    learner, theta, rng = ProtoAnil(), somewhere(), np.random.default_rng(1)
    kept = learner.update(SETTING, theta, EPISODES[:1], OpenSession(), rng).keep
    later = Rehearsal()
    learner.update(SETTING.recalling(kept), theta, EPISODES, later, rng)
    left_out = set(EVERY.rows[(EVERY.y == 5).numpy()].tolist())
    assert left_out
    assert all(set(use.rows) == set(range(36)) - left_out for use in later.uses)


def test_adaptation_starts_at_the_prototypes_and_moves_the_head_alone() -> None:
    learner, theta = ProtoAnil(lr=0.05, temperature=TEMPERATURE), somewhere()
    support, query = SETTING.support(EPISODES[0]), SETTING.query(EPISODES[0])
    body = SETTING.network(0)
    features = body.forward(theta, support.x)
    centres = torch.stack([features[support.y == c].mean(0) for c in range(3)])
    distance = torch.cdist(body.forward(theta, query.x), centres).square()
    start = learner.adapt(SETTING, theta, support, 0)(query.x)
    torch.testing.assert_close(
        start.softmax(1), (-TEMPERATURE * distance).softmax(1), rtol=1e-3, atol=1e-5
    )
    adapted = [learner.adapt(SETTING, theta, support, n)(support.x) for n in (0, 1, 20)]
    losses = [float(functional.cross_entropy(outputs, support.y)) for outputs in adapted]
    assert losses[0] > losses[1] > losses[2]


def test_a_network_that_does_not_keep_means_is_refused() -> None:
    with pytest.raises(ValueError, match=r"class means.*network: adapter"):
        ProtoAnil().check_network(Setting(Mlp((5,)), SPEC))
    ProtoAnil().check_network(SETTING)


def test_tasks_that_it_cannot_learn_are_refused() -> None:
    with pytest.raises(ValueError, match="needs classes"):
        ProtoAnil().check(TaskSpec(REGRESSION, (D,), 1, 0, False), UNITS["record"])
    with pytest.raises(ValueError, match="pools its tasks"):
        ProtoAnil().check(SPEC, UNITS["task"])
