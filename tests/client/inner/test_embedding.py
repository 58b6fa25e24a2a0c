"""The embedding learns shared class names and adapts its body by prototypes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from metaward.client.inner import Setting
from metaward.client.inner.embedding import Embedding
from metaward.client.inner.proto_maml import ProtoMaml
from metaward.client.models.mlp import Mlp
from metaward.client.tasks.base import Episode, TaskSpec
from metaward.client.tasks.kinds import CLASSIFICATION, REGRESSION
from metaward.privacy import UNITS, OpenSession

SPEC = TaskSpec(CLASSIFICATION, (2,), 2, 4, False)
RNG = np.random.default_rng(0)


def episode(names: tuple[int, int] = (1, 3), seed: int = 0) -> Episode:
    """Two of four class names; label j of the task is names[j]."""
    x = np.random.default_rng(seed).normal(size=(8, 2))
    y = np.array([0, 1, 0, 1])
    return Episode(x[:4], y, x[4:], y, np.array(names), np.arange(4), np.arange(4, 8))


def test_the_update_by_hand() -> None:
    """At theta = 0 every name has probability 1/4: d loss / d w_c = mean of (1/4 - [y = c]) x."""
    task, setting = episode(), Setting(Mlp(()), SPEC)
    theta = torch.zeros(4 * 2 + 4, dtype=torch.float64)
    found = Embedding().update(setting, theta, [task], OpenSession(), RNG)
    x, y = np.concatenate([task.support_x, task.query_x]), np.array([1, 3] * 4)
    slopes = 0.25 - np.eye(4)[y]
    expected = np.concatenate([(slopes.T @ x / 8).ravel(), slopes.mean(axis=0)])
    np.testing.assert_allclose(-found.delta.numpy(), expected, atol=1e-12)
    assert float(found.loss) == pytest.approx(np.log(4))


def test_a_tasks_order_of_its_classes_does_not_matter() -> None:
    """The same records of the same names, numbered the other way round, teach the same."""
    setting, learner = Setting(Mlp((5,)), SPEC), Embedding()
    theta, task = learner.initial(setting, 1).double(), episode((1, 3))
    turned = replace(
        task, support_y=1 - task.support_y, query_y=1 - task.query_y, classes=np.array([3, 1])
    )
    one, other = (
        learner.update(setting, theta, [t], OpenSession(), RNG).delta for t in (task, turned)
    )
    torch.testing.assert_close(one, other, rtol=0, atol=0)
    elsewhere = learner.update(setting, theta, [episode((0, 2))], OpenSession(), RNG).delta
    assert (one - elsewhere).abs().max() > 1e-3


def test_several_tasks_weigh_as_their_mean() -> None:
    setting, learner = Setting(Mlp((5,)), SPEC), Embedding(l2=0.5)
    theta, tasks = learner.initial(setting, 1).double(), [episode(), episode((0, 1), 5)]
    each = [learner.update(setting, theta, [t], OpenSession(), RNG).delta for t in tasks]
    both = learner.update(setting, theta, tasks, OpenSession(), RNG).delta
    torch.testing.assert_close(both, torch.stack(each).mean(dim=0))


def test_a_local_rate_takes_a_step_after_every_task() -> None:
    setting, plain = Setting(Mlp((5,)), SPEC), Embedding()
    theta, tasks = plain.initial(setting, 1).double(), [episode(), episode((0, 1), 5)]
    here = theta
    for task in tasks:
        here = here + 0.3 * plain.update(setting, here, [task], OpenSession(), RNG).delta
    found = Embedding(local_lr=0.3).update(setting, theta, tasks, OpenSession(), RNG).delta
    torch.testing.assert_close(found, here - theta)


@pytest.mark.parametrize("steps", [0, 3])
def test_adaptation_keeps_the_body_and_nothing_of_the_head(steps: int) -> None:
    setting, learner = Setting(Mlp((5,)), SPEC), Embedding(lr=0.2)
    theta, task = learner.initial(setting, 1).double(), episode()
    body, x = setting.network(4).head.start, setting.query(task).x
    other = theta.clone()
    other[body:] += 1
    support = setting.support(task)
    found = learner.adapt(setting, theta, support, steps)(x)
    again = learner.adapt(setting, other, support, steps)(x)
    expected = ProtoMaml(lr=0.2).adapt(setting, theta[:body], support, steps)(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    torch.testing.assert_close(found, again, rtol=0, atol=0)


def test_regression_has_no_names() -> None:
    with pytest.raises(ValueError, match="choose reptile, fomaml or maml"):
        Embedding().check(TaskSpec(REGRESSION, (1,), 1, 0, True), UNITS["none"])
