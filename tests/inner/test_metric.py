"""The metric learner: a covariance by hand, a metric by definition, an inner loop by hand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from client.inner import Setting
from client.inner.metric import Metric, features, pack, unpack, whitening
from client.models.mlp import Mlp
from client.models.scatter import Scatter
from client.tasks.base import Episode, TaskSpec
from privacy import OpenSession, Rehearsal
from privacy.session import Part

SPEC = TaskSpec("classification", (2,), 2, 4, False)
RNG = np.random.default_rng(0)


def episode(names: tuple[int, int] = (1, 3), seed: int = 0, first: int = 0) -> Episode:
    """Eight records of two of four class names; label j of the task is names[j]."""
    x = np.random.default_rng(seed).normal(size=(8, 2)) + np.array([3.0, -1.0])
    y, rows = np.array([0, 1, 0, 1]), np.arange(first, first + 8)
    return Episode(x[:4], y, x[4:], y, np.array(names), rows[:4], rows[4:])


def plain(tasks: list[Episode], architecture: object = Mlp(()), spec: TaskSpec = SPEC) -> Tensor:
    setting, learner = Setting(architecture, spec), Metric()
    theta = learner.initial(setting, 1).double()
    return theta + learner.update(setting, theta, tasks, OpenSession(), RNG).delta


def test_one_round_gives_the_covariance_within_classes() -> None:
    """Classes are centred over all tasks of the round; features of ``Mlp(())`` are the input."""
    tasks = [episode((1, 3)), episode((3, 0), seed=5, first=8)]
    x = np.concatenate([part for t in tasks for part in (t.support_x, t.query_x)])
    names = np.concatenate([t.classes[y] for t in tasks for y in (t.support_y, t.query_y)])
    rest = np.concatenate([x[names == c] - x[names == c].mean(axis=0) for c in np.unique(names)])
    np.testing.assert_allclose(unpack(plain(tasks)).numpy(), rest.T @ rest / len(x), atol=1e-12)
    apart = (plain(tasks[:1]) + plain(tasks[1:])) / 2
    assert (apart - plain(tasks)).abs().max() > 1e-3  # name 3 has one mean, not two


def test_the_names_of_classes_are_the_hospitals_own() -> None:
    one, other = plain([episode((1, 3))]), plain([episode((2, 0))])
    torch.testing.assert_close(one, other, rtol=0, atol=1e-14)


def test_the_loss_is_the_mean_squared_distance() -> None:
    setting, learner = Setting(Mlp(()), SPEC), Metric()
    theta = learner.initial(setting, 1).double()
    found = learner.update(setting, theta, [episode()], OpenSession(), RNG)
    assert float(found.loss) == pytest.approx(float(unpack(plain([episode()])).trace()))


@pytest.mark.parametrize("d", [1, 2, 7])
def test_packing_keeps_the_matrix_and_its_norm(d: int) -> None:
    root = torch.from_numpy(np.random.default_rng(d).normal(size=(d, d)))
    matrix = root @ root.T
    packed = pack(matrix)
    assert packed.shape == (d * (d + 1) // 2,)
    assert float(packed.norm()) == pytest.approx(float(matrix.norm()))
    torch.testing.assert_close(unpack(packed), matrix)


def test_whitening_makes_the_shrunk_covariance_the_identity() -> None:
    root = torch.from_numpy(np.random.default_rng(1).normal(size=(5, 5)))
    covariance, shrink = root @ root.T, 0.3
    w = whitening(covariance, shrink)
    shrunk = covariance + shrink * covariance.trace() / 5 * torch.eye(5)
    torch.testing.assert_close(w @ shrunk @ w.T, torch.eye(5).double())


def test_what_noise_made_negative_counts_as_zero() -> None:
    basis = torch.linalg.qr(torch.from_numpy(np.random.default_rng(2).normal(size=(3, 3))))[0]
    values = torch.tensor([4.0, 2.0, -1.0]).double()
    found = whitening(basis * values @ basis.T, 0.5)
    expected = (torch.tensor([4.0, 2.0, 0.0]).double() + 0.5 * 2.0).rsqrt()
    torch.testing.assert_close(found, basis * expected @ basis.T)
    for hopeless in (torch.zeros(3, 3), -torch.eye(3)):
        assert torch.isfinite(whitening(hopeless, 0.3)).all()


def test_before_any_step_outputs_are_mahalanobis_distances() -> None:
    setting, learner, task = Setting(Mlp(()), SPEC), Metric(), episode()
    covariance = torch.tensor([[2.0, 0.7], [0.7, 0.5]]).double()
    outputs = learner.adapt(setting, pack(covariance), setting.support(task), 0)(
        torch.from_numpy(task.query_x)
    )
    inverse = np.linalg.inv(covariance.numpy() + 0.3 * 1.25 * np.eye(2))
    means = np.stack([task.support_x[task.support_y == c].mean(axis=0) for c in (0, 1)])
    gap = task.query_x[:, None] - means
    half = -np.einsum("qci,ij,qcj->qc", gap, inverse, gap) / 2
    np.testing.assert_allclose(
        (outputs[:, 0] - outputs[:, 1]).numpy(), half[:, 0] - half[:, 1], atol=1e-10
    )


def test_steps_are_gradient_descent_on_metric_and_prototypes() -> None:
    setting, task = Setting(Mlp(()), SPEC), episode()
    learner, support = Metric(lr=0.05), setting.support(episode())
    theta = pack(torch.tensor([[2.0, 0.7], [0.7, 0.5]]).double())
    mix = whitening(unpack(theta), 0.3).requires_grad_()
    z = (support.x @ mix.T).detach()
    means = torch.stack([z[support.y == c].mean(dim=0) for c in (0, 1)]).requires_grad_()
    bias = (-means.detach().square().sum(dim=1) / 2).requires_grad_()
    losses = []
    for _ in range(3):
        out = support.x @ mix.T @ means.T + bias
        loss = functional.cross_entropy(out, support.y)
        losses.append(float(loss.detach()))
        slopes = torch.autograd.grad(loss, (mix, means, bias))
        with torch.no_grad():
            for part, slope in zip((mix, means, bias), slopes, strict=True):
                part -= 0.05 * slope
    x = torch.from_numpy(task.query_x)
    expected = (x @ mix.T @ means.T + bias).detach()
    torch.testing.assert_close(learner.adapt(setting, theta, support, 3)(x), expected)
    assert losses[0] > losses[1] > losses[2]


def test_a_known_nuisance_is_looked_past() -> None:
    """Classes differ by 1 along the first axis; the second varies by 20 and says nothing."""
    rng, spec = np.random.default_rng(3), TaskSpec("classification", (2,), 2, 2, False)
    y = np.arange(400) % 2
    x = rng.normal(size=(400, 2)) * np.array([0.3, 20.0]) + np.outer(y, [1.0, 0.0])
    task = Episode(x[:10], y[:10], x[10:], y[10:], np.arange(2), np.arange(10), np.arange(10, 400))
    setting, learner = Setting(Mlp(()), spec), Metric(shrink=1e-3)
    query, support = setting.query(task), setting.support(task)
    taught = plain([task], spec=spec)
    untaught = learner.initial(setting, 1).double()
    good, bad = (
        setting.score(learner.adapt(setting, theta, support, 0)(query.x), query.y)
        for theta in (taught, untaught)
    )
    assert good > 0.9
    assert bad < 0.7


def test_a_body_with_parameters_stays_as_it_starts() -> None:
    setting = Setting(Mlp((5,)), SPEC)
    x = torch.from_numpy(episode().query_x)
    body = setting.network(0)
    torch.testing.assert_close(features(setting)(x), body.forward(body.initial(0).double(), x))


@dataclass
class Headless(Rehearsal):
    parts: frozenset[Part] = field(default=frozenset({"norm", "head"}))


def test_it_asks_for_two_sums_over_all_records_and_for_none_without_the_body() -> None:
    setting, learner = (
        Setting(Scatter(), TaskSpec("classification", (1, 12, 12), 2, 4, False)),
        Metric(),
    )
    x = np.zeros((8, 1, 12, 12), np.float32)
    tasks = [replace(episode(first=n), support_x=x[:4], query_x=x[4:]) for n in (0, 8)]
    theta = learner.initial(setting, 0)
    asked, none = Rehearsal(), Headless()
    learner.update(setting, theta, tasks, asked, RNG)
    assert [use.kind for use in asked.uses] == ["features", "moments"]
    assert all(sorted(use.rows) == list(range(16)) for use in asked.uses)
    found = learner.update(setting, theta, tasks, none, RNG)
    assert none.uses == []
    assert not found.delta.any()


def test_tasks_and_units_that_it_cannot_serve() -> None:
    with pytest.raises(ValueError, match="choose reptile, fomaml or maml"):
        Metric().check(TaskSpec("regression", (1,), 1, 0, True), "none")
    with pytest.raises(ValueError, match="mechanism task cannot protect"):
        Metric().check(SPEC, "task")
    Metric().check(SPEC, "record")
