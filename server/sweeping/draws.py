"""How a sweep draws values of a key at random: the registry ``DRAWS``, by the yaml key ``draw``."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log
from typing import Annotated, Any, Protocol

import numpy as np
from pydantic import Field

from metaward.options import Registry

DIGITS = 4
"""Drawn numbers have this many significant digits, so that a person can type them again."""


class Draw(Protocol):
    """What every entry of ``DRAWS`` offers."""

    def value(self, generator: np.random.Generator) -> Any:
        """The next value, as plain data for a yaml file."""
        ...


@dataclass(frozen=True)
class Uniform:
    """A number between ``low`` and ``high``, each as likely as any other."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_order(self.low, self.high)

    def value(self, generator: np.random.Generator) -> float:
        """The next number, rounded to ``DIGITS`` digits and never outside the limits."""
        return _rounded(generator.uniform(self.low, self.high), self.low, self.high)


@dataclass(frozen=True)
class LogUniform:
    """A number between ``low`` and ``high`` whose logarithm is uniform: for rates and weights."""

    low: Annotated[float, Field(gt=0)]
    high: float

    def __post_init__(self) -> None:
        _check_order(self.low, self.high)

    def value(self, generator: np.random.Generator) -> float:
        """The next number, rounded to ``DIGITS`` digits and never outside the limits."""
        drawn = exp(generator.uniform(log(self.low), log(self.high)))
        return _rounded(drawn, self.low, self.high)


@dataclass(frozen=True)
class WholeNumber:
    """A whole number from ``low`` to ``high``, both of them included."""

    low: int
    high: int

    def __post_init__(self) -> None:
        _check_order(self.low, self.high)

    def value(self, generator: np.random.Generator) -> int:
        """The next number."""
        return int(generator.integers(self.low, self.high, endpoint=True))


@dataclass(frozen=True)
class OneOf:
    """One of ``values``, each as likely as any other."""

    values: Annotated[tuple[Any, ...], Field(min_length=1)]

    def value(self, generator: np.random.Generator) -> Any:
        """The next value."""
        return self.values[int(generator.integers(len(self.values)))]


DRAWS: dict[str, type[Any]] = {
    "uniform": Uniform,
    "log_uniform": LogUniform,
    "integer": WholeNumber,
    "choice": OneOf,
}
DRAW = Registry("draw", DRAWS)


def _check_order(low: float, high: float) -> None:
    if low >= high:
        raise ValueError(f"low: {low} is not below high = {high}")


def _rounded(value: float, low: float, high: float) -> float:
    return min(max(float(f"{value:.{DIGITS}g}"), low), high)
