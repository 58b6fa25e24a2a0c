"""What every loss must keep: the next entry of ``LOSSES`` is tested before it is written."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.nn import functional

from metaward.client.losses import (
    LOSSES,
    BinaryCrossEntropy,
    CrossEntropy,
    Focal,
    Huber,
    Loss,
    Squared,
    Weighted,
)
from metaward.client.losses.alone import Alone
from metaward.client.tasks.base import TaskSpec
from metaward.client.tasks.kinds import KINDS

N = 7
SPECS = {
    name: TaskSpec(kind, (4,), 3, 3 if kind.classes else 0, True) for name, kind in KINDS.items()
}
OPTIONS: dict[str, list[Loss]] = {
    "cross_entropy": [CrossEntropy(), CrossEntropy(smoothing=0.2)],
    "focal": [Focal(), Focal(gamma=0), Focal(gamma=0.5), Focal(gamma=1)],
    "huber": [Huber(), Huber(delta=0.1)],
}
"""Losses whose options change what they are."""


def fits(loss: Loss, spec: TaskSpec) -> bool:
    try:
        loss.check(spec)
    except ValueError:
        return False
    return True


CASES = [
    pytest.param(loss, spec, id=f"{loss}-{kind}")
    for name, cls in LOSSES.items()
    for loss in OPTIONS.get(name, [cls()])
    for kind, spec in SPECS.items()
    if fits(loss, spec)
]
every_loss = pytest.mark.parametrize(("loss", "spec"), CASES)


def made_up(spec: TaskSpec, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Outputs and labels of N records."""
    labels = torch.from_numpy(spec.kind.random(spec, N, np.random.default_rng(1)))
    outputs = torch.randn((N, 3), generator=torch.Generator().manual_seed(2), dtype=dtype)
    return outputs, labels.to(dtype) if labels.is_floating_point() else labels


def alone(loss: Loss, output: Tensor, label: Tensor) -> Tensor:
    return loss(output[None], label[None])[0]


def test_each_loss_suits_a_kind_of_task() -> None:
    for name, cls in LOSSES.items():
        assert any(fits(cls(), spec) for spec in SPECS.values()), name
    assert {param.values[0].__class__ for param in CASES} == set(LOSSES.values())


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("kind", SPECS)
def test_one_that_does_not_suit_says_which_would(name: str, kind: str) -> None:
    loss, spec = LOSSES[name](), SPECS[kind]
    if fits(loss, spec):
        return
    with pytest.raises(ValueError, match=f"{name} needs .* of kind {kind}; .*null") as caught:
        loss.check(spec)
    advised = str(caught.value).rpartition("(")[2].rstrip(")").split(", ")
    assert all(fits(LOSSES[other](), spec) for other in advised)


@every_loss
def test_one_number_a_record_that_depends_on_no_other(loss: Loss, spec: TaskSpec) -> None:
    outputs, labels = made_up(spec)
    found = loss(outputs, labels)
    assert found.shape == (N,)
    assert (found >= 0).all()
    one_by_one = torch.stack([alone(loss, o, y) for o, y in zip(outputs, labels, strict=True)])
    torch.testing.assert_close(found, one_by_one)
    torch.testing.assert_close(vmap(lambda o, y: alone(loss, o, y))(outputs, labels), found)
    torch.testing.assert_close(Alone(loss)(outputs, labels), found)


@every_loss
def test_gradients_are_right_and_so_are_those_of_gradients(loss: Loss, spec: TaskSpec) -> None:
    outputs, labels = made_up(spec, torch.float64)
    outputs.requires_grad_()
    with torch.random.fork_rng(devices=[]):  # the check of second derivatives draws
        assert torch.autograd.gradcheck(lambda o: loss(o, labels), outputs)
        assert torch.autograd.gradgradcheck(lambda o: loss(o, labels), outputs)


@every_loss
@pytest.mark.parametrize("scale", [0.0, 30.0, 1e4])
def test_gradients_stay_finite_where_a_network_is_certain(
    loss: Loss, spec: TaskSpec, scale: float
) -> None:
    outputs, labels = made_up(spec)
    for certain in (scale * spec.kind.certain(spec, labels), -scale * outputs):
        slopes = vmap(grad(lambda o, y: alone(loss, o, y)))(certain, labels)
        assert torch.isfinite(loss(certain, labels)).all()
        assert torch.isfinite(slopes).all()

        def slope_of_slope(output: Tensor, label: Tensor) -> Tensor:
            return grad(lambda o: grad(lambda p: alone(loss, p, label))(o).sum())(output)

        assert torch.isfinite(vmap(slope_of_slope)(certain, labels)).all()


@every_loss
def test_who_is_right_loses_less(loss: Loss, spec: TaskSpec) -> None:
    outputs, labels = made_up(spec)
    scale = 9 if spec.kind.classes else 1
    right = scale * spec.kind.certain(spec, labels)
    assert loss(right, labels).sum() < loss(outputs, labels).sum()


@every_loss
def test_a_weight_multiplies_the_loss_of_its_class(loss: Loss, spec: TaskSpec) -> None:
    if not spec.kind.classes:
        return
    outputs, labels = made_up(spec)
    factors = torch.tensor([1.0, 4.0, 0.5])
    found = Weighted(loss, (1.0, 4.0, 0.5))(outputs, labels)
    torch.testing.assert_close(found, loss(outputs, labels) * factors[labels])


# ------------------------------------------------------------------------ torch's own losses


def test_cross_entropies_are_those_of_torch() -> None:
    outputs, labels = made_up(SPECS["classification"])
    weight = torch.tensor([1.0, 4.0, 0.5])
    for smoothing in (0.0, 0.2):
        theirs = functional.cross_entropy(
            outputs, labels, label_smoothing=smoothing, reduction="none"
        )
        torch.testing.assert_close(CrossEntropy(smoothing)(outputs, labels), theirs)
    theirs = functional.cross_entropy(outputs, labels, weight, reduction="none")
    ours = Weighted(CrossEntropy(), tuple(weight.tolist()))(outputs, labels)
    torch.testing.assert_close(ours, theirs)
    several = functional.one_hot(labels, 3).float()
    theirs = functional.binary_cross_entropy_with_logits(outputs, several, reduction="none")
    torch.testing.assert_close(BinaryCrossEntropy()(outputs, labels), theirs.mean(dim=1))
    torch.testing.assert_close(BinaryCrossEntropy()(outputs, several), theirs.mean(dim=1))


def test_focal_by_its_formula() -> None:
    outputs, labels = made_up(SPECS["classification"], torch.float64)
    p = torch.softmax(outputs, dim=1)[torch.arange(N), labels]
    for gamma in (0.0, 0.5, 2.0):
        torch.testing.assert_close(Focal(gamma)(outputs, labels), -((1 - p) ** gamma) * p.log())
    plain = functional.cross_entropy(outputs, labels, reduction="none")
    torch.testing.assert_close(Focal(0)(outputs, labels), plain)


def test_losses_of_targets_are_those_of_torch() -> None:
    outputs, targets = made_up(SPECS["regression"])
    theirs = functional.mse_loss(outputs, targets, reduction="none").mean(dim=1)
    torch.testing.assert_close(Squared()(outputs, targets), theirs)
    theirs = functional.huber_loss(outputs, targets, reduction="none", delta=0.3).mean(dim=1)
    torch.testing.assert_close(Huber(0.3)(outputs, targets), theirs)
