"""The gradient of each record, by Opacus's rules for each layer, and one for convolutions.

Opacus's hooks compute them in the backward pass of a whole training step, which also gives the
gradients of the inputs and of the summed loss. Where a network is made of layers of ``LAYERS``
alone, ``of_layers`` goes back to their outputs only, and calls the same rules with what it found.

Opacus's rule for convolutions copies every patch of an input and multiplies it with the errors. But
the gradient of one record's weights is a convolution, too, and a convolution whose channels are in
groups computes one for each group alone (Rochette, Manoel, Tramel 2019: Efficient Per-Example
Gradient Computations in Convolutional Neural Networks). With the records folded into groups, the
library's own gradient of the weights of such a convolution is the gradient of every record. Inputs
of few channels have small patches, for which products are faster. No two records meet in a sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, TypeAlias, TypeGuard

import torch
from opacus.grad_sample import GradSampleModule
from opacus.grad_sample.conv import compute_conv_grad_sample
from torch import Tensor, nn
from torch.nn import functional

from metaward.privacy.listening import all_apart, errors_of, listening, trained_layers

Convolution: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d
Gradients = dict[Tensor, Tensor]
"""By the parameter."""
LAYERS = frozenset({nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.GroupNorm, nn.LayerNorm})
"""What takes one tensor of records and gives one, and has a rule of Opacus."""
SMALL = 32
"""The most numbers of a small patch."""


def convolution_gradients(
    layer: Convolution, activations: Sequence[Tensor], backprops: Tensor
) -> Gradients:
    """The gradients (n, ...) of weights and bias for each of n records, as Opacus asks for them.

    ``activations`` holds the layer's input (n, in, ...), ``backprops`` (n, out, ...) are the errors
    of its output. A padding that is a word, or is no zeros, is left to Opacus, which reads memory
    as if channels came one after the other (Opacus 1.6): with another order its patches are wrong,
    and hold numbers of other records. So both are put into that order here.
    """
    x = activations[0].to(backprops.dtype)
    if _of_small_patches(layer):
        return _by_patches(layer, x, backprops)
    x, errors = x.contiguous(), backprops.contiguous()
    if isinstance(layer.padding, str) or layer.padding_mode != "zeros" or not len(errors):
        known: Gradients = compute_conv_grad_sample(layer, [x], errors)
        return known
    found: Gradients = {}
    if layer.weight.requires_grad:
        found[layer.weight] = _weights(layer, x, errors)
    if layer.bias is not None and layer.bias.requires_grad:
        found[layer.bias] = errors.flatten(start_dim=2).sum(dim=2)
    return found


def _of_small_patches(layer: Convolution) -> TypeGuard[nn.Conv2d]:
    """Whether a plain convolution of images has patches of so few numbers that copies are cheap."""
    plain = layer.padding_mode == "zeros" and layer.groups == 1 and isinstance(layer.padding, tuple)
    return isinstance(layer, nn.Conv2d) and plain and layer.weight[0].numel() <= SMALL


def _by_patches(layer: nn.Conv2d, x: Tensor, errors: Tensor) -> Gradients:
    """Products of each record's patches (n, values, places) and errors, in any order in memory."""
    places = errors.movedim(1, -1).flatten(1, -2)  # (n, places, out)
    found: Gradients = {}
    if layer.weight.requires_grad:
        assert not isinstance(layer.padding, str)
        sizes = layer.kernel_size, layer.dilation, layer.padding, layer.stride
        patches = functional.unfold(x, *sizes)
        found[layer.weight] = torch.bmm(patches, places).mT.reshape(-1, *layer.weight.shape)
    if layer.bias is not None and layer.bias.requires_grad:
        found[layer.bias] = places.sum(dim=1)
    return found


def _weights(layer: Convolution, x: Tensor, errors: Tensor) -> Tensor:
    """The gradients (n, *weight.shape), by a convolution with the groups of n records."""
    n, shape = len(x), layer.weight.shape
    x, errors = (t.reshape(1, -1, *t.shape[2:]) for t in (x, errors))
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


def takes(module: nn.Module, x: Tensor) -> bool:
    """Whether ``of_layers`` can do it, for records like those of ``x`` (n, ...): all layers are
    known, and nothing works in place on what they took or gave."""
    layers = trained_layers(module)
    if not all_apart(layers) or not all(type(layer) in LAYERS for layer in layers):
        return False
    with torch.no_grad(), listening(module) as calls:
        module(x[:1])
    return not any(one.overwritten() for one in calls)


def of_layers(module: nn.Module, losses: Callable[[], Tensor]) -> Gradients:
    """The gradients (n, ...) of the records' ``losses`` (n,), which are computed with the module.

    ``ValueError`` where a layer was given other than n records. A parameter of a layer that was not
    called has zeros.
    """
    with listening(module) as calls:
        each = losses()
    found: Gradients = {
        p: p.new_zeros(()).expand(len(each), *p.shape)
        for p in module.parameters()
        if p.requires_grad
    }
    for one, errors in zip(calls, errors_of(calls, each), strict=True):
        rule = Hooked.GRAD_SAMPLERS[type(one.layer)]
        for number, (x, back) in enumerate(zip(one.inputs, errors, strict=True)):
            for p, gradient in rule(one.layer, [x.detach()], back).items():
                found[p] = found[p] + gradient if number else gradient
    return found
