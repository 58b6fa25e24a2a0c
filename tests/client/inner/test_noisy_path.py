"""The way round through noisy sums, with the noise left out, is the exact derivative."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metaward.client.inner import ALGORITHMS, Algorithm, Setting
from metaward.client.inner.maml import Fomaml, Maml
from metaward.client.inner.proto_maml import ProtoMaml
from metaward.client.tasks.base import Episode, TaskSpec
from metaward.privacy import OpenSession
from tests.client.inner.test_maml_reference import CASES, episode

SPECS = {name: case for name, case in CASES.items() if case[1].kind.classes}


def deltas(learner: Algorithm, case: str) -> tuple[torch.Tensor, torch.Tensor]:
    """One round's update with records in the open, and by plain means through the session."""
    architecture, spec = CASES[case]
    setting = Setting(architecture, spec)
    theta = learner.initial(setting, 3).double()
    tasks = [balanced(spec, seed) for seed in (1, 2)]
    one, other = (
        learner.update(setting, theta, tasks, OpenSession(raw=raw), np.random.default_rng(7)).delta
        for raw in (True, False)
    )
    return one, other


def balanced(spec: TaskSpec, seed: int) -> Episode:
    """Every class stands in the support set: prototypes need that."""
    task = episode(spec, seed)
    if spec.kind.classes:
        task.support_y[:] = [0, 1, 2, 2, 1, 0]
    return task


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("case", CASES)
def test_the_adjoint_recursion_is_the_exact_meta_gradient(case: str, steps: int) -> None:
    exact, found = deltas(Maml(lr=0.3, steps=steps, l2=0.1), case)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-12)
    first, _ = deltas(Fomaml(lr=0.3, steps=steps, l2=0.1), case)
    assert (first - exact).abs().max() > 1e-4, "without the recursion it would not be"


@pytest.mark.parametrize("local_lr", [0.0, 0.2])
@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("case", SPECS)
def test_prototypes_and_the_way_back_through_them(case: str, steps: int, local_lr: float) -> None:
    """Without a local rate the tasks' last sums are one; with one each task is alone."""
    exact, found = deltas(ProtoMaml(lr=0.2, steps=steps, local_lr=local_lr), case)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-12)
    assert exact.abs().max() > 1e-3


@pytest.mark.parametrize("name", ["reptile", "fomaml", "fedavg", "embedding"])
@pytest.mark.parametrize("case", SPECS)
def test_first_order_learners_take_the_same_steps(name: str, case: str) -> None:
    exact, found = deltas(ALGORITHMS[name](), case)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-12)
