"""Records that are their own contribution, hostile ones too; the slow definition of a sum."""

import math
from fractions import Fraction

import torch
from hypothesis import strategies as st
from torch import Tensor

from metaward.privacy.clipping import clipped_sum

EVIL = (0.0, 1e-45, 1.0, -1e30, 3e38, math.inf, -math.inf, math.nan)
SEEDS = st.integers(0, 2**32)


def itself(x: Tensor, y: Tensor) -> Tensor:
    """A contribution that lets a test choose each vector: the record itself."""
    return x


def draw(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def choose(seed: int, high: int, n: int) -> Tensor:
    return torch.randint(high, (n,), generator=torch.Generator().manual_seed(seed))


def oracle(vectors: Tensor, group: Tensor, clip: float) -> Tensor:
    """The definition, one unit after the other, in float64."""
    total = torch.zeros(vectors.shape[1], dtype=torch.float64)
    for unit in group.unique():
        own = [v.double() for v, g in zip(vectors, group, strict=True) if g == unit]
        vector = torch.stack([v if v.isfinite().all() else torch.zeros_like(v) for v in own]).sum(0)
        total += vector * min(1.0, clip / (float(vector.norm()) or 1.0))
    return total


def exact_square(vector: Tensor) -> Fraction:
    return sum((Fraction(value) ** 2 for value in vector.tolist()), Fraction(0))


def summed(x: Tensor, group: Tensor, groups: int, clip: float, **options: object) -> Tensor:
    y = torch.zeros(len(x))
    return clipped_sum(itself, x, y, group, groups, clip, **options)  # type: ignore[arg-type]


@st.composite
def units(pick: st.DrawFn) -> tuple[Tensor, Tensor, int, float]:
    """Records with adversarial ones among them, duplicates, and groups of any sizes."""
    n, d, groups = pick(st.integers(1, 12)), pick(st.integers(1, 6)), pick(st.integers(1, 12))
    x = draw(pick(SEEDS), n, d, dtype=pick(st.sampled_from([torch.float32, torch.float64])))
    for row in pick(st.lists(st.integers(0, n - 1), max_size=6)):
        x[row, pick(st.integers(0, d - 1))] = pick(st.sampled_from(EVIL))
    for row in pick(st.lists(st.integers(0, n - 1), max_size=3)):
        x[row] = x[0]
    group = torch.tensor(pick(st.lists(st.integers(0, groups - 1), min_size=n, max_size=n)))
    return x, group, groups, pick(st.sampled_from([1e-6, 0.3, 1.0, 7.0, 1e6]))
