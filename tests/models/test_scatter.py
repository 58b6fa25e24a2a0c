"""The fixed front end: sizes, filters, what it sees and what it does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.func import grad, vmap

from client.models.base import network
from client.models.scatter import Front, Scatter, _filters, _noise
from client.tasks.base import TaskSpec

SHAPES = [((1, 28, 28), 342 // 3), ((3, 28, 28), 342), ((1, 128), 33), ((12, 100), 396)]


def spec(shape: tuple[int, ...]) -> TaskSpec:
    return TaskSpec("classification", shape, 3, 5, False)


@pytest.mark.parametrize(("shape", "count"), SHAPES)
def test_features_by_hand(shape: tuple[int, ...], count: int) -> None:
    """(3 maps of 3 scales of 4 directions + 2) * 3 statistics * channels; one direction in 1-D."""
    assert Scatter().features(shape) == count


@pytest.mark.parametrize("grid", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(1, 28, 28), (2, 9, 13), (1, 128), (12, 101)])
def test_the_body_gives_as_many(shape: tuple[int, ...], grid: int) -> None:
    architecture = Scatter(grid=grid, orientations=2)
    body = network(architecture, spec(shape), 0)
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    found = body.forward(body.initial(0), x)
    assert found.shape == (2, architecture.features(shape))
    assert torch.isfinite(found).all()


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\(13,\); choose client.model.network: mlp"):
        Scatter().features((13,))
    with pytest.raises(ValueError, match="grid: 9 cells do not fit"):
        Scatter(grid=9).features((1, 8, 28))


def test_only_the_square_layer_is_trained_and_it_starts_as_the_identity() -> None:
    assert not list(Front(Scatter(), (1, 28, 28)).parameters())
    body = network(Scatter(), spec((1, 28, 28)), 0)
    assert [tuple(shape) for shape in body.shapes] == [(114, 114)]
    for seed in (0, 7):
        assert torch.equal(body.initial(seed).view(114, 114), torch.eye(114))
    assert bool(body.mask({"body"}).all())


@pytest.mark.parametrize("axes", [1, 2])
def test_filters_ignore_brightness_and_are_of_one_strength(axes: int) -> None:
    found = _filters(axes, 4)
    across = tuple(range(1, found.ndim))
    np.testing.assert_allclose(found.sum(axis=across), 0, atol=1e-12)
    np.testing.assert_allclose(np.abs(found).sum(axis=across), 1)


def test_a_grating_moves_the_filters_of_its_own_direction_most() -> None:
    row, column = np.mgrid[:28, :28]
    front = Front(Scatter(), (1, 28, 28))
    for place, wave in ((0, column), (2, row)):  # filters vary along columns first, then turn
        x = torch.from_numpy(np.sin(2 * np.pi * wave / 4.0))[None, None]
        modulus = front(x)[0, :12] + front.centre[:12]  # the largest value of each modulus
        assert int(modulus[4:8].argmax()) == place  # of the scale whose wave is 4 pixels


def image(row: int, column: int, strength: float = 1.0) -> torch.Tensor:
    y, x = np.mgrid[:28, :28]
    blob = strength * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 8)
    return torch.from_numpy(blob)[None, None]


def test_one_cell_forgets_where_and_more_cells_do_not() -> None:
    one, four = (Front(Scatter(grid=grid), (1, 28, 28)) for grid in (1, 2))
    here, there = image(12, 12), image(15, 14)
    torch.testing.assert_close(one(here), one(there), rtol=0, atol=1e-2)
    assert (four(here) - four(there)).abs().max() > 0.1
    assert (one(here) - one(image(12, 12, 2.0))).abs().max() > 0.1


def test_features_lie_around_zero_and_are_the_same_everywhere() -> None:
    shape = (1, 28, 28)
    front, again = Front(Scatter(), shape), Front(Scatter(), shape)
    x = torch.from_numpy(_noise(shape))
    assert front(x).mean(dim=0).abs().max() < 1e-9
    assert torch.equal(front(x[:4]), again(x[:4]))


def test_records_alone_and_together_by_vmap_and_by_gradient() -> None:
    net = network(Scatter(), spec((1, 28, 28)), 3)
    phi = net.initial(0).double()
    x = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0)).double()
    together = net.forward(phi, x)
    one_by_one = vmap(lambda record: net.forward(phi, record[None])[0])(x)
    torch.testing.assert_close(together, one_by_one)
    slopes = vmap(grad(lambda p, r: net.forward(p, r[None]).square().sum()), in_dims=(None, 0))(
        phi, x
    )
    whole = grad(lambda p: net.forward(p, x).square().sum())(phi)
    torch.testing.assert_close(slopes.sum(dim=0), whole)
    assert net.forward(phi.float(), x.float()).dtype == torch.float32
