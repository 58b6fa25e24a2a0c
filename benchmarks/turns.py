"""Ways that take turns, so that a machine whose speed drifts slows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

Way = Callable[[], Tensor]
"""What is timed; its result is compared with that of the others."""


def in_turn(
    ways: Mapping[str, Way],
    base: str,
    repeats: int,
    limit: float,
    precise: Mapping[str, Way] | None = None,
) -> dict[str, Any]:
    """Seconds of the processor of every way and turn, and the median of the turns' ratios.

    ``speed`` is relative to the way ``base``. Ends the script where a result differs from that of
    ``base`` by ``limit`` or more, relative to its norm; compared are the ``precise`` ways, the same
    ones in float64, where there are some.
    """
    found = {name: way() for name, way in (precise or ways).items()}
    apart = {name: _apart(one, found[base]) for name, one in found.items()}
    if not max(apart.values()) < limit:
        raise SystemExit(f"results differ: {apart}")
    for way in ways.values():  # once without the clock
        way()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            begun = time.process_time()
            way()
            seconds[name].append(time.process_time() - begun)
    ratios = {name: np.divide(seconds[base], own) for name, own in seconds.items()}
    speed = {name: round(float(np.median(ratio)), 2) for name, ratio in ratios.items()}
    return {"speed": speed, "apart": apart, "seconds": seconds}


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())
