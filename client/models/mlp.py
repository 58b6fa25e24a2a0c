"""Fully connected networks for tables, scalars and anything flat."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Annotated, ClassVar

from pydantic import Field
from torch import nn

from metaward.client.models.base import Architecture

Width = Annotated[int, Field(ge=1, le=4096)]


@dataclass(frozen=True)
class Mlp(Architecture):
    """Linear layers with ReLU between; (40, 40) is the sinusoid network of Finn et al. (2017)."""

    hidden: tuple[Width, ...] = (40, 40)
    """Widths of the hidden layers; an empty list gives logistic (or linear) regression."""

    own_start: ClassVar[bool] = False

    def body(self, input_shape: tuple[int, ...]) -> nn.Module:
        """A flatten and the hidden layers: (batch, *input_shape) -> (batch, features)."""
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise((prod(input_shape), *self.hidden)):
            layers += [nn.Linear(before, after), nn.ReLU()]
        return nn.Sequential(*layers)

    def features(self, input_shape: tuple[int, ...]) -> int:
        """The width of the last hidden layer, or the flat input's where there is none."""
        return self.hidden[-1] if self.hidden else prod(input_shape)
