"""Clipped sums against a slow loop, and the promise: no unit moves the sum by more than clip.

Sensitivity is asserted without any tolerance: the difference of two neighbouring sums is exact,
because both are whole numbers of one power of two, and its norm is compared in rational numbers.
"""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from client.models import network
from client.models.conv import Conv
from client.models.mlp import Mlp
from client.tasks.base import TaskSpec
from privacy import clipping
from privacy.clipping import clipped_sum, gradient, resolution, rows, sum_clipped

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


# ------------------------------------------------------------------- equal to the definition


@settings(max_examples=40)
@given(SEEDS, st.integers(1, 30), st.integers(1, 8), st.sampled_from([1e-3, 1.0, 2.5, 1e3]))
def test_equals_the_slow_loop(seed: int, n: int, groups: int, clip: float) -> None:
    x, group = draw(seed, n, 5), choose(seed, groups, n)
    found = summed(x, group, groups, clip, chunk=7)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, oracle(x, group, clip), rtol=1e-11, atol=clip * 1e-11)


def test_by_hand() -> None:
    """Units {(3, 4)}, {(0.6, 0), (0, 0.8)} and {(1, 0), (-1, 0)} at clip 1: (0.6, 0.8) cut from
    norm 5; (0.6, 0.8), not cut because it is summed first; and zero."""
    x = torch.tensor([[3.0, 4.0], [0.6, 0.0], [1.0, 0.0], [0.0, 0.8], [-1.0, 0.0]])
    found = summed(x, torch.tensor([0, 1, 2, 1, 2]), 3, 1.0)
    torch.testing.assert_close(found, torch.tensor([1.2, 1.6]).double(), rtol=1e-7, atol=0)


NETWORKS = [(Conv(8, 2, 4), (1, 8, 8)), (Conv(8, 2, 4), (2, 16)), (Mlp((6,)), (5,))]


@pytest.mark.parametrize(("architecture", "shape"), NETWORKS, ids=["conv2d", "conv1d", "mlp"])
@pytest.mark.parametrize("patients", [False, True])
def test_gradients_of_networks(
    architecture: Conv | Mlp, shape: tuple[int, ...], patients: bool
) -> None:
    """In float64, against one autograd call a record."""
    net = network(architecture, TaskSpec("classification", shape, 3, 3, True), 3)
    phi, x, y = net.initial(1).double(), draw(2, 10, *shape), choose(3, 3, 10)

    def losses(phi: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(net.forward(phi, x), y, reduction="none")

    slow = []
    for j in range(10):
        leaf = phi.clone().requires_grad_()
        slow.append(torch.autograd.grad(losses(leaf, x[j : j + 1], y[j : j + 1]).sum(), leaf)[0])
    vectors = torch.stack(slow)
    group = torch.arange(10) % 4 if patients else torch.arange(10)
    one = gradient(losses)
    for clip in (1e-2, float(vectors.norm(dim=1).median()), 1e3):
        found = clipped_sum(lambda x, y: one(phi, x, y), x, y, group, 10, clip, chunk=3)
        torch.testing.assert_close(
            found, oracle(vectors, group, clip), rtol=1e-9, atol=1e-11 * clip
        )


def test_squared_error_gradients_by_hand() -> None:
    """Loss (phi . x - y)^2 at phi = (1, 0): gradient 2 (phi . x - y) x."""
    one = gradient(lambda phi, x, y: (x @ phi - y).square())
    phi = torch.tensor([1.0, 0.0])
    found = one(phi, torch.tensor([3.0, 2.0]), torch.tensor(1.0))
    assert found.tolist() == [12.0, 8.0]
    assert not found.requires_grad


def test_no_graph_is_kept() -> None:
    root = torch.ones(3, requires_grad=True)
    found = clipped_sum(
        lambda x, y: x * root, torch.ones(2, 3), torch.zeros(2), torch.arange(2), 2, 1.0
    )
    assert not found.requires_grad


def test_layers_that_mix_records_see_one_record_only() -> None:
    """Batch statistics of one record: what stands beside it in the batch changes nothing."""
    norm = nn.BatchNorm1d(3, affine=False, track_running_stats=False)

    def mixed(x: Tensor, y: Tensor) -> Tensor:
        return norm(x.unsqueeze(0))[0, :, 0] + x[:, 0]

    x = draw(0, 4, 3, 6)
    full = clipped_sum(mixed, x, torch.zeros(4), torch.arange(4), 4, 1e3)
    parts = [
        clipped_sum(mixed, x[j : j + 1], torch.zeros(1), torch.arange(1), 4, 1e3) for j in range(4)
    ]
    torch.testing.assert_close(full, torch.stack(parts).sum(0))


# --------------------------------------------------------------------------- sensitivity


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


# --------------------------------------------------------------------- masks and chunks


@settings(max_examples=40)
@given(units(), SEEDS)
def test_records_of_weight_zero_are_as_if_not_there(
    case: tuple[Tensor, Tensor, int, float], seed: int
) -> None:
    x, group, groups, clip = case
    weights = choose(seed, 2, len(x))
    if not weights.any():
        assert not summed(x, group, groups, clip, weights=weights).any()
        return
    kept = weights.bool()
    found = summed(x, group, groups, clip, weights=weights)
    torch.testing.assert_close(found, summed(x[kept], group[kept], groups, clip), rtol=0, atol=0)


@settings(max_examples=30)
@given(units(), st.integers(1, 13))
def test_the_chunk_changes_nothing(case: tuple[Tensor, Tensor, int, float], chunk: int) -> None:
    """Equal bits where each record is its own unit; sums within a unit may round another way."""
    x, group, groups, clip = case
    alone = torch.arange(len(x))
    one = summed(x, alone, len(x), clip, chunk=chunk)
    assert torch.equal(one, summed(x, alone, len(x), clip))
    whole, parts = summed(x, group, groups, clip), summed(x, group, groups, clip, chunk=chunk)
    torch.testing.assert_close(parts, whole, rtol=1e-9, atol=clip * 1e-9)


@settings(max_examples=30)
@given(units(), SEEDS)
def test_the_order_of_units_changes_nothing(
    case: tuple[Tensor, Tensor, int, float], seed: int
) -> None:
    x, _, _, clip = case
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    alone = torch.arange(len(x))
    assert torch.equal(summed(x, alone, len(x), clip), summed(x[order], alone, len(x), clip))


def test_long_vectors_are_clipped_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x = draw(1, 9, 100, dtype=torch.float32)
    whole = sum_clipped(x, 1.0)
    for block in (1, 250, 10**6):
        monkeypatch.setattr(clipping, "_BLOCK", block)
        assert torch.equal(sum_clipped(x, 1.0), whole)
    torch.testing.assert_close(whole, oracle(x, torch.arange(9), 1.0), rtol=1e-7, atol=1e-8)


def test_arguments_stay_as_they_were() -> None:
    x = torch.tensor([[math.nan, 1.0], [3.0, 4.0]], dtype=torch.float64)
    constant = torch.tensor([math.nan, 1.0], dtype=torch.float64)
    before = x.clone(), constant.clone()
    for group in (torch.arange(2), torch.zeros(2, dtype=torch.int64)):
        summed(x, group, 2, 1.0, chunk=1)
        clipped_sum(lambda x, y: constant, x, torch.zeros(2), group, 2, 1.0, chunk=1)
        sum_clipped(x, 1.0)
    torch.testing.assert_close((x, constant), before, rtol=0, atol=0, equal_nan=True)


def test_rows_bound_the_memory() -> None:
    assert [rows(d) for d in (0, 1, 2**18, 2**20, 2**30)] == [64, 64, 64, 16, 1]


# --------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": torch.zeros(0, 2), "y": torch.zeros(0)}, "at least one record"),
        ({"y": torch.zeros(2)}, "3 records, 2 labels"),
        ({"group": torch.zeros(3)}, r"float32.*int64"),
        ({"group": torch.tensor([0, 1])}, r"shape \(2,\)"),
        ({"group": torch.tensor([0, 1, 3])}, r"from 0 to 3.*\[0, 3\)"),
        ({"group": torch.tensor([0, -1, 2])}, r"from -1 to 2"),
        ({"clip": 0.0}, "clip = 0.0"),
        ({"clip": math.nan}, "clip = nan"),
        ({"clip": math.inf}, "clip = inf"),
        ({"chunk": 0}, "chunk = 0"),
        ({"weights": torch.tensor([0.0, 1.0, 0.5])}, "0 or 1"),
        ({"weights": torch.tensor([0.0, 1.0, math.nan])}, "0 or 1"),
        ({"weights": torch.ones(2)}, "weights must be 3 values"),
        ({"contribution": lambda x, y: x.sum()}, r"flat vector"),
        ({"contribution": lambda x, y: x.long()}, r"int64.*flat vector"),
    ],
)
def test_bad_arguments_are_named(changes: dict[str, object], message: str) -> None:
    good = {
        "contribution": itself,
        "x": torch.zeros(3, 2),
        "y": torch.zeros(3),
        "group": torch.arange(3),
        "groups": 3,
        "clip": 1.0,
    }
    assert clipped_sum(**good).shape == (2,)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        clipped_sum(**good | changes)  # type: ignore[arg-type]


def test_rows_of_vectors_are_asked_for() -> None:
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        sum_clipped(torch.zeros(3), 1.0)
