"""The adapter: where it starts, what is trained of it, that it is linear, and what it costs."""

import pytest
import torch

from metaward.client.models import check_architecture, fed_shape, network
from metaward.client.models.adapter import Adapter
from metaward.client.models.scatter import Scatter
from metaward.client.tasks.base import TaskSpec
from metaward.client.tasks.kinds import CLASSIFICATION

D, RANK = 114, 16
NET = network(Adapter(rank=RANK), TaskSpec(CLASSIFICATION, (D,), 3, 5, False), 0)


def x() -> torch.Tensor:
    return torch.randn(4, D, generator=torch.Generator().manual_seed(1))


def test_it_starts_as_the_front_ends_features() -> None:
    for seed in (0, 7):
        torch.testing.assert_close(NET.forward(NET.initial(seed), x()), x())
    assert not torch.equal(NET.initial(0), NET.initial(7)), "down is drawn"


def test_its_coordinates() -> None:
    sizes = {layer.name: (layer.size, layer.group) for layer in NET.layers()}
    assert sizes == {
        "body.frame.weight": (D * D, "frame"),
        "body.gain.log": (D, "body"),
        "body.down.weight": (RANK * D, "body"),
        "body.up.weight": (D * RANK, "body"),
    }
    assert int(NET.mask({"body", "norm", "head"}).sum()) == D + 2 * D * RANK == 3762


def test_by_hand() -> None:
    """z = W x, then z * exp(gain) + up(down(z))."""
    theta = NET.initial(0)
    theta = theta + 0.1 * torch.randn(len(theta), generator=torch.Generator().manual_seed(2))
    part = {name.split(".")[1]: values for name, values in NET.split(theta).items()}
    z = x() @ part["frame"].T
    expected = z * part["gain"].exp() + z @ part["down"].T @ part["up"].T
    torch.testing.assert_close(NET.forward(theta, x()), expected, rtol=1e-4, atol=1e-4)


def test_it_is_linear_so_that_means_stay_means() -> None:
    theta = NET.initial(0)
    theta = theta + 0.1 * torch.randn(len(theta), generator=torch.Generator().manual_seed(3))
    of_mean = NET.forward(theta, x().mean(0, keepdim=True))[0]
    torch.testing.assert_close(of_mean, NET.forward(theta, x()).mean(0), rtol=1e-3, atol=1e-4)


def test_a_sequence_of_vectors_goes_through_it_one_by_one() -> None:
    theta, pairs = NET.initial(0), torch.stack([x(), -x()], dim=1)
    found = NET.forward(theta, pairs)
    assert found.shape == (4, 2, D)
    torch.testing.assert_close(found[:, 1], NET.forward(theta, -x()))


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 12, 12), (2, 50)])
def test_its_front_is_that_of_scatter(shape: tuple[int, ...]) -> None:
    check_architecture(Adapter(grid=2), shape)
    assert fed_shape(Adapter(grid=2), shape) == fed_shape(Scatter(grid=2), shape)
