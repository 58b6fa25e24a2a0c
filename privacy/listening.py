"""What the trained layers of a network take and give in a forward pass.

With one backward pass to their outputs this is all that the records' gradients are made of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass
class Calls:
    """The inputs and outputs (n, ...) of one layer in a forward pass."""

    layer: nn.Module
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    versions: list[tuple[int, int]] = field(default_factory=list)
    """How often an input and an output had been written to when the layer was done."""

    def overwritten(self) -> bool:
        """Whether another layer has changed one of them in place since."""
        pairs = zip(self.inputs, self.outputs, strict=True)
        return [(x._version, out._version) for x, out in pairs] != self.versions


@contextmanager
def listening(module: nn.Module) -> Iterator[list[Calls]]:
    """The calls of all trained layers of a forward pass within; each output keeps its graph."""
    found = [Calls(layer) for layer in trained_layers(module)]
    handles = [one.layer.register_forward_hook(_noting(one)) for one in found]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _noting(calls: Calls) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def note(_: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        calls.inputs.append(args[0])
        calls.outputs.append(out)
        calls.versions.append((args[0]._version, out._version))

    return note


def errors_of(calls: Sequence[Calls], losses: Tensor) -> list[list[Tensor]]:
    """The errors of each layer's outputs, by one backward pass from the records' ``losses`` (n,).

    No parameter's gradient is computed. ``ValueError`` where an output is not of n records.
    """
    outputs = [out for one in calls for out in one.outputs]
    if any(len(out) != len(losses) for out in outputs):
        raise ValueError(f"a layer gave other than {len(losses)} outputs for as many records")
    errors = iter(torch.autograd.grad(losses.sum(), outputs, materialize_grads=True))
    return [[next(errors) for _ in one.outputs] for one in calls]


def trained_layers(module: nn.Module) -> list[nn.Module]:
    """The layers that have trained parameters of their own, in the order of the parameters."""
    return [
        layer
        for layer in module.modules()
        if any(p.requires_grad for p in layer.parameters(recurse=False))
    ]


def all_apart(layers: Sequence[nn.Module]) -> bool:
    """Whether no parameter belongs to two of the layers."""
    owned = [p for layer in layers for p in layer.parameters(recurse=False)]
    return len(owned) == len(set(owned))
