"""Opacus's gradients in the exact optimizer: the sums of vmap, whole units, one noise."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional

from metaward.client.models import Architecture, Network, network
from metaward.client.models.conv import Conv
from metaward.client.models.fused import fused_kernel
from metaward.client.models.mlp import Mlp
from metaward.client.tasks.base import TaskSpec
from metaward.client.tasks.kinds import CLASSIFICATION, cross_entropy
from metaward.privacy import Batch, Objective
from metaward.privacy.clipping import clipped_sum
from metaward.privacy.kernel import Kernel
from metaward.privacy.noise import SeededNoise
from metaward.privacy.optimizer import RecordsAt, _parts, noisy_gradients, takes
from metaward.privacy.session import gradient
from tests.client.models.flat import Flat
from tests.client.models.fused.compilers import needs_compiler

CASES: dict[str, tuple[Architecture, tuple[int, ...], int]] = {
    "conv-2d": (Conv(8, 2, 4), (1, 8, 8), 3),
    "conv-2d-stride": (Conv(8, 2, 4, "stride"), (3, 9, 7), 3),
    "conv-1d": (Conv(8, 2, 4), (2, 17), 3),
    "mlp": (Mlp((6, 5)), (2, 3), 3),
    "kernel": (Conv(16, 2, 4), (1, 8, 8), 3),
    "adapter": (Flat(rank=3), (6,), 3),
    "adapter without a head": (Flat(rank=3), (6,), 0),
}
NAMES = [pytest.param(name, marks=needs_compiler if name == "kernel" else ()) for name in CASES]
N = 150
"""More records than are held at a time."""


@pytest.fixture(autouse=True)
def few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums without records' gradients hold more at a time than there are here."""
    monkeypatch.setattr("metaward.privacy.optimizer.GHOST_RECORDS", 64)


@dataclass(frozen=True)
class Case:
    """A network with a loss, some records at a point phi, and their units."""

    net: Network
    objective: Objective
    phi: Tensor
    batch: Batch
    group: Tensor
    mask: Tensor

    @property
    def units(self) -> int:
        return int(self.group.max()) + 1

    def place(self, drawn: Tensor | None = None) -> RecordsAt:
        return RecordsAt(self.phi, self.batch, self.group, drawn)

    def by_opacus(
        self, clip: float, *places: RecordsAt, sigma: float = 0.0, seed: int = 1
    ) -> Tensor:
        nothing = torch.zeros(int(self.mask.sum()), dtype=torch.float64)
        parts = places or (self.place(),)
        count = sum(int(place.group.max()) + 1 for place in parts)
        source = SeededNoise(seed)
        return noisy_gradients(
            self.objective, parts, self.mask, clip, sigma, source, count, nothing
        )

    def by_vmap(self, clip: float, drawn: Tensor | None = None) -> Tensor:
        one = gradient(self.objective)
        x, y, _ = self.batch
        return clipped_sum(
            lambda x, y: one(self.phi, x, y)[self.mask],
            x,
            y,
            self.group,
            self.units,
            clip,
            drawn,
        )

    def norms(self) -> Tensor:
        one = gradient(self.objective)
        x, y, _ = self.batch
        found: Tensor = torch.func.vmap(lambda x, y: one(self.phi, x, y)[self.mask])(x, y)
        return found.norm(dim=1)


def loss(outputs: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, y, reduction="none")


def case(name: str, records_of_a_unit: int = 1, dtype: torch.dtype = torch.float64) -> Case:
    architecture, shape, outputs = CASES[name]
    net = network(architecture, TaskSpec(CLASSIFICATION, shape, 3, 3, True), outputs)
    generator = torch.Generator().manual_seed(3)
    phi = net.initial(1).to(dtype)
    phi = phi + 0.1 * torch.randn(len(phi), generator=generator, dtype=dtype)
    x = torch.randn(N, *shape, generator=generator, dtype=dtype)
    y = torch.randint(3, (N,), generator=generator)
    group = torch.arange(N) % (N // records_of_a_unit)  # not in the order of the records
    kernel = fused_kernel(net, cross_entropy) if name == "kernel" else None
    objective = Objective(net.module, net.forward, loss, kernel)
    return Case(
        net,
        objective,
        phi,
        Batch(x, y, np.arange(N)),
        group,
        net.mask({"body", "norm", "head"}),
    )


@pytest.mark.parametrize("records_of_a_unit", [1, 5])
@pytest.mark.parametrize("name", NAMES)
def test_the_sum_is_that_of_vmap(name: str, records_of_a_unit: int) -> None:
    """With a clip that cuts all, half and none of the vectors; a unit's are summed first."""
    made = case(name, records_of_a_unit)
    norms = made.norms()
    for clip in (float(norms.min()) / 2, float(norms.median()), float(norms.sum())):
        found, expected = made.by_opacus(clip), made.by_vmap(clip)
        assert found.dtype == torch.float64
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8 * clip)
        assert float(expected.norm()) > 0.01 * clip, "a comparison with nothing"


@pytest.mark.parametrize("name", NAMES)
def test_in_float32_too(name: str) -> None:
    made = case(name, dtype=torch.float32)
    clip = float(made.norms().median())
    apart = float((made.by_opacus(clip) - made.by_vmap(clip)).norm())
    assert apart < 1e-4 * clip * math.sqrt(N)


def test_every_clipped_unit_has_the_clip_norm_at_most() -> None:
    """One unit alone: its sum is as long as the clip, and never longer."""
    made = case("mlp")
    for i in range(20):
        alone = replace(
            made,
            batch=Batch(*(part[i : i + 1] for part in made.batch)),
            group=torch.zeros(1).long(),
        )
        norm = float(alone.by_opacus(1e-3).norm())
        assert 0.999e-3 < norm <= 1e-3


def test_coordinates_that_are_not_trained_have_no_part() -> None:
    """The frame is no part of the sum, nor of a record's norm."""
    made = case("adapter without a head")
    assert int(made.mask.sum()) == 6 + 2 * 6 * 3
    assert made.net.dim == 6 * 6 + int(made.mask.sum())
    head = case("adapter")
    only = replace(head, mask=head.net.mask({"head"}))
    assert only.by_opacus(1.0).shape == (6 * 3 + 3,)
    torch.testing.assert_close(only.by_opacus(0.1), only.by_vmap(0.1), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, 1e30])
@pytest.mark.parametrize("name", ["conv-2d", pytest.param("kernel", marks=needs_compiler)])
def test_a_record_that_is_not_finite_counts_as_zero_and_harms_no_other(
    name: str, wrong: float
) -> None:
    made = case(name, dtype=torch.float32)
    x = made.batch.x.clone()
    x[7] = wrong
    spoiled = replace(made, batch=made.batch._replace(x=x))
    without = torch.ones(N, dtype=torch.bool)
    without[7] = False
    rest = made.by_opacus(1.0, made.place(without))
    found = spoiled.by_opacus(1.0)
    assert torch.isfinite(found).all()
    if wrong == 1e30:  # may be finite after the norm layers: then it is one record, clipped
        assert float((found - rest).norm()) <= 1.0
    else:
        assert torch.equal(found, rest)


def test_a_secret_draw_leaves_records_out_without_a_trace() -> None:
    made = case("mlp", 5)
    drawn = made.group % 3 == 0
    found = made.by_opacus(0.5, made.place(drawn))
    torch.testing.assert_close(found, made.by_vmap(0.5, drawn), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", ["conv-1d", pytest.param("kernel", marks=needs_compiler)])
def test_the_record_that_is_nulled_moves_the_sum_alone(name: str) -> None:
    """All other bits stay: neighbouring sums differ by one unit's vector and by nothing else."""
    made = case(name, dtype=torch.float32)
    x = made.batch.x.clone()
    x[11] = 0
    other = replace(made, batch=made.batch._replace(x=x))
    rest = torch.ones(N, dtype=torch.bool)
    rest[11] = False
    one, two = (c.by_opacus(0.5, c.place(rest)) for c in (made, other))
    assert torch.equal(one, two)


def test_tasks_at_points_of_their_own_share_one_noise() -> None:
    made = case("mlp")
    first = RecordsAt(made.phi, made.batch, made.group, None)
    second = RecordsAt(made.phi + 0.3, made.batch, made.group, None)
    alone = [made.by_opacus(0.5, place) for place in (first, second)]
    torch.testing.assert_close(made.by_opacus(0.5, first, second), alone[0] + alone[1])
    known = made.by_opacus(0.5, first, second)
    noise = made.by_opacus(0.5, first, second, sigma=2.0) - known
    again = made.by_opacus(0.5, first, sigma=2.0) - alone[0]
    torch.testing.assert_close(noise, again, rtol=0, atol=1e-3)  # the same draw: one, not two


class Flatland:
    """A kernel for which no record has a slope."""

    def slope(self, phi: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(phi), torch.zeros(())

    def record_gradients(self, phi: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return torch.zeros(len(x), len(phi))


@pytest.mark.parametrize(
    ("records_of_a_unit", "kernel"),
    [(1, None), (2, None), (1, Flatland()), (2, Flatland())],
    ids=["ghost", "hooks", "kernel", "kernel, two records"],
)
def test_noise_is_added_once_and_has_the_promised_deviation(
    records_of_a_unit: int, kernel: Kernel | None
) -> None:
    """sigma * C = 3 on each coordinate, for records in several parts; other scales are refused.

    Kolmogorov-Smirnov at level 1e-6: with 20,000 values a deviation 1.1 times off is found.
    """
    module = nn.Linear(20_000, 1, bias=False)
    objective = Objective(
        module.to("meta"), lambda phi, x: x @ phi[:, None], lambda out, y: out[:, 0] * y, kernel
    )
    phi, n = torch.zeros(20_000), 130
    batch = Batch(torch.zeros(n, 20_000), torch.ones(n), np.arange(n))
    nothing = torch.zeros(20_000, dtype=torch.float64)
    mask = torch.ones(20_000, dtype=torch.bool)
    units = n // records_of_a_unit
    place = RecordsAt(phi, batch, torch.arange(n) % units, None)
    source = SeededNoise(4)
    drawn = noisy_gradients(objective, [place], mask, 2.0, 1.5, source, units, nothing).numpy()
    for factor, fits in ((1.0, True), (0.5, False), (1.1, False), (math.sqrt(3), False)):
        p = stats.kstest(drawn, "norm", args=(0, factor * 3.0)).pvalue
        assert (p > 1e-6) == fits, factor


def test_other_vectors_join_the_sum_before_the_noise() -> None:
    made = case("mlp")
    others = torch.linspace(-1, 1, int(made.mask.sum()), dtype=torch.float64)
    joined = noisy_gradients(
        made.objective, [made.place()], made.mask, 0.5, 0.0, SeededNoise(1), N + 4, others
    )
    torch.testing.assert_close(joined, made.by_opacus(0.5) + others)


@pytest.mark.parametrize("sizes", [[1] * 200, [3] * 50, [70, 1, 1, 64, 200, 2], [500]])
def test_a_units_records_are_never_divided(sizes: list[int]) -> None:
    group = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    group = group[torch.randperm(len(group), generator=torch.Generator().manual_seed(1))]
    parts = list(_parts(group, 64))
    assert sorted(torch.cat(parts).tolist()) == list(range(len(group)))
    units = [set(group[part].tolist()) for part in parts]
    assert sum(map(len, units)) == len(sizes)
    assert all(len(part) <= max(64, max(sizes)) for part in parts)


def test_the_module_is_left_alone() -> None:
    made = case("conv-2d")
    before = [p.clone() for p in made.net.module.parameters()]
    made.by_opacus(1.0)
    for p, q in zip(made.net.module.parameters(), before, strict=True):
        assert p.is_meta == q.is_meta
        assert p.grad is None
        assert not hasattr(p, "grad_sample")
    assert not any(layer._forward_hooks for layer in made.net.module.modules())


def test_what_opacus_takes() -> None:
    assert all(takes(case(name).objective) for name in CASES if name != "kernel")
    bare = nn.Sequential(nn.Flatten())
    assert not takes(Objective(bare, lambda phi, x: x, loss)), "nothing to train"
