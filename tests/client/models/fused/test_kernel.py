"""The kernel's gradients are autograd's, in float64 to rounding, and each record's is its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from metaward.client.losses import Focal, Weighted
from metaward.client.losses.classes import CrossEntropy
from metaward.client.models import Architecture, Network, network
from metaward.client.models.conv import Conv
from metaward.client.models.fused import FusedKernel, NoKernel, fused_kernel
from metaward.client.models.mlp import Mlp
from metaward.client.tasks.base import TaskSpec
from metaward.client.tasks.kinds import CLASSIFICATION, cross_entropy
from metaward.privacy import Batch, Objective, OpenSession
from tests.client.models.fused.compilers import needs_compiler

SQUARE = (1, 28, 28)
CASES = {
    # width, depth, groups, shape, ways, records
    "16, one record": (16, 4, 4, SQUARE, 5, 1),
    "32, five records": (32, 4, 8, (3, 28, 28), 5, 5),
    "64, more than go together": (64, 4, 8, SQUARE, 20, 9),
    "64, a group a channel": (64, 4, 64, (3, 32, 32), 2, 2),
    "64, one group": (64, 4, 1, (1, 32, 32), 5, 2),
    "48, odd sides": (48, 3, 6, (2, 30, 17), 4, 3),
    "16, many records": (16, 4, 8, SQUARE, 5, 75),
    "32, a wide image": (32, 2, 16, (2, 4, 21), 3, 12),
    "16, one block": (16, 1, 2, (3, 5, 5), 3, 10),
}


@dataclass(frozen=True)
class Made:
    net: Network
    kernel: FusedKernel
    phi: Tensor
    x: Tensor
    y: Tensor

    def by_autograd(self, part: slice = slice(None)) -> tuple[Tensor, Tensor]:
        phi = self.phi.clone().requires_grad_()
        loss = functional.cross_entropy(self.net.forward(phi, self.x[part]), self.y[part])
        return torch.autograd.grad(loss, phi)[0], loss.detach()

    def of_each_record(self) -> Tensor:
        return torch.stack([self.by_autograd(slice(i, i + 1))[0] for i in range(len(self.x))])

    def records(self, x: Tensor | None = None) -> Tensor:
        return self.kernel.record_gradients(self.phi, self.x if x is None else x, self.y)


def made(name: str, dtype: torch.dtype = torch.float64) -> Made:
    width, depth, groups, shape, ways, n = CASES[name]
    net = built(Conv(width, depth, groups), shape, ways)
    generator = torch.Generator().manual_seed(3)
    phi = net.initial(1).to(dtype)
    phi = phi + 0.1 * torch.randn(net.dim, generator=generator, dtype=dtype)
    x = torch.randn(n, *shape, generator=generator, dtype=dtype)
    y = torch.randint(ways, (n,), generator=generator)
    return Made(net, fused_kernel(net, cross_entropy), phi, x, y)


def built(architecture: Architecture, shape: tuple[int, ...], ways: int = 3) -> Network:
    return network(architecture, TaskSpec(CLASSIFICATION, shape, 3, 3, True), ways)


def apart(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@needs_compiler
@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_autograd(name: str) -> None:
    case = made(name)
    g, loss = case.kernel.slope(case.phi, case.x, case.y)
    expected, at = case.by_autograd()
    assert apart(g, expected) < 1e-12
    assert float(loss) == pytest.approx(float(at), rel=1e-12)
    each = case.records()
    assert apart(each, case.of_each_record()) < 1e-12
    assert apart(each.mean(dim=0), g) < 1e-12


@needs_compiler
@pytest.mark.parametrize("name", ["64, more than go together", "32, five records"])
def test_in_float32_too(name: str) -> None:
    case = made(name, torch.float32)
    exact = made(name)
    exact = Made(exact.net, exact.kernel, case.phi.double(), case.x.double(), case.y)
    expected = exact.by_autograd()[0]
    found = case.kernel.slope(case.phi, case.x, case.y)[0]
    assert apart(found.double(), expected) < 2e-5
    assert apart(found.double(), expected) < 3 * apart(case.by_autograd()[0].double(), expected)


@needs_compiler
def test_ties_are_broken_as_torch_does() -> None:
    """Flat images tie in every pool; where gains and shifts are zero, ReLU stands at its corner."""
    case = made("16, one block")
    case.x[::2] = 0.5
    case.x[1::2] = case.x[1::2].round()
    assert apart(case.records(), case.of_each_record()) < 1e-12
    layers, at = case.net.layers(), 0
    for layer in layers:
        if layer.group == "norm":
            case.phi[at : at + layer.size] = 0
        at += layer.size
    torch.testing.assert_close(case.records(), case.of_each_record(), rtol=1e-12, atol=1e-14)


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["64, more than go together", "16, many records"])
def test_no_bit_of_a_record_depends_on_another(name: str, dtype: torch.dtype) -> None:
    """Other values, labels that are not finite, another place in the batch, or no others at all."""
    case = made(name, dtype)
    before, n = case.records(), len(case.x)
    for others in (torch.zeros(()), torch.tensor(math.nan), torch.tensor(1e30)):
        x = case.x.clone()
        x[torch.arange(n) != 4] = others.to(dtype)
        assert torch.equal(case.records(x)[4], before[4])
    turned = case.kernel.record_gradients(case.phi, case.x.flip(0), case.y.flip(0))
    assert torch.equal(turned.flip(0), before)
    alone = case.kernel.record_gradients(case.phi, case.x[4:5], case.y[4:5])
    assert torch.equal(alone[0], before[4])


@needs_compiler
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_record_that_is_not_finite_is_seen_in_its_row_alone(wrong: float) -> None:
    case = made("16, many records", torch.float32)
    x = case.x.clone()
    x[7, 0, 3, 3] = wrong
    finite = torch.isfinite(case.records(x)).all(dim=1)
    assert torch.equal(finite, torch.arange(len(x)) != 7)
    g, loss = case.kernel.slope(case.phi, x, case.y)
    assert not torch.isfinite(loss)
    assert not torch.isfinite(g).all()


@needs_compiler
def test_records_may_lie_anyhow_in_memory() -> None:
    case = made("32, five records")
    x = case.x.contiguous(memory_format=torch.channels_last)
    y = torch.stack([case.y, case.y], dim=1)[:, 0]
    phi = torch.stack([case.phi, case.phi], dim=1)[:, 0]
    assert torch.equal(case.kernel.record_gradients(phi, x, y), case.records())


@needs_compiler
def test_what_does_not_fit_is_refused() -> None:
    case = made("16, one record")
    for label in (-1, 5):
        with pytest.raises(IndexError, match=r"\[0, 5\)"):
            case.kernel.slope(case.phi, case.x, torch.tensor([label]))
    x, y = case.x, case.y
    for args in ((case.phi[1:], x, y), (case.phi, x[:, :, :9], y), (case.phi, x, y.repeat(2))):
        with pytest.raises(ValueError, match="do not suit"):
            case.kernel.slope(*args)
    for phi, labels in ((case.phi.half(), y), (case.phi, y.int())):
        with pytest.raises(ValueError, match="labels are"):
            case.kernel.slope(phi, x, labels)


class Deeper(Conv):
    def body(self, input_shape: tuple[int, ...]) -> nn.Module:
        return nn.Sequential(*super().body(input_shape), nn.Identity())


class Leaky(Conv):
    def body(self, input_shape: tuple[int, ...]) -> nn.Module:
        layers = [
            nn.LeakyReLU() if type(layer) is nn.ReLU else layer
            for layer in super().body(input_shape).children()
        ]
        return nn.Sequential(*layers)


class Wider(Conv):
    def body(self, input_shape: tuple[int, ...]) -> nn.Module:
        layers = list(super().body(input_shape).children())
        layers[1] = nn.GroupNorm(self.groups, self.width, eps=1e-3)
        return nn.Sequential(*layers)


@pytest.mark.parametrize(
    ("architecture", "shape", "ways"),
    [
        (Conv(16, 2, 4, "stride"), SQUARE, 3),
        (Conv(8, 2, 4), SQUARE, 3),
        (Conv(80, 2, 8), SQUARE, 3),
        (Conv(16, 2, 4), (4, 8, 8), 3),
        (Conv(16, 2, 4), (1, 20), 3),
        (Conv(16, 2, 4), (1, 8, 8, 8), 3),
        (Conv(16, 2, 4), SQUARE, 0),
        (Mlp((4,)), SQUARE, 3),
        (Deeper(16, 2, 4), SQUARE, 3),
        (Leaky(16, 2, 4), SQUARE, 3),
        (Wider(16, 2, 4), SQUARE, 3),
    ],
)
def test_other_networks_have_no_kernel(
    architecture: Architecture, shape: tuple[int, ...], ways: int
) -> None:
    with pytest.raises(NoKernel, match="the kernel takes network conv"):
        fused_kernel(built(architecture, shape, ways), cross_entropy)


def test_other_losses_have_no_kernel() -> None:
    net = built(Conv(16, 2, 4), SQUARE)
    weighted = Weighted(cross_entropy, (1.0, 2.0, 1.0))
    for losses in (Focal(), CrossEntropy(smoothing=0.1), weighted):
        with pytest.raises(NoKernel, match="cross-entropy"):
            fused_kernel(net, losses)


@needs_compiler
def test_a_session_in_the_open_asks_the_kernel_for_gradients() -> None:
    case = made("32, five records", torch.float64)
    objective = Objective(case.net.module, case.net.forward, cross_entropy, case.kernel)
    plain = Objective(case.net.module, case.net.forward, cross_entropy)
    batch = Batch(case.x, case.y, torch.arange(5).numpy())
    mask = case.net.mask({"body", "head"})
    points = [(case.phi, batch), (case.phi * 0.9, batch)]
    stack, phi = Batch.stack([batch, batch]), torch.stack([point for point, _ in points])
    for args in ("gradient", points), ("gradient", points[:1]), ("gradients", phi, stack):
        name, *at = args
        known, found = (
            getattr(OpenSession(), name)(losses, *at, "support", mask)
            for losses in (plain, objective)
        )
        torch.testing.assert_close(found, known, rtol=1e-10, atol=1e-13)
        assert not found[0].requires_grad
        assert float(found[0][..., ~mask].abs().max()) == 0


@needs_compiler
def test_whoever_asks_for_a_graph_gets_autograd() -> None:
    case = made("16, one block")
    objective = Objective(case.net.module, case.net.forward, cross_entropy, case.kernel)
    phi = case.phi.clone().requires_grad_()
    loss = objective(phi, case.x, case.y).mean()
    (g,) = torch.autograd.grad(loss, phi, create_graph=True)
    (again,) = torch.autograd.grad(g.square().sum(), phi)
    assert float(again.abs().max()) > 0
