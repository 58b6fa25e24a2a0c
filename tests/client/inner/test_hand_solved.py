"""Inner loops on problems small enough to solve with a pencil.

Linear regression through the origin without bias, f(x) = theta_1 x_1 + theta_2 x_2, has a known
gradient; the loss of one record is (f - y)^2, its gradient 2 (f - y) x.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metaward.client.inner import Setting, Update
from metaward.client.inner.fedavg import FedAvg
from metaward.client.inner.maml import Fomaml, Maml
from metaward.client.inner.reptile import Reptile, minibatches
from metaward.client.models.mlp import Mlp
from metaward.client.tasks.base import Episode, TaskSpec
from metaward.client.tasks.kinds import CLASSIFICATION, REGRESSION
from metaward.privacy import Batch, OpenSession

SPEC = TaskSpec(REGRESSION, (2,), 1, 0, True)
RNG = np.random.default_rng(0)


def row(*values: float) -> np.ndarray:
    return np.array([values], dtype=np.float64)


# theta = (w1, w2, b): the linear head of a network without hidden layers.
THETA = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)

# Support x = (1, 0), y = 0: f = w1 + b. Query x = (1, 1), y = 0: f = w1 + w2 + b.
TASK = Episode(
    row(1, 0), row(0), row(1, 1), row(0), np.zeros(0, int), np.zeros(1, int), np.ones(1, int)
)


def update(algorithm: object, tasks: list[Episode] | None = None) -> Update:
    return algorithm.update(Setting(Mlp(()), SPEC), THETA, tasks or [TASK], OpenSession(), RNG)


def close(found: torch.Tensor, *expected: float) -> None:
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_fomaml() -> None:
    # Step: f = 1, gradient 2 * (1, 0, 1), lr 0.1: phi = (0.8, 0, -0.2).
    # Query: f = 0.6, gradient 1.2 * (1, 1, 1). The update is its negative.
    found = update(Fomaml(lr=0.1, steps=1))
    close(found.delta, -1.2, -1.2, -1.2)
    assert float(found.loss) == pytest.approx(0.36)


def test_exact_maml() -> None:
    # phi = theta - 0.2 (w1 + b) (1, 0, 1), so d phi / d theta = I - 0.2 (1,0,1)(1,0,1)^T.
    # v = 1.2 (1, 1, 1): v - 0.2 (1,0,1) <(1,0,1), v> = 1.2 (1,1,1) - 0.48 (1,0,1).
    found = update(Maml(lr=0.1, steps=1))
    close(found.delta, -0.72, -1.2, -0.72)


def test_exact_maml_two_steps() -> None:
    # w1 + b halves its distance by the factor 1 - 0.4 = 0.6 each step: after two, 0.36; the
    # deviation of phi from theta is -0.32 (1, 0, 1), query f = 0.36, v = 0.72 (1, 1, 1).
    # The Jacobian is (I - 0.2 uu^T)^2 with u = (1,0,1), uu^T u = 2u:
    # v = 0.72 (1,1,1) = 0.72 u + 0.72 e2; u is an eigenvector with factor 0.6 each time.
    found = update(Maml(lr=0.1, steps=2))
    close(found.delta, -0.72 * 0.36, -0.72, -0.72 * 0.36)


def test_reptile() -> None:
    # Both records are trained on. f = 1 for each; the mean gradient is
    # (2 (1,0,1) + 2 (1,1,1)) / 2 = (2, 1, 2); phi - theta = -0.1 of it.
    found = update(Reptile(lr=0.1, steps=1))
    close(found.delta, -0.2, -0.1, -0.2)
    assert float(found.loss) == pytest.approx(1.0)


def test_reptile_two_steps() -> None:
    # After step 1: (0.8, -0.1, -0.2). f = 0.6 and 0.5: gradient (1.2 (1,0,1) + (1,1,1)) / 2
    # = (1.1, 0.5, 1.1).
    close(update(Reptile(lr=0.1, steps=2)).delta, -0.31, -0.15, -0.31)


def test_l2_pulls_theta_to_zero() -> None:
    # lambda = 0.5: the gradient of (lambda / 2) |theta|^2 is 0.5 theta = (0.5, 0, 0).
    close(update(Reptile(lr=0.1, steps=1, l2=0.5)).delta, -0.7, -0.1, -0.2)
    close(update(Fomaml(lr=0.1, steps=1, l2=0.5)).delta, -1.7, -1.2, -1.2)
    close(update(Maml(lr=0.1, steps=1, l2=0.5)).delta, -1.22, -1.2, -0.72)


def test_tasks_are_averaged_and_fedavg_goes_on() -> None:
    # The same task twice: Reptile's mean is one task's update; FedAvg takes both tasks' steps in
    # turn, each on half of the pool. A batch that holds both records gives the two-step answer
    # above; here the pool has each record twice, and batches of 4 are the whole pool.
    close(update(Reptile(lr=0.1, steps=1), [TASK, TASK]).delta, -0.2, -0.1, -0.2)
    close(update(FedAvg(lr=0.1, steps=1, batch=4), [TASK, TASK]).delta, -0.31, -0.15, -0.31)


def test_minibatches_pass_over_every_record_before_any_comes_again() -> None:
    x, y = torch.arange(6.0)[:, None], torch.arange(6)
    whole = Batch(x, y, np.arange(6) + 40)
    batches = minibatches(whole, size=2, steps=6, rng=np.random.default_rng(1))
    seen = torch.cat([b[1] for b in batches])
    assert [len(b[1]) for b in batches] == [2] * 6
    for lap in (seen[:6], seen[6:]):
        assert sorted(lap.tolist()) == list(range(6))
    assert all(torch.equal(b[0][:, 0].long(), b[1]) for b in batches)
    assert all((b.rows - 40).tolist() == b.y.tolist() for b in batches)


def test_a_batch_that_covers_the_set_is_the_set() -> None:
    whole = Batch(torch.zeros(4, 1), torch.arange(4), np.arange(4))
    for size in (0, 4, 9):
        assert all(b is whole for b in minibatches(whole, size, 3, np.random.default_rng(0)))


def test_fedavg_with_names_trains_one_output_a_name_and_starts_anew_at_an_unseen_hospital() -> None:
    spec = TaskSpec(CLASSIFICATION, (2,), 2, 5, False)
    setting = Setting(Mlp(()), spec)
    learner = FedAvg(lr=0.1, steps=1, names=True, head_seed=4)
    theta = learner.initial(setting, 0)
    assert len(theta) == 5 * 2 + 5
    x = np.eye(2, dtype=np.float32)
    task = Episode(
        x,
        np.array([0, 1]),
        x,
        np.array([0, 1]),
        np.array([3, 1]),
        RNG.permutation(2),
        RNG.permutation(2),
    )
    moved = learner.update(setting, theta, [task], OpenSession(), np.random.default_rng(0)).delta
    rows = moved[:10].view(5, 2)
    # Cross-entropy pulls the named rows (3 and 1) up along their own input, all others down.
    assert rows[3, 0] > 0
    assert rows[1, 1] > 0
    assert all(float(rows[k].sum()) < 0 for k in (0, 2, 4))
    predict = learner.adapt(setting, theta, setting.support(task), steps=0)
    fresh = setting.network(2)
    inputs = torch.from_numpy(x)
    torch.testing.assert_close(predict(inputs), fresh.forward(fresh.initial(4), inputs))
