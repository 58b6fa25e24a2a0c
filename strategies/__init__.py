"""How updates become the next theta: the registries of combiners and outer optimisers."""

from __future__ import annotations

from metaward.strategies.combine import (
    Combine,
    GeometricMedian,
    Krum,
    Mean,
    Median,
    TrimmedMean,
)
from metaward.strategies.outer import Adam, Momentum, Outer, Sgd

COMBINE: dict[str, type[Combine]] = {
    "mean": Mean,
    "median": Median,
    "trimmed_mean": TrimmedMean,
    "krum": Krum,
    "geometric_median": GeometricMedian,
}

OUTER: dict[str, type[Outer]] = {
    "sgd": Sgd,
    "momentum": Momentum,
    "adam": Adam,
}

__all__ = ["COMBINE", "OUTER", "Combine", "Outer"]
