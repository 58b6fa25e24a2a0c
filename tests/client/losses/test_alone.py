"""Losses from elsewhere: tried beforehand, and never shown two records at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from metaward.client.inner import Setting
from metaward.client.losses.alone import Alone
from metaward.client.losses.own import as_loss
from metaward.client.losses.registry import LOSSES
from metaward.client.losses.run import careful, with_loss
from metaward.client.models.mlp import Mlp
from metaward.client.tasks.base import TaskSpec
from metaward.client.tasks.kinds import CLASSIFICATION, REGRESSION
from metaward.privacy.clipping import clipped_sum
from metaward.privacy.session import gradient

SPEC = TaskSpec(CLASSIFICATION, (4,), 3, 3, True)


def entropy(outputs: Tensor, labels: Tensor, power: float = 1.0) -> Tensor:
    return functional.cross_entropy(outputs, labels, reduction="none") ** power


def of_the_batch(outputs: Tensor, labels: Tensor) -> Tensor:
    losses = entropy(outputs, labels)
    return losses / losses.mean()


def drawn(outputs: Tensor, labels: Tensor) -> Tensor:
    return entropy(outputs, labels) * torch.rand(len(labels))


def branching(outputs: Tensor, labels: Tensor) -> Tensor:
    losses = entropy(outputs, labels)
    return losses if losses.sum() > 0 else -losses


FAULTS: dict[str, tuple[Any, str]] = {
    "a mean": (lambda o, y: functional.cross_entropy(o, y), r"it gives \(\); give one loss for"),
    "a number": (lambda o, y: 3.0, r"it gives float; give one loss for each, \(12,\)"),
    "of a batch": (of_the_batch, "depends on the others of its batch"),
    "drawn": (drawn, "it fails for a record alone: RuntimeError: .*random"),
    "branching": (branching, "it fails for a record alone: RuntimeError: .*vmap"),
    "wrong": (lambda o, y: o - y, "it fails on a batch: RuntimeError: The size"),
    "infinite": (lambda o, y: entropy(o, y) / 0.0, "not finite numbers"),
    "flat": (lambda o, y: o[:, 0] * 0, "zero everywhere"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_could_not_be_protected_or_learned_is_refused(name: str) -> None:
    function, words = FAULTS[name]
    with pytest.raises(ValueError, match=words):
        careful(as_loss("mine", function)()).check(SPEC)


def test_a_functions_parameters_are_options_and_a_module_is_taken_as_it_is() -> None:
    made = as_loss("mine", entropy)
    outputs, labels = torch.randn(5, 3), torch.arange(5) % 3
    torch.testing.assert_close(made(power=2.0)(outputs, labels), entropy(outputs, labels, 2.0))
    module = as_loss("module", nn.CrossEntropyLoss(reduction="none"))()
    torch.testing.assert_close(careful(module)(outputs, labels), entropy(outputs, labels))
    careful(module).check(SPEC)
    assert made() == made()
    assert hash(made()) == hash(made())


def test_what_is_no_loss() -> None:
    for thing, words in (
        (3, "give a function of outputs and labels, not 3"),
        (lambda outputs: outputs, "needs parameters for outputs and labels"),
        (lambda outputs, labels, power=2: outputs, "give power a type"),
        (type("Half", (), {"check": None, "__call__": None}), None),
        (type("Half", (), {"check": None}), "lacks __call__"),
        (type("Half", (), {"__call__": None}), "lacks check of Loss"),
    ):
        if words:
            with pytest.raises(TypeError, match=words):
                as_loss("bad", thing)


def test_metawards_own_losses_are_not_wrapped() -> None:
    for cls in LOSSES.values():
        assert careful(cls()) == cls()
    assert isinstance(careful(as_loss("mine", entropy)()), Alone)


def test_a_record_cannot_move_the_gradient_of_another_even_if_its_loss_wants_to() -> None:
    """Were the trial passed by a trick, the sums would still be of records alone."""
    spec = with_loss(SPEC, as_loss("mine", of_the_batch)(), "none")
    setting = Setting(Mlp(()), spec)
    objective = setting.objective(setting.network(3))
    phi = setting.network(3).initial(0)
    x, y = torch.randn(6, 4), torch.arange(6) % 3
    other = x.clone()
    other[0] += 100
    one = gradient(objective)
    sums = [
        clipped_sum(lambda x, y: one(phi, x, y), part[1:], y[1:], torch.arange(5), 5, 1.0)
        for part in (x, other)
    ]
    assert torch.equal(*sums)
    together = [objective(phi, part, y)[1:] for part in (x, other)]
    assert torch.equal(*together), "a batch is computed record by record as well"


def test_a_loss_of_targets() -> None:
    spec = TaskSpec(REGRESSION, (4,), 2, 0, True)
    quartic = as_loss("quartic", lambda outputs, targets: ((outputs - targets) ** 4).sum(dim=1))
    careful(quartic()).check(spec)
    targets = torch.from_numpy(np.ones((3, 2), np.float32))
    assert careful(quartic())(0 * targets, targets).tolist() == [2.0, 2.0, 2.0]
