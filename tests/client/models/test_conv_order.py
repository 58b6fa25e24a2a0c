"""Images of network ``conv`` ordered by pixels in memory: the same network, only faster."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from metaward.client.models.conv import Blocks, Conv

WIDTH, DEPTH, GROUPS = 8, 3, 4


def body(channels: int, halve: str = "pool") -> nn.Module:
    torch.manual_seed(1)
    made = Conv(WIDTH, DEPTH, GROUPS, halve)  # type: ignore[arg-type]
    return made.body((channels, 16, 16)).double()


def images(channels: int) -> Tensor:
    return torch.randn(5, channels, 16, 16, generator=torch.Generator().manual_seed(2)).double()


def as_papers_write_it(own: nn.Module) -> nn.Module:
    """The same layers in the order of Vinyals et al. 2016: ReLU, then pool, in torch's order."""
    layers = list(own)  # type: ignore[call-overload]
    places = [n for n, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    for n in places:
        layers[n], layers[n + 1] = layers[n + 1], layers[n]
    return nn.Sequential(*layers)


def gradients(module: nn.Module, x: Tensor) -> list[Tensor]:
    out = module(x)
    return [out, *torch.autograd.grad(out.square().sum(), list(module.parameters()))]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("halve", ["pool", "stride"])
def test_it_is_the_network_that_papers_write(channels: int, halve: str) -> None:
    own, x = body(channels, halve), images(channels)
    pairs = zip(gradients(own, x), gradients(as_papers_write_it(own), x), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("hooks", [False, True])
def test_every_pool_gets_pixels_side_by_side(channels: int, hooks: bool) -> None:
    """Also where hooks between the layers hand on images in torch's own order."""
    own, seen = body(channels), list[bool]()
    for before, layer in pairwise(own.modules()):
        if isinstance(layer, nn.MaxPool2d):
            layer.register_forward_pre_hook(
                lambda _, args: seen.append(
                    args[0].is_contiguous(memory_format=torch.channels_last)
                )
            )
        if hooks:
            before.register_full_backward_hook(lambda *_: None)
    own(images(channels).requires_grad_())
    assert seen == [True] * DEPTH


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("halve", ["pool", "stride"])
def test_transforms_of_torch_take_it(channels: int, halve: str) -> None:
    """Over records, over weights, and over both, as noised sums and batched tasks do."""
    own, x = body(channels, halve), images(channels)
    weights = {name: p.detach() for name, p in own.named_parameters()}
    many = {name: torch.stack([p] * 3) for name, p in weights.items()}

    def loss(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(own, weights, (x,)).square().sum()

    expected = grad(loss)(weights, x)
    records = vmap(grad(loss), in_dims=(None, 0))(weights, x.unsqueeze(1))
    tasks = vmap(grad(loss), in_dims=(0, None))(many, x)
    both = vmap(grad(loss))(many, torch.stack([x] * 3))
    for name, gradient in expected.items():
        for found in (records[name].sum(dim=0), tasks[name][1], both[name][2]):
            torch.testing.assert_close(found, gradient, rtol=1e-9, atol=1e-9)


def test_signals_and_volumes_keep_their_order() -> None:
    for shape in ((2, 16), (2, 8, 8, 8)):
        own = Conv(WIDTH, 2, GROUPS).body(shape)
        assert isinstance(own, Blocks)
        assert own(torch.randn(3, *shape)).shape == (3, Conv(WIDTH, 2, GROUPS).features(shape))
