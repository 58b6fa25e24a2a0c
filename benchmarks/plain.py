"""Network ``conv`` as papers and tutorials write it: what others are measured with."""

from __future__ import annotations

from torch import nn


def as_written(body: nn.Module) -> nn.Sequential:
    """The layers of a ``Conv`` body with ReLU before each pool, and images in torch's own order."""
    layers = list(body.children())
    for number, layer in enumerate(layers[:-1]):
        if isinstance(layer, nn.MaxPool2d):
            layers[number], layers[number + 1] = layers[number + 1], layer
    return nn.Sequential(*layers)
