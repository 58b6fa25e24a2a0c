"""Clipped sums without any record's gradient: they are those of vmap, and never too large."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from metaward.client.models.adapter import LowRank
from metaward.privacy import Batch, Objective, ghost, optimizer
from metaward.privacy.clipping import sum_clipped
from metaward.privacy.ghost import MASS, factors, fits, layers_of, takes, wrong_by
from metaward.privacy.listening import listening
from metaward.privacy.noise import SeededNoise

N = 40


class Twice(nn.Module):
    """One layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(self.layer(x).tanh())
        return out


class Folded(nn.Module):
    """A layer that sees two positions of a record as two records."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x.flatten(0, 1))
        return out.view(len(x), -1, 3)


def only(module: nn.Module, *names: str) -> nn.Module:
    """Train these parameters alone."""
    for name, p in module.named_parameters():
        p.requires_grad = name in names
    return module


MODULES: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(5, 3),
    "weights alone": lambda: only(nn.Linear(5, 3), "weight"),
    "bias alone": lambda: only(nn.Linear(5, 3), "bias"),
    "deep": lambda: nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 4)),
    "adapter": lambda: only(LowRank(5, 2), "gain.log", "down.weight", "up.weight"),
    "twice": Twice,
}
SHAPES = {"vectors": (5,), "sequences": (6, 5), "grids": (2, 3, 5)}


def made(name: str, shape: tuple[int, ...], seed: int = 0) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(seed)
    module = MODULES[name]().double()
    for p in module.parameters():
        p.data = p.data + 0.3 * torch.randn_like(p)
    return module, torch.randn(N, *shape, dtype=torch.float64)


def losses(out: Tensor) -> Tensor:
    """One loss a record (n,)."""
    return (out.sin() + out.square()).flatten(1).sum(dim=1)


def vectors(module: nn.Module, x: Tensor) -> Tensor:
    """Each record's gradient (n, d), by vmap."""
    trained = {n: p for n, p in module.named_parameters() if p.requires_grad}

    def one(values: dict[str, Tensor], record: Tensor) -> Tensor:
        out: Tensor = losses(functional_call(module, values, (record[None],)))[0]
        return out

    found = vmap(grad(one), in_dims=(None, 0))({n: p.detach() for n, p in trained.items()}, x)
    return torch.cat([found[name].flatten(1) for name in trained], dim=1)


def by_ghost(module: nn.Module, x: Tensor, clip: float) -> Tensor:
    layers = heard(module, x)
    return ghost.total(layers, factors(layers, clip, wrong_by(len(x), most(layers))))


def heard(module: nn.Module, x: Tensor) -> list[ghost.LayerRecords]:
    with listening(module) as calls:
        found = losses(module(x))
    return layers_of(calls, found)


def most(layers: list[ghost.LayerRecords]) -> int:
    return max(one.x.shape[1] for one in layers if isinstance(one, ghost.LinearRecords))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", MODULES)
def test_the_sum_is_that_of_vmap(name: str, shape: str) -> None:
    """With a clip that cuts all, half and none of the gradients."""
    module, x = made(name, SHAPES[shape])
    expected = vectors(module, x)
    norms = expected.norm(dim=1)
    for clip in (float(norms.min()) / 2, float(norms.median()), float(norms.max()) * 2):
        right = sum_clipped(expected, clip)
        found = by_ghost(module, x, clip)
        torch.testing.assert_close(found, right, rtol=1e-8, atol=1e-8 * clip)
        assert float(right.norm()) > 0.01 * clip, "a comparison with nothing"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", MODULES)
def test_norms_are_never_too_small(name: str, shape: str) -> None:
    module, x = made(name, SHAPES[shape])
    expected = vectors(module, x).square().sum(dim=1)
    found = sum(one.sizes()[0] for one in heard(module, x))
    assert isinstance(found, Tensor)
    assert bool((found >= expected * (1 - 1e-13)).all())
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0.0)


def cancelling(seed: int) -> list[ghost.LayerRecords]:
    """Records whose positions nearly cancel, so that their norms lose many digits."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(N, 1, 4, dtype=torch.float64, generator=draw)
    g = torch.randn(N, 1, 3, dtype=torch.float64, generator=draw)
    size = 10.0 ** (-torch.arange(N) / 2.0)[:, None, None]
    x = torch.cat([x, x * (1 + size)], dim=1)
    return [ghost.LinearRecords(only(nn.Linear(4, 3), "weight"), x, torch.cat([g, -g], dim=1))]


@pytest.mark.parametrize("seed", range(5))
def test_norms_are_not_too_small_where_positions_cancel(seed: int) -> None:
    """Against sums of fractions, which are exact."""
    (layer,) = cancelling(seed)
    assert isinstance(layer, ghost.LinearRecords)
    squares, _ = layer.sizes()
    for x, g, found in zip(layer.x.tolist(), layer.g.tolist(), squares.tolist(), strict=True):
        assert Fraction(found) >= square(exact(x, g))


def exact(x: list[list[float]], g: list[list[float]]) -> list[Fraction]:
    """The gradient of one record."""
    pairs = list(zip(x, g, strict=True))
    return [
        sum((Fraction(gt[o]) * Fraction(xt[i]) for xt, gt in pairs), Fraction(0))
        for o in range(len(g[0]))
        for i in range(len(x[0]))
    ]


def square(vector: list[Fraction]) -> Fraction:
    return sum((value * value for value in vector), Fraction(0))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("clip", [1e-6, 1.0])
def test_no_record_moves_the_sum_by_more_than_the_clip_norm(seed: int, clip: float) -> None:
    """In the numbers that the machine has, whatever is added to what."""
    bounded(cancelling(seed), clip)


def test_nor_does_it_where_errors_are_those_of_another_tensor() -> None:
    """As behind an activation in place that nobody noticed: the sum is wrong, and bounded."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 6), nn.ReLU(inplace=True), nn.Linear(6, 3))
    with listening(module) as calls:
        out = module(torch.randn(N, 5))
    layers = layers_of(calls, losses(100 * out))
    assert any(one.overwritten() for one in calls)
    bounded(layers, 1.0)


def bounded(layers: Sequence[ghost.LayerRecords], clip: float) -> None:
    """No record moves the sum by more than the clip norm, and one moves it by nearly as much."""
    weights = factors(layers, clip, wrong_by(N, 2))
    whole = [Fraction(value) for value in ghost.total(layers, weights).tolist()]
    moved = list[Fraction]()
    for i in range(N):
        alone = weights.clone()
        alone[i] = 0
        rest = [Fraction(value) for value in ghost.total(layers, alone).tolist()]
        moved.append(square([a - b for a, b in zip(whole, rest, strict=True)]))
    assert Fraction(clip) ** 2 / 2 < max(moved) <= Fraction(clip) ** 2


@pytest.mark.parametrize("seed", range(5))
def test_the_sum_is_wrong_by_no_more_than_is_said(seed: int) -> None:
    layers = cancelling(seed)
    (layer,) = layers
    assert isinstance(layer, ghost.LinearRecords)
    weights = factors(layers, 1.0, wrong_by(N, 2))
    gradients = [exact(x, g) for x, g in zip(layer.x.tolist(), layer.g.tolist(), strict=True)]
    right = [
        sum(
            (Fraction(w) * v[k] for w, v in zip(weights.tolist(), gradients, strict=True)),
            Fraction(0),
        )
        for k in range(12)
    ]
    found = [Fraction(value) for value in ghost.total(layers, weights).tolist()]
    lost = square([a - b for a, b in zip(found, right, strict=True)])
    assert 0 < lost <= Fraction(wrong_by(N, 2)) ** 2


def test_who_cancels_much_weighs_less() -> None:
    clip, layers = 0.01, cancelling(0)
    weights = factors(layers, clip, wrong_by(N, 2))
    squares, masses = layers[0].sizes()
    assert float((weights * masses).max()) == pytest.approx(MASS * clip)
    cancels = N // 2
    assert float(weights[cancels] * masses[cancels]) == pytest.approx(MASS * clip)
    assert float(weights[cancels] * squares[cancels].sqrt()) < clip / 2, "for its mass alone"


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf, 1e200])
@pytest.mark.parametrize("name", MODULES)
def test_a_record_that_is_not_finite_counts_as_zero_and_harms_no_other(
    name: str, wrong: float
) -> None:
    module, x = made(name, (6, 5))
    rest = torch.ones(N, dtype=torch.float64)
    rest[7] = 0
    layers = heard(module, x)
    expected = ghost.total(layers, rest * factors(layers, 0.5, wrong_by(N, 12)))
    x[7, 2] = wrong
    layers = heard(module, x)
    weights = factors(layers, 0.5, wrong_by(N, 12))
    found = ghost.total(layers, weights)
    assert bool(found.isfinite().all())
    if weights[7] == 0:
        assert torch.equal(found, expected)
    else:  # a saturated tanh may make its gradient finite: then it is clipped as any other
        assert float((found - expected).norm()) <= 0.5


def test_what_it_takes() -> None:
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight  # type: ignore[assignment, union-attr]
    assert all(takes(make()) for make in MODULES.values())
    assert not takes(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2)))
    assert not takes(nn.LayerNorm(3))
    assert not takes(tied)
    assert takes(only(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(8, 2)), "1.weight"))


def test_a_layer_that_mixes_records_and_positions_is_an_error() -> None:
    module, x = Folded().double(), torch.randn(N, 2, 5, dtype=torch.float64)
    with listening(module) as calls:
        found = losses(module(x))
    with pytest.raises(ValueError, match=f"other than {N} outputs"):
        layers_of(calls, found)


class Residual(nn.Module):
    """A block that adds to its layer's input in place."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone()
        x += self.layer(x)
        return x


@pytest.mark.parametrize(
    "module",
    [
        Residual(),
        nn.Sequential(nn.Linear(5, 5), nn.ReLU(inplace=True)),
        nn.Sequential(
            nn.Linear(5, 5), nn.Unflatten(1, (5, 1)), nn.Flatten(), nn.Hardtanh(inplace=True)
        ),
    ],
    ids=["input", "output", "view of an output"],
)
def test_layers_whose_tensors_are_overwritten_are_not_for_it(module: nn.Module) -> None:
    assert takes(module)
    assert ghost.positions(module, torch.randn(2, 5)) == 0
    assert not fits(N, 0)


@pytest.mark.parametrize("first", [nn.Linear(5, 6), nn.Conv1d(5, 6, 1)], ids=["ghost", "hooks"])
def test_a_network_that_works_in_place_has_the_same_sum(first: nn.Module) -> None:
    """Its sum used to be off by 41 %: the errors were those behind the activation."""
    sums = []
    for inplace in (False, True):
        torch.manual_seed(0)
        layers = [first, nn.ReLU(inplace=inplace), nn.Flatten(), nn.Linear(6, 3)]
        module = nn.Sequential(*layers)
        phi = torch.cat([p.detach().flatten() for p in module.parameters()])
        shape = (5,) if isinstance(first, nn.Linear) else (5, 1)
        x, y, rows = torch.randn(N, *shape), torch.arange(N) % 3, torch.arange(N)
        one = functools.partial(functional.cross_entropy, reduction="none")
        objective = Objective(module, lambda phi, x: x, one)
        place = optimizer.RecordsAt(phi, Batch(x, y, rows.numpy()), rows, None)
        mask, others = torch.ones(len(phi), dtype=torch.bool), torch.zeros(len(phi)).double()
        noise = SeededNoise(0)
        sums.append(optimizer.noisy_gradients(objective, [place], mask, 1.0, 0.0, noise, N, others))
    torch.testing.assert_close(*sums, rtol=1e-4, atol=1e-5)


def test_hooks_are_gone_afterwards() -> None:
    module, x = made("deep", (5,))
    with listening(module) as calls:
        module(x)
    module(x)
    assert [len(one.outputs) for one in calls] == [1, 1]


def test_a_sum_over_very_many_records_is_not_for_it() -> None:
    """The room that rounding would take must stay below a hundredth of the clip norm."""
    assert fits(2000, 1)
    assert fits(100_000, 7)
    assert not fits(10_000_000, 7)
    assert not fits(2000, 0)
    assert wrong_by(2000, 7) < 1e-6


@pytest.mark.parametrize("wrong", [0.0, 1e-6, 0.004])
def test_twice_what_a_sum_is_wrong_by_is_taken_off_the_clip_norm(wrong: float) -> None:
    """Both of two neighbouring sums can be wrong by as much."""
    module, x = made("adapter", (6, 5))
    clip = float(vectors(module, x).norm(dim=1).min()) / 10
    layers = heard(module, x)
    weights = factors(layers, clip, wrong)
    let_through = vectors(module, x).norm(dim=1) * weights
    room = torch.full_like(let_through, clip * (1 - 2 * wrong))
    torch.testing.assert_close(let_through, room, rtol=1e-9, atol=0.0)
