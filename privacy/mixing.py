"""Whether a network lets one record of a batch reach another one's output."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

LARGER = 1000.0


def mixing(outputs: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """How far the first record's output moves, over its size, when the others are replaced.

    They are made ``LARGER`` times as large, then NaN; infinity where the output is then not finite.
    ``outputs`` maps x (n, ...) to (n, ...); n is above 1.
    """
    with torch.no_grad():
        whole = outputs(x)[0]
        moved = [outputs(torch.cat([x[:1], x[1:] * by]))[0] - whole for by in (LARGER, torch.nan)]
    size = max(float(whole.abs().max()), 1e-12)
    farthest = float(torch.stack(moved).abs().max()) / size
    return farthest if math.isfinite(farthest) else math.inf
