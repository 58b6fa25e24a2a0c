"""Our meta-gradient against an independent implementation, in float64.

Much federated "MAML" is first order by mistake: assigning fast weights to ``param.data`` cuts the
graph, and nothing fails. `higher` (Grefenstette et al. 2019: Generalized Inner Loop Meta-Learning)
keeps the graph by its own means, so agreement to 1e-10 is proof that ours does too.
"""

from __future__ import annotations

import warnings
import weakref
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from metaward.client.inner import Setting
from metaward.client.inner.at_once import Batched, OneByOne
from metaward.client.inner.maml import Fomaml, Maml
from metaward.client.models.conv import Conv
from metaward.client.models.mlp import Mlp
from metaward.client.tasks.base import Episode, TaskSpec
from metaward.client.tasks.kinds import CLASSIFICATION, REGRESSION
from metaward.privacy import OpenSession

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import higher

RNG = np.random.default_rng(0)

CASES = {
    "conv": (Conv(width=4, depth=2, groups=2), TaskSpec(CLASSIFICATION, (1, 8, 8), 3, 3, False)),
    "conv1d": (Conv(width=4, depth=2, groups=2), TaskSpec(CLASSIFICATION, (1, 16), 3, 3, False)),
    "mlp": (Mlp((5, 5)), TaskSpec(REGRESSION, (1,), 1, 0, True)),
}


def episode(spec: TaskSpec, seed: int) -> Episode:
    rng = np.random.default_rng(seed)

    def part(n: int) -> tuple[np.ndarray, np.ndarray]:
        x = rng.normal(size=(n, *spec.input_shape))
        return x, rng.integers(0, 3, n) if spec.kind.classes else rng.normal(size=(n, 1))

    (sx, sy), (qx, qy) = part(6), part(9)
    return Episode(sx, sy, qx, qy, np.arange(3), np.arange(6), np.arange(9))


def loss_of(spec: TaskSpec, outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    if spec.kind.classes:
        return functional.cross_entropy(outputs, y)
    return functional.mse_loss(outputs, y)


def module_at(architecture: object, spec: TaskSpec, theta: torch.Tensor) -> nn.Module:
    """A real torch module of the same architecture, holding theta."""
    body = architecture.body(spec.input_shape)
    head = nn.Linear(architecture.features(spec.input_shape), spec.outputs)
    module = nn.Sequential(body, head).double()
    nn.utils.vector_to_parameters(theta, module.parameters())
    return module


def reference(
    architecture: object, spec: TaskSpec, theta: torch.Tensor, task: Episode, lr: float, steps: int
) -> torch.Tensor:
    """The meta-gradient by `higher`, whose fast weights are its own."""
    module = module_at(architecture, spec, theta)
    sx, sy, qx, qy = map(
        torch.from_numpy, (task.support_x, task.support_y, task.query_x, task.query_y)
    )
    optimizer = torch.optim.SGD(module.parameters(), lr=lr)
    with higher.innerloop_ctx(module, optimizer, copy_initial_weights=False) as (fast, inner):
        for _ in range(steps):
            inner.step(loss_of(spec, fast(sx), sy))
        grads = torch.autograd.grad(loss_of(spec, fast(qx), qy), list(module.parameters()))
    return torch.cat([g.reshape(-1) for g in grads])


WAYS = get_args(get_type_hints(Maml)["backward"])


@pytest.mark.parametrize("backward", WAYS)
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("case", CASES)
def test_exact_meta_gradient_equals_higher(case: str, steps: int, backward: Any) -> None:
    architecture, spec = CASES[case]
    setting = Setting(architecture, spec)
    theta = setting.network(spec.outputs).initial(3).double()
    tasks = [episode(spec, seed) for seed in (1, 2)]
    learner = Maml(lr=0.3, steps=steps, backward=backward)
    found = learner.update(setting, theta, tasks, OpenSession(), RNG).delta
    expected = torch.stack([reference(architecture, spec, theta, t, 0.3, steps) for t in tasks])
    torch.testing.assert_close(-found, expected.mean(dim=0), rtol=0, atol=1e-10)


@pytest.mark.parametrize("case", CASES)
def test_first_order_differs_from_exact(case: str) -> None:
    """The check above has teeth: the usual mistake is far outside its tolerance."""
    architecture, spec = CASES[case]
    setting = Setting(architecture, spec)
    theta = setting.network(spec.outputs).initial(3).double()
    tasks = [episode(spec, 1)]
    exact = Maml(lr=0.3, steps=3).update(setting, theta, tasks, OpenSession(), RNG).delta
    first = Fomaml(lr=0.3, steps=3).update(setting, theta, tasks, OpenSession(), RNG).delta
    assert (exact - first).abs().max() > 1e-3


@pytest.mark.parametrize("stacked", [False, True], ids=["a task", "a stack of tasks"])
def test_the_recursion_is_the_graph_for_stacks_too(stacked: bool) -> None:
    architecture, spec = CASES["mlp"]
    setting = Setting(architecture, spec, at_once=Batched() if stacked else OneByOne())
    theta = setting.network(spec.outputs).initial(3).double()
    tasks = [episode(spec, seed) for seed in (1, 2, 3)]
    found = [
        Maml(lr=0.3, steps=4, backward=way).update(setting, theta, tasks, OpenSession(), RNG)
        for way in WAYS
    ]
    torch.testing.assert_close(found[0].delta, found[1].delta, rtol=0, atol=1e-12)
    torch.testing.assert_close(found[0].loss, found[1].loss, rtol=0, atol=1e-12)


class Kept:
    """A tensor that autograd keeps for a way back."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


def most_kept(learner: Maml) -> int:
    """The most bytes that autograd keeps at a time during an update, whose own vectors are small.

    A view counts as what it views, which it keeps alive.
    """
    architecture, spec = CASES["conv"]
    setting = Setting(architecture, spec)
    theta = setting.network(spec.outputs).initial(3).double()
    now, most = 0, 0

    def let_go(size: int) -> None:
        nonlocal now
        now -= size

    def keep(tensor: torch.Tensor) -> Kept:
        nonlocal now, most
        kept, size = Kept(tensor), tensor.untyped_storage().nbytes()
        weakref.finalize(kept, let_go, size)
        now += size
        most = max(most, now)
        return kept

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept.tensor):
        learner.update(setting, theta, [episode(spec, 1)], OpenSession(), RNG)
    return most


def test_the_recursions_memory_does_not_grow_with_the_steps() -> None:
    few, many = (most_kept(Maml(lr=0.3, steps=n, backward="recursion")) for n in (2, 12))
    assert 0 < many <= 1.1 * few
    assert most_kept(Maml(lr=0.3, steps=12)) > 4 * many, "the graph's does, or nothing is measured"
