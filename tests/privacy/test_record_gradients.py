"""One convolution for the gradients of all records: Opacus's numbers, and no records meet."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from opacus.grad_sample import GradSampleModule
from opacus.grad_sample.conv import compute_conv_grad_sample
from torch import Tensor, nn

from metaward.privacy.record_gradients import Hooked, convolution_gradients, of_layers, takes

KINDS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "padding": {"padding": 1},
    "stride, groups": {"stride": 2, "padding": 1, "groups": 2},
    "dilation, no bias": {"dilation": 2, "bias": False},
    "what a stride leaves over": {"stride": 3, "padding": 1, "groups": 4},
    "all": {"stride": 2, "padding": 3, "dilation": 2, "groups": 2, "bias": False},
    "a word": {"padding": "same"},
}


def layer_and_records(
    dims: int, options: dict[str, Any], dtype: torch.dtype = torch.float64, channels: int = 4
) -> tuple[Any, Tensor, Tensor]:
    """A convolution, inputs of five records, and errors of its outputs."""
    generator = torch.Generator().manual_seed(1)
    layer = KINDS[dims](channels, 8, 3, **options).to(dtype)
    x = torch.randn(5, channels, *(9, 8, 7)[:dims], generator=generator, dtype=dtype)
    with torch.no_grad():
        shape = layer(x).shape
    return layer, x, torch.randn(shape, generator=generator, dtype=dtype)


@pytest.mark.parametrize("dims", KINDS)
@pytest.mark.parametrize("name", OPTIONS)
def test_gradients_are_those_of_opacus(dims: int, name: str) -> None:
    layer, x, errors = layer_and_records(dims, OPTIONS[name])
    found = convolution_gradients(layer, [x], errors)
    expected = compute_conv_grad_sample(layer, [x], errors)
    assert found.keys() == expected.keys()
    for p, gradient in expected.items():
        torch.testing.assert_close(found[p], gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dims", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (4, 2)], ids=["patches", "groups"])
def test_no_bit_of_a_record_depends_on_another(
    dims: int, dtype: torch.dtype, channels: int, groups: int
) -> None:
    options = {"padding": 1, "groups": groups}
    layer, x, errors = layer_and_records(dims, options, dtype, channels)
    before = convolution_gradients(layer, [x], errors)
    for value in (0.0, 1e30, float("nan")):
        others = torch.arange(5) != 2
        x[others], errors[others] = value, value
        for p, gradient in convolution_gradients(layer, [x], errors).items():
            assert torch.equal(gradient[2], before[p][2])


def by_pixels(x: Tensor) -> Tensor:
    """The same values, the channels of a place side by side in memory."""
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


@pytest.mark.parametrize("dims", KINDS)
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("channels", [1, 4])
def test_any_order_in_memory_gives_the_same(dims: int, name: str, channels: int) -> None:
    """Opacus's own rule reads patches of other records where channels lie side by side."""
    options = {**OPTIONS[name], **({"groups": 1} if channels == 1 else {})}
    layer, x, errors = layer_and_records(dims, options, channels=channels)
    expected = compute_conv_grad_sample(layer, [x], errors)
    for inputs in (x, by_pixels(x)):
        for backprops in (errors, by_pixels(errors)):
            for p, gradient in convolution_gradients(layer, [inputs], backprops).items():
                torch.testing.assert_close(gradient, expected[p], rtol=1e-12, atol=1e-12)


def test_opacus_still_reads_another_order_wrongly() -> None:
    """Where this fails, a newer Opacus does not need the copies that are made for it."""
    layer, x, errors = layer_and_records(2, {})
    right = compute_conv_grad_sample(layer, [x], errors)[layer.weight]
    wrong = compute_conv_grad_sample(layer, [by_pixels(x)], errors)[layer.weight]
    assert float((right - wrong).norm() / right.norm()) > 0.1


@pytest.mark.parametrize("part", ["weight", "bias"])
def test_what_is_not_trained_has_no_gradient(part: str) -> None:
    layer, x, errors = layer_and_records(2, {})
    getattr(layer, part).requires_grad_(False)
    (p,) = convolution_gradients(layer, [x], errors)
    assert p.requires_grad


def test_opacus_itself_is_left_as_it_is() -> None:
    kinds = list(KINDS.values())
    assert all(Hooked.GRAD_SAMPLERS[kind] is convolution_gradients for kind in kinds)
    known = GradSampleModule.GRAD_SAMPLERS
    assert all(known[kind] is not convolution_gradients for kind in kinds)
    assert known.keys() == Hooked.GRAD_SAMPLERS.keys()


def hooked(module: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The gradients of the records by Opacus's hooks, of squared outputs."""
    own = GradSampleModule(deepcopy(module), loss_reduction="sum")
    own(x.clone().requires_grad_()).square().sum().backward()
    return {name: p.grad_sample for name, p in own._module.named_parameters() if p.requires_grad}


MODULES: dict[str, Callable[[], nn.Module]] = {
    "image": lambda: nn.Sequential(
        *(nn.Conv2d(2, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, padding="same"), nn.LayerNorm(4), nn.Tanh(), nn.Flatten()),
        nn.Linear(128, 3),
    ),
    "called twice": lambda: Twice(),
    "one part frozen": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3).requires_grad_(False), nn.Flatten(), nn.Linear(144, 2)
    ),
}


class Twice(nn.Module):
    """A layer that is called twice, the second time on a part of what it gave."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 2, 8, 8) -> (n, 2, 8, 8)."""
        return torch.sigmoid(self.layer(torch.sigmoid(self.layer(x)) * x))


@pytest.mark.parametrize("name", MODULES)
def test_layers_give_what_hooks_give(name: str) -> None:
    torch.manual_seed(3)
    module = MODULES[name]().double()
    x = torch.randn(6, 2, 8, 8, dtype=torch.float64)
    assert takes(module, x)
    found = of_layers(module, lambda: module(x).square().flatten(1).sum(dim=1))
    named = {name: found[p] for name, p in module.named_parameters() if p.requires_grad}
    expected = hooked(module, x)
    assert named.keys() == expected.keys()
    for key, gradient in expected.items():
        torch.testing.assert_close(named[key], gradient, rtol=1e-12, atol=1e-12)


def test_a_layer_that_is_not_called_has_zeros() -> None:
    module = nn.ModuleDict({"used": nn.Linear(3, 2), "not": nn.Linear(3, 2)})
    x = torch.ones(4, 3)
    found = of_layers(module, lambda: module["used"](x).sum(dim=1))
    assert found.keys() == set(module.parameters())
    for p in module["not"].parameters():
        assert found[p].shape == (4, *p.shape)
        assert not found[p].any()


def test_a_layer_of_other_than_the_records_is_refused() -> None:
    """Two positions of a record that a layer takes for two records would be clipped apart."""
    layer = nn.Linear(3, 2)
    x = torch.ones(4, 2, 3)
    with pytest.raises(ValueError, match="other than 4 outputs"):
        of_layers(layer, lambda: layer(x.flatten(0, 1)).sum(dim=1).view(4, 2).sum(dim=1))


def test_what_it_cannot_do_is_left_to_hooks() -> None:
    x, tied = torch.ones(2, 3), nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    assert takes(tied, x)
    tied[1].weight = tied[0].weight
    assert not takes(tied, x)
    assert not takes(nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True)), x)
    assert not takes(nn.Sequential(nn.InstanceNorm1d(3, affine=True)), torch.ones(2, 3, 4))
