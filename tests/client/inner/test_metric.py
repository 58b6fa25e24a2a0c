"""The metric learner: a covariance by hand, a metric by definition, an inner loop by hand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from metaward.client.inner import Setting
from metaward.client.inner.metric import Metric, features, pack, unpack, whitening
from metaward.client.models.mlp import Mlp
from metaward.client.models.scatter import Scatter
from metaward.client.tasks.base import Episode, TaskSpec
from metaward.client.tasks.kinds import ACCURACY, CLASSIFICATION, REGRESSION
from metaward.privacy import UNITS, Batch, OpenSession, Rehearsal
from metaward.privacy.session import ParameterGroup
from tests.client.inner.test_private_paths import silent
from tests.privacy.attacked import FLAT, SUPPORT, records
from tests.privacy.attacked import episodes as tasks_of

SPEC = TaskSpec(CLASSIFICATION, (2,), 2, 4, False)
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


def test_one_round_forgets_where_it_started() -> None:
    """theta + (found - theta): with outer rate 1 the covariance, whatever theta was."""
    setting, theta = Setting(Mlp(()), SPEC), torch.tensor([5.0, -2.0, 0.3]).double()
    found = Metric().update(setting, theta, [episode()], OpenSession(), RNG).delta
    torch.testing.assert_close(theta + found, plain([episode()]))


@pytest.mark.parametrize("turn", [(2, 3, 0, 1), (1, 0, 3, 2), (3, 2, 1, 0)])
def test_the_names_of_classes_are_the_hospitals_own(turn: tuple[int, ...]) -> None:
    """Two tasks share a name; called otherwise in both, what is found stays."""
    tasks = [episode((1, 3)), episode((3, 0), seed=5, first=8)]
    turned = [replace(t, classes=np.array(turn)[t.classes]) for t in tasks]
    torch.testing.assert_close(plain(tasks), plain(turned), rtol=0, atol=1e-14)


def test_equal_hospitals_average_to_the_pooled_covariance_within_classes() -> None:
    """Each centres its own classes: what one calls 1 need not be what another calls 1."""
    hospitals = [[episode((1, 3), seed=n), episode((3, 0), seed=n + 9, first=8)] for n in range(3)]
    rests = []
    for tasks in hospitals:
        x = np.concatenate([part for t in tasks for part in (t.support_x, t.query_x)])
        names = np.concatenate([t.classes[y] for t in tasks for y in (t.support_y, t.query_y)])
        rests += [x[names == c] - x[names == c].mean(axis=0) for c in (0, 1, 3)]
    pooled = np.concatenate(rests)
    found = torch.stack([plain(tasks) for tasks in hospitals]).mean(dim=0)
    np.testing.assert_allclose(unpack(found).numpy(), pooled.T @ pooled / len(pooled), atol=1e-12)


def test_through_a_clip_norm_that_bites_every_record_weighs_the_same() -> None:
    """Longer than C every residual's outer product is shortened to C: only directions count."""
    clip, learner, tasks = 1e-2, Metric(), tasks_of(records(FLAT, 1))
    theta, delta = silent("record", learner, "mlp", clip=clip, clip_features=64.0)
    setting = Setting(Mlp((5,)), FLAT)
    x = torch.cat([torch.from_numpy(p) for t in tasks for p in (t.support_x, t.query_x)])
    y = np.concatenate([p for t in tasks for p in (t.support_y, t.query_y)])
    z = features(setting)(x).numpy()
    rest = z - np.stack([z[y == c].mean(axis=0) for c in range(3)])[y]
    lengths = np.square(rest).sum(axis=1)
    assert len(rest) == 4 * SUPPORT
    assert lengths.min() > clip
    expected = clip * (rest / lengths[:, None]).T @ rest / len(rest)
    np.testing.assert_allclose(unpack(theta + delta).numpy(), expected, atol=1e-12)
    assert float((theta + delta).norm()) < clip


def test_the_loss_is_the_mean_squared_distance() -> None:
    setting, learner = Setting(Mlp(()), SPEC), Metric()
    theta = learner.initial(setting, 1).double()
    found = learner.update(setting, theta, [episode()], OpenSession(), RNG)
    assert float(found.loss) == pytest.approx(float(unpack(plain([episode()])).trace()))


@given(d=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_packing_keeps_the_matrix_and_its_norm(d: int, seed: int) -> None:
    """Of any symmetric matrix: noise makes of a covariance what is none."""
    root = torch.from_numpy(np.random.default_rng(seed).normal(size=(d, d)))
    matrix = root + root.T
    packed = pack(matrix)
    assert packed.shape == (d * (d + 1) // 2,)
    assert float(packed.norm()) == pytest.approx(float(matrix.norm()), rel=1e-14)
    torch.testing.assert_close(unpack(packed), matrix, rtol=1e-14, atol=0)
    torch.testing.assert_close(pack(unpack(packed)), packed, rtol=1e-14, atol=0)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("shrink", [1e-9, 0.3, 100.0])
def test_whitening_makes_the_shrunk_covariance_the_identity(shrink: float, scale: float) -> None:
    """Whatever unit features are measured in."""
    root = torch.from_numpy(np.random.default_rng(1).normal(size=(5, 5)))
    covariance = scale * root @ root.T
    w = whitening(covariance, shrink)
    shrunk = covariance + shrink * covariance.trace() / 5 * torch.eye(5)
    torch.testing.assert_close(w @ shrunk @ w.T, torch.eye(5).double())
    if shrink < 1e-6:
        torch.testing.assert_close(w @ covariance @ w.T, torch.eye(5).double(), rtol=0, atol=1e-5)


def test_what_noise_made_negative_counts_as_zero() -> None:
    basis = torch.linalg.qr(torch.from_numpy(np.random.default_rng(2).normal(size=(3, 3))))[0]
    values = torch.tensor([4.0, 2.0, -1.0]).double()
    found = whitening(basis * values @ basis.T, 0.5)
    expected = (torch.tensor([4.0, 2.0, 0.0]).double() + 0.5 * 2.0).rsqrt()
    torch.testing.assert_close(found, basis * expected @ basis.T)


@pytest.mark.parametrize(
    "hopeless", [torch.zeros(2, 2), -torch.eye(2), torch.tensor([[-2.0, 1.0], [1.0, -2.0]])]
)
@pytest.mark.parametrize("steps", [0, 5])
def test_where_noise_left_nothing_distance_is_plain(hopeless: Tensor, steps: int) -> None:
    """In float32, as runs are: nothing overflows on the way to a prediction."""
    setting, task = Setting(Mlp(()), SPEC), episode()
    task = replace(task, support_x=task.support_x.astype(np.float32))
    x, support = torch.from_numpy(task.query_x).float(), setting.support(task)
    found = Metric(shrink=1.0).adapt(setting, pack(hopeless), support, steps)(x)
    assert torch.isfinite(found).all()
    if not steps:
        means = torch.stack([support.x[support.y == c].mean(dim=0) for c in (0, 1)])
        half = -torch.cdist(x, means).square() / 2
        torch.testing.assert_close(found[:, 0] - found[:, 1], half[:, 0] - half[:, 1])


@pytest.mark.parametrize("shrink", [1e-3, 0.3, 10.0])
def test_before_any_step_outputs_are_mahalanobis_distances(shrink: float) -> None:
    """Up to what all classes share: four classes, five features."""
    rng, spec = np.random.default_rng(4), TaskSpec(CLASSIFICATION, (5,), 4, 9, False)
    root, y = rng.normal(size=(5, 5)), np.arange(60) % 4
    covariance = root @ root.T
    x = rng.normal(size=(60, 5)) @ root.T + rng.normal(size=(4, 5))[y]
    rows = np.arange(60)
    task = Episode(x[:20], y[:20], x[20:], y[20:], np.array([8, 1, 0, 5]), rows[:20], rows[20:])
    setting = Setting(Mlp(()), spec)
    theta, support = pack(torch.from_numpy(covariance)), setting.support(task)
    outputs = Metric(shrink=shrink).adapt(setting, theta, support, 0)(setting.query(task).x).numpy()
    inverse = np.linalg.inv(covariance + shrink * np.trace(covariance) / 5 * np.eye(5))
    means = np.stack([x[:20][y[:20] == c].mean(axis=0) for c in range(4)])
    gap = x[20:, None] - means
    half = -np.einsum("qci,ij,qcj->qc", gap, inverse, gap) / 2
    np.testing.assert_allclose(outputs - outputs[:, :1], half - half[:, :1], atol=1e-9)
    np.testing.assert_array_equal(outputs.argmax(axis=1), half.argmax(axis=1))
    assert len(set(half.argmax(axis=1))) == 4


def test_more_steps_fit_the_support_better() -> None:
    setting, learner = Setting(Mlp(()), SPEC), Metric(lr=0.05)
    theta, support = (
        pack(torch.tensor([[2.0, 0.7], [0.7, 0.5]]).double()),
        setting.support(episode()),
    )
    losses = []
    for steps in (0, 1, 5, 20, 200):
        outputs = learner.adapt(setting, theta, support, steps)(support.x)
        losses.append(float(functional.cross_entropy(outputs, support.y)))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.8 * losses[0]


def test_steps_are_gradient_descent_on_metric_and_prototypes() -> None:
    setting, task = Setting(Mlp(()), SPEC), episode()
    learner, support = Metric(lr=0.05), setting.support(episode())
    theta = pack(torch.tensor([[2.0, 0.7], [0.7, 0.5]]).double())
    mix = whitening(unpack(theta), 0.3).requires_grad_()
    z = (support.x @ mix.T).detach()
    means = torch.stack([z[support.y == c].mean(dim=0) for c in (0, 1)]).requires_grad_()
    bias = (-means.detach().square().sum(dim=1) / 2).requires_grad_()
    for _ in range(3):
        out = support.x @ mix.T @ means.T + bias
        loss = functional.cross_entropy(out, support.y)
        slopes = torch.autograd.grad(loss, (mix, means, bias))
        with torch.no_grad():
            for part, slope in zip((mix, means, bias), slopes, strict=True):
                part -= 0.05 * slope
    x = torch.from_numpy(task.query_x)
    expected = (x @ mix.T @ means.T + bias).detach()
    torch.testing.assert_close(learner.adapt(setting, theta, support, 3)(x), expected)


@pytest.mark.parametrize("steps", [0, 7])
def test_with_a_spread_the_scale_of_the_covariance_changes_nothing(steps: int) -> None:
    """Before any step the classes are those without it, and the spread is as declared."""
    setting = Setting(Mlp(()), SPEC)
    support = setting.support(episode())
    theta = pack(torch.tensor([[2.0, 0.5], [0.5, 1.0]]).double())
    free = Metric(lr=0.05, spread=3.0)
    x = torch.from_numpy(np.random.default_rng(3).normal(size=(40, 2))) * 3
    outputs = [free.adapt(setting, c * theta, support, steps)(x) for c in (1, 100)]
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-4)
    usual = [Metric(lr=0.05).adapt(setting, c * theta, support, steps)(x) for c in (1, 100)]
    assert (usual[0] - usual[1]).abs().max() > 0.1
    before = [m.adapt(setting, theta, support, 0)(x).argmax(dim=1) for m in (free, Metric())]
    assert before[0].tolist() == before[1].tolist()
    whitened = support.x @ whitening(unpack(theta), free.shrink).T
    around = whitened - whitened.mean(dim=0)
    moved = free._factor(float(around.square().sum(dim=1).mean())) * around
    assert float(moved.square().sum(dim=1).mean()) == pytest.approx(9.0, rel=1e-5)


def test_a_support_without_spread_keeps_its_scale() -> None:
    setting = Setting(Mlp(()), SPEC)
    same = Batch(torch.ones(4, 2), torch.tensor([0, 1, 0, 1]), np.arange(4))
    learner = Metric(spread=3.0)
    found = learner.adapt(setting, learner.initial(setting, 1), same, 3)(torch.ones(1, 2))
    assert bool(torch.isfinite(found).all())


def test_a_known_nuisance_is_looked_past() -> None:
    """Classes differ by 1 along the first axis; the second varies by 20 and says nothing."""
    rng, spec = np.random.default_rng(3), TaskSpec(CLASSIFICATION, (2,), 2, 2, False)
    y = np.arange(400) % 2
    x = rng.normal(size=(400, 2)) * np.array([0.3, 20.0]) + np.outer(y, [1.0, 0.0])
    task = Episode(x[:10], y[:10], x[10:], y[10:], np.arange(2), np.arange(10), np.arange(10, 400))
    setting, learner = Setting(Mlp(()), spec), Metric(shrink=1e-3)
    query, support = setting.query(task), setting.support(task)
    taught = plain([task], spec=spec)
    untaught = learner.initial(setting, 1).double()
    good, bad = (
        ACCURACY.measure(learner.adapt(setting, theta, support, 0)(query.x), query.y)
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
    trained: frozenset[ParameterGroup] = field(default=frozenset({"norm", "head"}))


def test_it_asks_for_two_sums_over_all_records_and_for_none_without_the_body() -> None:
    setting, learner = (
        Setting(Scatter(), TaskSpec(CLASSIFICATION, (1, 12, 12), 2, 4, False)),
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
        Metric().check(TaskSpec(REGRESSION, (1,), 1, 0, True), UNITS["none"])
    with pytest.raises(ValueError, match="no task can be protected"):
        Metric().check(SPEC, UNITS["task"])
    Metric().check(SPEC, UNITS["record"])
