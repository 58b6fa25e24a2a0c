"""A user's own network as an entry of the registry: a function, a class or a module."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, fields, make_dataclass
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import nn

from metaward.client.models.base import Architecture, build
from metaward.client.models.drawing import drawing
from metaward.plugins import of_protocol, options_of

Make = Callable[..., nn.Module]
"""(input_shape, option=default, ...) -> the body, which gives features (batch, features)."""


@dataclass(frozen=True)
class OwnNetwork:
    """What was registered: how to make the body, and whether it keeps the weights made there."""

    make: Make | nn.Module
    own_start: bool = True


@dataclass(frozen=True)
class Made(Architecture):
    """A network that a function makes; its yaml options are the function's own parameters."""

    make: ClassVar[Make]
    own_start: ClassVar[bool]

    def body(self, input_shape: tuple[int, ...]) -> nn.Module:
        """The module that the function returns."""
        options = {option.name: getattr(self, option.name) for option in fields(self)}
        return type(self).make(input_shape, **options)

    def features(self, input_shape: tuple[int, ...]) -> int:
        """The number that the body gives for made-up records."""
        return _width(self, input_shape)


@lru_cache
def _width(architecture: Made, input_shape: tuple[int, ...]) -> int:
    body = build(architecture, input_shape)
    try:
        with torch.no_grad(), drawing():
            features = body(torch.zeros(2, *input_shape))
        width = features.shape[1]
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        text = f"network: two records of shape {input_shape} must give (2, features), but: {reason}"
        raise ValueError(text) from error
    return int(width)


def as_architecture(name: str, thing: Any) -> type[Any]:
    """The registry entry for a class that has all of ``Architecture``, or for a maker of the body.

    A maker is a module, of which every network gets a copy, or a function (or a module's class)
    whose first parameter is the input's shape; its other parameters are yaml options. ``TypeError``
    where it is neither.
    """
    own = thing if isinstance(thing, OwnNetwork) else OwnNetwork(thing)
    if isinstance(own.make, type) and hasattr(own.make, "body"):
        return of_protocol(Architecture)(name, own.make)
    if not callable(own.make):
        raise TypeError(f"{name}: give a module or a function that makes one, not {own.make!r:.80}")
    make, options = own.make, []
    if isinstance(own.make, nn.Module):
        make = _copies(own.make)
    else:
        options = options_of(name, own.make, 1, "the input's shape")
    namespace = {"make": staticmethod(make), "own_start": own.own_start}
    return make_dataclass(
        name.title().replace("_", ""), options, bases=(Made,), namespace=namespace, frozen=True
    )


def _copies(module: nn.Module) -> Make:
    def make(input_shape: tuple[int, ...]) -> nn.Module:
        return deepcopy(module)

    return make
