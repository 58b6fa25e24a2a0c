"""One convolution for the gradients of all records: Opacus's numbers, and no records meet."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from opacus.grad_sample import GradSampleModule
from opacus.grad_sample.conv import compute_conv_grad_sample
from torch import Tensor, nn

from metaward.privacy.record_gradients import Hooked, convolution_gradients

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
    dims: int, options: dict[str, Any], dtype: torch.dtype = torch.float64
) -> tuple[Any, Tensor, Tensor]:
    """A convolution, inputs of five records, and errors of its outputs."""
    generator = torch.Generator().manual_seed(1)
    layer = KINDS[dims](4, 8, 3, **options).to(dtype)
    x = torch.randn(5, 4, *(9, 8, 7)[:dims], generator=generator, dtype=dtype)
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
def test_no_bit_of_a_record_depends_on_another(dims: int, dtype: torch.dtype) -> None:
    layer, x, errors = layer_and_records(dims, {"padding": 1, "groups": 2}, dtype)
    before = convolution_gradients(layer, [x], errors)
    for value in (0.0, 1e30, float("nan")):
        others = torch.arange(5) != 2
        x[others], errors[others] = value, value
        for p, gradient in convolution_gradients(layer, [x], errors).items():
            assert torch.equal(gradient[2], before[p][2])


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
