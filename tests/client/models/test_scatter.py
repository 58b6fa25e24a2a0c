"""The fixed front end: sizes, filters, what it sees and what it does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.func import grad, vmap

from metaward.client.models.base import check_architecture, fed_shape, network
from metaward.client.models.scatter import FLOOR, SCALES, Front, Scatter, _filters, _noise
from metaward.client.tasks.base import TaskSpec
from metaward.client.tasks.kinds import CLASSIFICATION

SHAPES = [((1, 28, 28), 342 // 3), ((3, 28, 28), 342), ((1, 128), 33), ((12, 100), 396)]


def spec(shape: tuple[int, ...]) -> TaskSpec:
    return TaskSpec(CLASSIFICATION, shape, 3, 5, False)


@pytest.mark.parametrize(("shape", "count"), SHAPES)
def test_features_by_hand(shape: tuple[int, ...], count: int) -> None:
    """(3 maps of 3 scales of 4 directions + 2) * 3 statistics * channels; one direction in 1-D."""
    assert fed_shape(Scatter(), shape) == (count,)
    assert Scatter().features((count,)) == count


@pytest.mark.parametrize("grid", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(1, 28, 28), (2, 9, 13), (1, 128), (12, 101)])
def test_the_body_gives_as_many(shape: tuple[int, ...], grid: int) -> None:
    architecture = Scatter(grid=grid, orientations=2)
    body = network(architecture, spec(fed_shape(architecture, shape)), 0)
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    found = body.forward(body.initial(0), architecture.front(shape)(x))
    assert found.shape == (2, body.features)
    assert torch.isfinite(found).all()


@pytest.mark.parametrize(
    ("grid", "shape", "cells"),
    [
        (2, (1, 28, 28), 2 * 2),
        (3, (1, 28, 28), 3 * 3),  # of 9 pixels; one is left over
        (10, (1, 28, 28), 14 * 14),  # of 2: cells of one size, at least as many as asked for
        (4, (1, 9, 13), 4 * 4),
        (8, (1, 128), 8),
        (16, (1, 17), 17),
    ],
)
def test_cells_by_hand(grid: int, shape: tuple[int, ...], cells: int) -> None:
    architecture, one = Scatter(grid=grid), Scatter()
    (each,) = fed_shape(one, shape)
    assert Front(architecture, shape)(torch.zeros(2, *shape)).shape == (2, cells * each)


@pytest.mark.parametrize("shape", [(13,), (1, 4, 5, 6), ()])
def test_shapes_that_do_not_fit_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"signals.*images.*not shape \(.*network: mlp"):
        check_architecture(Scatter(), shape)


@pytest.mark.parametrize("shape", [(1, 8, 28), (1, 28, 8), (3, 8)])
def test_grids_that_are_too_fine_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"grid: 9 cells do not fit .*8.*; choose 8 or fewer"):
        check_architecture(Scatter(grid=9), shape)
    assert fed_shape(Scatter(grid=8), shape)[0] > 0


def test_only_the_square_layer_is_trained_and_it_starts_as_the_identity() -> None:
    front = Front(Scatter(), (1, 28, 28))
    assert not [*front.parameters(), *front.buffers()]
    body = network(Scatter(), spec((114,)), 0)
    assert [tuple(shape) for shape in body.shapes] == [(114, 114)]
    for seed in (0, 7):
        assert torch.equal(body.initial(seed).view(114, 114), torch.eye(114))
    assert bool(body.mask({"body"}).all())


@pytest.mark.parametrize("axes", [1, 2])
def test_filters_ignore_brightness_and_are_of_one_strength(axes: int) -> None:
    found = _filters(axes, 4)
    assert found.shape == (2 * 3 * 4 ** (axes - 1), 1, *[9] * axes)
    across = tuple(range(1, found.ndim))
    np.testing.assert_allclose(found.sum(axis=across), 0, atol=1e-12)
    np.testing.assert_allclose(np.abs(found).sum(axis=across), 1)


@pytest.mark.parametrize("turn", range(4))
@pytest.mark.parametrize("scale", range(3))
def test_a_grating_moves_the_filters_of_its_own_direction_most(scale: int, turn: int) -> None:
    """Filters vary along columns first, then turn; by all three statistics of the modulus."""
    row, column = np.mgrid[:28, :28]
    front, angle = Front(Scatter(), (1, 28, 28)), np.pi * turn / 4
    along = column * np.cos(angle) + row * np.sin(angle)
    x = torch.from_numpy(np.sin(2 * np.pi * along / SCALES[scale][1]))[None, None]
    found = (front(x)[0] + front.centre).view(3, 3 * 12 + 2)[:, :12].view(3, 3, 4)
    assert found[:, scale].argmax(dim=1).tolist() == [turn] * 3


def test_the_strengths_of_a_signal_by_hand() -> None:
    """Convolutions by numpy; the statistics of each map in two cells of ten."""
    front = Front(Scatter(grid=2), (2, 20))
    x = np.random.default_rng(1).normal(size=(2, 20))
    found = front(torch.from_numpy(x)[None])[0].numpy() + front.centre.numpy()
    ticks, expected = np.arange(-4, 5), []
    for channel in x:
        evens, odds = [], []
        for width, wave in SCALES:
            envelope = np.exp(-(ticks**2) / (2 * width**2))
            even, odd = (envelope * f(2 * np.pi * ticks / wave) for f in (np.cos, np.sin))
            even = even - envelope * even.sum() / envelope.sum()
            for kept, f in ((evens, even), (odds, odd)):
                kept.append(np.correlate(channel, f / np.abs(f).sum(), "same"))
        modulus = [np.sqrt(e**2 + o**2 + FLOOR**2) for e, o in zip(evens, odds, strict=True)]
        signs = [*evens, *(-e for e in evens), channel, -channel]
        maps = np.stack([*modulus, *(np.maximum(part, 0) for part in signs)]).reshape(-1, 2, 10)
        energy = np.sqrt(np.square(maps).mean(axis=2) + FLOOR**2)
        expected.append(np.log(np.stack([maps.max(axis=2), maps.mean(axis=2), energy]) + FLOOR))
    np.testing.assert_allclose(found, np.stack(expected).ravel(), atol=1e-10)


def image(row: int, column: int, strength: float = 1.0) -> torch.Tensor:
    y, x = np.mgrid[:28, :28]
    blob = strength * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 8)
    return torch.from_numpy(blob)[None, None]


def test_one_cell_forgets_where_and_more_cells_do_not() -> None:
    one, four = (Front(Scatter(grid=grid), (1, 28, 28)) for grid in (1, 2))
    here, there = image(12, 12), image(15, 14)
    torch.testing.assert_close(one(here), one(there), rtol=0, atol=1e-4)
    assert (four(here) - four(there)).abs().max() > 0.1
    assert (one(here) - one(image(12, 12, 2.0))).abs().max() > 0.1


def test_features_lie_around_zero_and_are_the_same_everywhere() -> None:
    shape = (1, 28, 28)
    front, again = Front(Scatter(), shape), Front(Scatter(), shape)
    x = torch.from_numpy(_noise(shape))
    assert front(x).mean(dim=0).abs().max() < 1e-9
    assert torch.equal(front(x[:4]), again(x[:4]))


@pytest.mark.parametrize("shape", [(1, 28, 28), (2, 128)])
def test_features_lie_around_zero_on_other_noise_too(shape: tuple[int, ...]) -> None:
    """Waves of every direction and length, as high as they are long: an estimate of its own."""
    rng, n, size = np.random.default_rng(5), 60, shape[-1]
    grid = np.meshgrid(*[np.arange(axis) / size for axis in shape[1:]], indexing="ij")
    steps = [np.arange(1 - size // 2, size // 2)] * len(grid)
    x = np.zeros((n, *shape))
    for wave in np.stack(np.meshgrid(*steps), axis=-1).reshape(-1, len(grid)):
        phase = rng.uniform(0, 2 * np.pi, (n, shape[0], *[1] * len(grid)))
        along = sum(k * g for k, g in zip(wave, grid, strict=True))
        x += np.cos(2 * np.pi * along + phase) / max(1, np.linalg.norm(wave))
    axes = tuple(range(2, x.ndim))
    x = (x - x.mean(axis=axes, keepdims=True)) / x.std(axis=axes, keepdims=True) / 2
    front = Front(Scatter(), shape)
    found = front(torch.from_numpy(x)).mean(dim=0)
    assert found.abs().mean() < 0.1
    assert front.centre.abs().mean() > 1


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 12, 9), (2, 50)])
def test_records_alone_and_together_by_vmap_and_by_gradient(shape: tuple[int, ...]) -> None:
    architecture = Scatter(grid=2)
    net = network(architecture, spec(fed_shape(architecture, shape)), 3)
    phi = net.initial(0).double()
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0)).double()
    x = architecture.front(shape)(x)
    together = net.forward(phi, x)
    one_by_one = vmap(lambda record: net.forward(phi, record[None])[0])(x)
    torch.testing.assert_close(together, one_by_one)
    slopes = vmap(grad(lambda p, r: net.forward(p, r[None]).square().sum()), in_dims=(None, 0))(
        phi, x
    )
    whole = grad(lambda p: net.forward(p, x).square().sum())(phi)
    torch.testing.assert_close(slopes.sum(dim=0), whole)
    low = net.forward(phi.float(), x.float())
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, together.float(), rtol=1e-3, atol=1e-3)
