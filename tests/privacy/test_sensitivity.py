"""The promise of clipping: no unit moves the sum by more than clip.

It is asserted without any tolerance: the difference of two neighbouring sums is exact, because both
are whole numbers of one power of two, and its norm is compared in rational numbers.
"""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from client.models import network
from client.models.conv import Conv
from client.tasks.base import TaskSpec
from privacy.clipping import clipped_sum, gradient, resolution, sum_clipped
from tests.privacy.vectors import (
    EVIL,
    SEEDS,
    choose,
    draw,
    exact_square,
    itself,
    summed,
    units,
)


@settings(max_examples=40)
@given(units(), st.integers(1, 5))
def test_no_unit_moves_the_sum_by_more_than_clip(
    case: tuple[Tensor, Tensor, int, float], chunk: int
) -> None:
    x, group, groups, clip = case
    total = summed(x, group, groups, clip, chunk=chunk)
    assert total.isfinite().all()
    for unit in group.unique():
        others = (group != unit).double()
        moved = total - summed(x, group, groups, clip, weights=others, chunk=chunk)
        assert exact_square(moved) <= Fraction(clip) ** 2


@settings(max_examples=50)
@given(units(), st.sampled_from(EVIL))
def test_whatever_a_record_is_replaced_by_the_sum_moves_by_clip_at_most_from_null(
    case: tuple[Tensor, Tensor, int, float], value: float
) -> None:
    x, _, _, clip = case
    n, alone = len(x), torch.arange(len(x))
    without = summed(x, alone, n, clip, weights=torch.cat([torch.zeros(1), torch.ones(n - 1)]))
    x[0] = value
    assert exact_square(summed(x, alone, n, clip) - without) <= Fraction(clip) ** 2


def test_in_a_network_no_record_changes_what_others_add() -> None:
    """One record of a batch is replaced by hostile ones: the rest of the sum is bit-identical."""
    shape, n, clip = (1, 8, 8), 20, 0.5
    net = network(Conv(8, 2, 4), TaskSpec("classification", shape, 3, 3, True), 3)
    phi, y, group = net.initial(1), choose(3, 3, n), torch.arange(n)
    one = gradient(
        lambda phi, x, y: functional.cross_entropy(net.forward(phi, x), y, reduction="none")
    )

    def total(x: Tensor, weights: Tensor) -> Tensor:
        return clipped_sum(lambda x, y: one(phi, x, y), x, y, group, n, clip, weights)

    clean = draw(2, n, *shape, dtype=torch.float32)
    for row in (0, 7, n - 1):
        others = (group != row).float()
        rest, moves = total(clean, others), []
        for value in EVIL:
            hostile = clean.clone()
            hostile[row] = value
            assert torch.equal(total(hostile, others), rest)
            moves.append(exact_square(total(hostile, torch.ones(n)) - rest))
        assert max(moves) <= Fraction(clip) ** 2
        assert max(moves) > (Fraction(clip) * Fraction("0.999")) ** 2, "something must be clipped"


@given(SEEDS, st.integers(1, 300), st.sampled_from([1e-6, 1.0, 3.0]))
def test_a_clipped_unit_has_the_norm_clip_and_never_more(seed: int, d: int, clip: float) -> None:
    """Also when its norm was clip to the last bit before."""
    vector = draw(seed, 1, d)
    for own in (
        vector * 1e3,
        vector * (clip / vector.norm()),
        vector * (clip / vector.norm()) * (1 + 2**-50),
    ):
        square = exact_square(sum_clipped(own, clip))
        assert Fraction(clip) ** 2 * (1 - Fraction(1, 10**12)) < square <= Fraction(clip) ** 2


def test_worst_rounding_still_stays_below_clip() -> None:
    """A vector within clip whose every coordinate would be rounded up, to a norm above clip.

    Room for 2^24 units makes the step 2^-28. Clip is 64 times 2^22 + 0.55 steps; the vector has
    2^22 + 0.51 steps in each of 64^2 coordinates, rounded 2^22 + 1.
    """
    d, groups, step = 64**2, 2**24, 2.0**-28
    clip = 64 * step * (2**22 + 0.55)
    assert resolution(clip, groups) == step
    x = torch.full((1, d), step * (2**22 + 0.51), dtype=torch.float64)
    assert exact_square(x[0]) < Fraction(clip) ** 2 < exact_square((x[0] / step).round() * step)
    found = clipped_sum(itself, x, torch.zeros(1), torch.zeros(1, dtype=torch.int64), groups, clip)
    assert exact_square(found) <= Fraction(clip) ** 2
    assert float(found.norm()) == pytest.approx(clip, rel=1e-5)


@given(st.floats(1e-9, 1e9), st.integers(1, 10**9))
def test_sums_fill_the_53_bits_and_no_more(clip: float, units: int) -> None:
    steps = Fraction(clip) * units / Fraction(resolution(clip, units))
    assert 2**52 * (1 - Fraction(1, 2**52)) <= steps <= 2**53


def test_a_bad_record_does_not_take_its_patient_along() -> None:
    x = torch.tensor([[math.nan, 0.0], [0.0, 0.5], [0.25, 0.0], [math.inf, -math.inf]])
    found = summed(x, torch.tensor([0, 0, 1, 1]), 2, 1.0)
    assert found.tolist() == [0.25, 0.5]


def test_huge_float64_vectors_count_as_zero_or_are_clipped() -> None:
    x = torch.tensor([[1e300, 1e300], [1e308, 0.0], [1e150, 0.0]], dtype=torch.float64)
    found = summed(x, torch.tensor([0, 0, 1]), 2, 1.0)
    torch.testing.assert_close(found, torch.tensor([1.0, 0.0]).double(), rtol=1e-8, atol=0)
