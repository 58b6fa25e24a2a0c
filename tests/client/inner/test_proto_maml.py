"""Proto-MAML's head is a prototypical network, its gradient what its docstring says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metaward.client.inner import Setting
from metaward.client.inner.maml import Fomaml
from metaward.client.inner.proto_maml import ProtoMaml, with_prototypes
from metaward.client.inner.steps import descend, private_gradient
from metaward.client.models.mlp import Mlp
from metaward.client.tasks.base import Episode, TaskSpec
from metaward.client.tasks.kinds import CLASSIFICATION, REGRESSION
from metaward.privacy import UNITS, OpenSession

SPEC = TaskSpec(CLASSIFICATION, (4,), 3, 3, False)
RNG = np.random.default_rng(0)


def episode(seed: int = 0) -> Episode:
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(3), 2)
    sx, qx = rng.normal(size=(2, 6, 4))
    return Episode(sx, y, qx, y, np.arange(3), np.arange(6), np.arange(6, 12))


def setting_and_theta() -> tuple[Setting, torch.Tensor]:
    setting = Setting(Mlp((5,)), SPEC)
    return setting, ProtoMaml().initial(setting, 1).double()


def test_no_steps_is_the_nearest_class_mean_of_the_features() -> None:
    setting, theta = setting_and_theta()
    task = episode()
    support = setting.support(task)
    x, y, _ = support
    queries = setting.query(task).x
    found = ProtoMaml().adapt(setting, theta, support, steps=0)(queries)
    body = setting.network(0)
    means = torch.stack([body.forward(theta, x)[y == c].mean(dim=0) for c in range(3)])
    features = body.forward(theta, queries)
    distances = torch.cdist(features, means).square()
    # |f - c|^2 = |f|^2 - (2 c.f - |c|^2): the same up to |f|^2, which no class can feel.
    torch.testing.assert_close(found, features.square().sum(dim=1, keepdim=True) - distances)


@pytest.mark.parametrize("steps", [1, 3])
def test_the_meta_gradient_by_finite_differences(steps: int) -> None:
    """First-order in the steps, exact in the start: d/d theta of loss(phi_0(theta) + constant)."""
    setting, theta = setting_and_theta()
    task, net = episode(), setting.network(3)
    learner = ProtoMaml(lr=0.2, steps=steps)
    found = -learner.update(setting, theta, [task], OpenSession(), RNG).delta
    start = with_prototypes(setting, theta, setting.support(task))
    plain = private_gradient(setting, net, OpenSession(), "support")
    moved, _ = descend(plain, start, [setting.support(task)] * steps, 0.2)
    constant = (moved - start).detach()

    query = setting.query(task)

    def loss(at: torch.Tensor) -> float:
        phi = with_prototypes(setting, at, setting.support(task)) + constant
        return float(setting.objective(net)(phi, query.x, query.y).mean())

    for k in range(0, len(theta), 4):
        nudge = torch.zeros_like(theta)
        nudge[k] = 1e-6
        expected = (loss(theta + nudge) - loss(theta - nudge)) / 2e-6
        assert float(found[k]) == pytest.approx(expected, abs=1e-7)


def test_regression_is_refused() -> None:
    with pytest.raises(ValueError, match="needs classes"):
        ProtoMaml().check(TaskSpec(REGRESSION, (1,), 1, 0, True), UNITS["none"])
    ProtoMaml().check(SPEC, UNITS["none"])


def test_a_local_rate_takes_an_outer_step_after_every_task() -> None:
    """Per-FedAvg by hand: the second task's direction is taken where the first one led."""
    setting = Setting(Mlp((5,)), SPEC)
    theta = Fomaml().initial(setting, 1).double()
    first, second = episode(1), episode(2)

    def direction(at: torch.Tensor, task: Episode) -> torch.Tensor:
        return Fomaml(lr=0.1, steps=2).update(setting, at, [task], OpenSession(), RNG).delta

    one = theta + 0.3 * direction(theta, first)
    two = one + 0.3 * direction(one, second)
    learner = Fomaml(lr=0.1, steps=2, local_lr=0.3)
    found = learner.update(setting, theta, [first, second], OpenSession(), RNG).delta
    torch.testing.assert_close(found, two - theta)
