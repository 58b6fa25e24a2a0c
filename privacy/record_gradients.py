"""Opacus's hooks with one convolution for the gradients of all records of a convolution.

Opacus copies every patch of an input and multiplies it with the errors. But the gradient of one
record's weights is a convolution, too, and a convolution whose channels are in groups computes one
for each group alone (Rochette, Manoel, Tramel 2019: Efficient Per-Example Gradient Computations in
Convolutional Neural Networks). With the records folded into groups, the library's own gradient of
the weights of such a convolution is the gradient of every record. No two records meet in a sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, TypeAlias

import torch
from opacus.grad_sample import GradSampleModule
from opacus.grad_sample.conv import compute_conv_grad_sample
from torch import Tensor, nn

Convolution: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d
Gradients = dict[Tensor, Tensor]
"""By the parameter."""


def convolution_gradients(
    layer: Convolution, activations: Sequence[Tensor], backprops: Tensor
) -> Gradients:
    """The gradients (n, ...) of weights and bias for each of n records, as Opacus asks for them.

    ``activations`` holds the layer's input (n, in, ...), ``backprops`` (n, out, ...) are the errors
    of its output. A padding that is a word, or is no zeros, is left to Opacus.
    """
    if isinstance(layer.padding, str) or layer.padding_mode != "zeros" or not len(backprops):
        known: Gradients = compute_conv_grad_sample(layer, activations, backprops)
        return known
    found: Gradients = {}
    if layer.weight.requires_grad:
        found[layer.weight] = _weights(layer, activations[0].to(backprops.dtype), backprops)
    if layer.bias is not None and layer.bias.requires_grad:
        found[layer.bias] = backprops.flatten(start_dim=2).sum(dim=2)
    return found


def _weights(layer: Convolution, x: Tensor, errors: Tensor) -> Tensor:
    """The gradients (n, *weight.shape), by a convolution with the groups of n records."""
    n, shape = len(x), layer.weight.shape
    x, errors = (t.contiguous().reshape(1, -1, *t.shape[2:]) for t in (x, errors))
    weights = errors.new_empty(()).expand(n * shape[0], *shape[1:])  # only its shape is read
    found: Tensor = torch.ops.aten.convolution_backward(
        errors,
        x,
        weights,
        None,
        layer.stride,
        layer.padding,
        layer.dilation,
        False,
        [0] * (x.ndim - 2),
        n * layer.groups,
        [False, True, False],
    )[1]
    return found.reshape(n, *shape)


class Hooked(GradSampleModule):  # type: ignore[misc]
    """Opacus's hooks around a module, with sums over records for a loss; Opacus's are unchanged."""

    GRAD_SAMPLERS: ClassVar[dict[type[nn.Module], Callable[..., Gradients]]] = {
        **GradSampleModule.GRAD_SAMPLERS,
        **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), convolution_gradients),
    }

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module, loss_reduction="sum")
