"""Clipped sums: equal to a slow loop, whatever the chunks and masks; bad input."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from metaward.client.models import network
from metaward.client.models.conv import Conv
from metaward.client.models.mlp import Mlp
from metaward.client.tasks.base import TaskSpec
from metaward.client.tasks.kinds import CLASSIFICATION
from metaward.privacy import clipping
from metaward.privacy.clipping import clipped_sum, resolution, rows, sum_clipped
from metaward.privacy.session import gradient
from tests.privacy.vectors import (
    SEEDS,
    choose,
    draw,
    itself,
    oracle,
    summed,
    units,
)

# ------------------------------------------------------------------- equal to the definition


@settings(max_examples=40)
@given(SEEDS, st.integers(1, 30), st.integers(1, 8), st.sampled_from([1e-3, 1.0, 2.5, 1e3]))
def test_equals_the_slow_loop(seed: int, n: int, groups: int, clip: float) -> None:
    x, group = draw(seed, n, 5), choose(seed, groups, n)
    found = summed(x, group, groups, clip, chunk=7)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, oracle(x, group, clip), rtol=1e-11, atol=clip * 1e-11)


def one_by_one(vectors: Tensor, clip: float) -> Tensor:
    """Each row shortened and rounded alone, as the module's words say."""
    step, d = resolution(clip, len(vectors)), vectors.shape[1]
    room = clip * (1 - (d + 16) * 2.0**-53) - step * math.sqrt(d) / 2
    total = torch.zeros(d, dtype=torch.float64)
    for row in vectors.double():
        norm = torch.linalg.vector_norm(row[None], dim=1)
        if norm.isfinite():
            total += (row * ((room / norm).clamp(max=1.0) / step)).round()
    return total * step


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "d"), [(1, 1), (7, 5), (64, 1000), (25, 11_227), (3, 150_001)])
@pytest.mark.parametrize("wrong", [(), (0,), (0, -1)], ids=["good", "one wrong", "two wrong"])
def test_every_bit_is_that_of_one_vector_after_the_other(
    n: int, d: int, wrong: tuple[int, ...], dtype: torch.dtype
) -> None:
    """In whatever blocks of rows and columns it is computed."""
    vectors = draw(n + d, n, d).to(dtype) * torch.logspace(-3, 1, n, dtype=dtype)[:, None]
    vectors[n // 2] = 0
    for row, value in zip(wrong, (math.nan, math.inf), strict=False):
        vectors[row, d // 2] = value
    found = clipping.clipped_units([vectors], torch.arange(n), 0.7, resolution(0.7, n))
    assert torch.equal(found, one_by_one(vectors, 0.7))


@pytest.mark.parametrize("sizes", [(1, 1), (5, 700, 3), (40_000, 1, 110_000)])
@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_pieces_of_vectors_are_clipped_as_one(sizes: tuple[int, ...], value: float) -> None:
    """A piece clipped alone would let more than the norm through, and a number that is not finite
    in one piece takes the whole vector along."""
    n, d = 6, sum(sizes)
    vectors = draw(d, n, d) * torch.logspace(-4, 1, n)[:, None]
    vectors[2, -1] = value
    step = resolution(0.7, n)
    found = clipping.clipped_units(torch.split(vectors, sizes, dim=1), torch.arange(n), 0.7, step)
    expected = one_by_one(vectors, 0.7)
    assert float((found - expected).abs().max()) <= n * step
    for row in range(n):
        others = vectors.clone()
        others[row] = 0
        less = clipping.clipped_units(torch.split(others, sizes, dim=1), torch.arange(n), 0.7, step)
        assert float((found - less).norm()) <= 0.7


@pytest.mark.parametrize("sizes", [(1, 1), (5, 700, 3)])
def test_pieces_of_patients_are_those_of_whole_vectors(sizes: tuple[int, ...]) -> None:
    vectors, slots = draw(7, 6, sum(sizes)), torch.tensor([0, 1, 0, 2, 1, 0])
    vectors[4, 0] = math.nan
    pieces, step = torch.split(vectors, sizes, dim=1), resolution(0.7, 3)
    found = clipping.clipped_units(pieces, slots, 0.7, step)
    assert torch.equal(found, clipping.clipped_units([vectors], slots, 0.7, step))


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
    net = network(architecture, TaskSpec(CLASSIFICATION, shape, 3, 3, True), 3)
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
    assert [rows(d, gpu=True) for d in (0, 2**17, 2**20, 2**30)] == [512, 512, 64, 1]


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
