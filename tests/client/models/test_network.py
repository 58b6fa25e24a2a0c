"""A module and its flat vector: the same function, the same gradient, nothing hidden."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from metaward.client.models import Architecture, Conv, Mlp, Network, network
from metaward.client.tasks.base import TaskSpec
from metaward.client.tasks.kinds import CLASSIFICATION

CASES: dict[str, tuple[Architecture, tuple[int, ...]]] = {
    "images": (Conv(width=4, depth=2, groups=2), (3, 8, 9)),
    "strides": (Conv(width=4, depth=3, groups=4, halve="stride"), (1, 9, 5)),
    "volumes": (Conv(width=4, depth=2, groups=2), (1, 5, 4, 6)),
    "stepped volumes": (Conv(width=4, depth=2, groups=2, halve="stride"), (2, 3, 4, 5)),
    "signals": (Conv(width=6, depth=3, groups=3), (2, 17)),
    "table": (Mlp((5, 4)), (7,)),
    "flattened": (Mlp((6,)), (2, 3, 2)),
    "linear": (Mlp(()), (4,)),
}


def spec(shape: tuple[int, ...], outputs: int = 3) -> TaskSpec:
    return TaskSpec(CLASSIFICATION, shape, outputs, 9, False)


def build(name: str, outputs: int = 3) -> Network:
    architecture, shape = CASES[name]
    return network(architecture, spec(shape), outputs)


def inputs(name: str, n: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(n, *CASES[name][1], generator=generator)


def module_at(net: Network, name: str, phi: Tensor) -> nn.Sequential:
    """An ordinary module with real parameters, filled in the order in which torch lists them."""
    architecture, shape = CASES[name]
    layers = [architecture.body(shape)]
    if net.outputs:
        layers.append(nn.Linear(architecture.features(shape), net.outputs))
    module = nn.Sequential(*layers)
    nn.utils.vector_to_parameters(phi, module.parameters())
    return module


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# ------------------------------------------------------------------- the same function


@pytest.mark.parametrize("outputs", [0, 1, 3])
@pytest.mark.parametrize("name", CASES)
def test_forward_is_the_modules_own(name: str, outputs: int) -> None:
    net = build(name, outputs)
    phi = net.initial(1) + 0.1 * torch.randn(net.dim, generator=torch.Generator().manual_seed(2))
    x = inputs(name)
    expected = module_at(net, name, phi)(x)
    assert torch.equal(net.forward(phi, x), expected)
    assert len(net.initial(1)) == net.dim == sum(net.sizes)


@pytest.mark.parametrize("name", CASES)
def test_without_outputs_the_features_come_out(name: str) -> None:
    architecture, shape = CASES[name]
    net, whole = build(name, outputs=0), build(name, outputs=3)
    phi = whole.initial(1)
    features = net.forward(phi[: net.dim], inputs(name))
    assert features.shape == (5, architecture.features(shape))
    assert net.head == slice(net.dim, net.dim)
    weight, bias = phi[whole.head].split([3 * features.shape[1], 3])
    expected = features @ weight.view(3, -1).T + bias
    torch.testing.assert_close(whole.forward(phi, inputs(name)), expected)


@pytest.mark.parametrize("name", CASES)
def test_head_is_the_last_coordinates_and_only_they_move_the_outputs_alone(name: str) -> None:
    net = build(name)
    assert net.head.stop == net.dim
    assert net.head.stop - net.head.start == 3 * (CASES[name][0].features(CASES[name][1]) + 1)
    phi = net.initial(1)
    phi[net.head] = 0
    assert torch.equal(net.forward(phi, inputs(name)), torch.zeros(5, 3))


@pytest.mark.parametrize("name", CASES)
def test_split_gives_views_in_order(name: str) -> None:
    net = build(name)
    phi = torch.arange(net.dim, dtype=torch.float32)
    parts = net.split(phi)
    assert list(parts) == net.names
    assert torch.equal(torch.cat([part.reshape(-1) for part in parts.values()]), phi)
    phi[-1] = -7
    assert parts[net.names[-1]].reshape(-1)[-1] == -7, "a view, not a copy"


@pytest.mark.parametrize("name", CASES)
def test_records_do_not_touch_each_other(name: str) -> None:
    """What a batch statistic would do, and what per-record clipping forbids."""
    net = build(name)
    phi, x = net.initial(1).double(), inputs(name, 6).double()
    alone = torch.cat([net.forward(phi, x[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(net.forward(phi, x), alone, rtol=1e-12, atol=1e-12)


# -------------------------------------------------------------------- the same gradient


@pytest.mark.parametrize("name", CASES)
def test_gradient_is_that_of_finite_differences(name: str) -> None:
    """Central differences in float64; the step avoids the kinks of ReLU and max-pool."""
    net = build(name)
    generator = torch.Generator().manual_seed(5)
    phi = net.initial(4).double() + 0.05 * torch.randn(
        net.dim, generator=generator, dtype=torch.float64
    )
    x, y = inputs(name).double(), torch.tensor([0, 1, 2, 1, 0])

    def loss(phi: Tensor) -> Tensor:
        return nn.functional.cross_entropy(net.forward(phi, x), y)

    (gradient,) = torch.autograd.grad(loss(phi.requires_grad_()), phi)
    assert (gradient != 0).any()
    step = 1e-6
    for i in range(0, net.dim, max(1, net.dim // 60)):
        shift = torch.zeros(net.dim, dtype=torch.float64)
        shift[i] = step
        with torch.no_grad():
            difference = (loss(phi + shift) - loss(phi - shift)) / (2 * step)
        assert float(gradient[i]) == pytest.approx(float(difference), rel=1e-5, abs=1e-8)


def test_gradient_flows_through_the_vector_twice() -> None:
    """MAML differentiates an inner step, so forward must be differentiable more than once."""
    net = build("table")
    phi = net.initial(1).double().requires_grad_()
    loss = net.forward(phi, inputs("table").double()).square().mean()
    (gradient,) = torch.autograd.grad(loss, phi, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), phi)
    assert torch.isfinite(second).all()
    assert (second != 0).any()


# ------------------------------------------------------------------------------ initial


@pytest.mark.parametrize("name", CASES)
def test_initial_is_a_pure_function_of_the_seed(name: str) -> None:
    first = build(name).initial(7)
    torch.manual_seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].tobytes()  # type: ignore[union-attr]  # noqa: NPY002
    again = build(name).initial(7)
    assert torch.equal(torch.get_rng_state(), before[0]), "torch's global generator was used"
    assert np.random.get_state()[1].tobytes() == before[1]  # type: ignore[union-attr]  # noqa: NPY002
    torch.manual_seed(99)
    assert torch.equal(first, again)
    assert torch.equal(first, build(name).initial(7))
    assert not torch.equal(first, build(name).initial(8))
    assert first.dtype == torch.float32
    assert first.device.type == "cpu"


def test_initial_leaves_no_trace_in_later_calls() -> None:
    net = build("images")
    one = net.initial(1)
    one.zero_()
    assert (net.initial(1) != 0).any()


def test_initial_weights_are_he_normal_and_norms_start_at_identity() -> None:
    """He et al. 2015: standard deviation sqrt(2 / fan_in); the head's a tenth of that."""
    net = network(Conv(width=64, depth=2), spec((3, 16, 16)), 50)
    parts = net.split(net.initial(0))
    fan_in = {"body.0.weight": 3 * 9, "body.4.weight": 64 * 9, "head.weight": 64 * 16}
    for name, fan in fan_in.items():
        scale = (2 / fan) ** 0.5 * (0.1 if name == "head.weight" else 1.0)
        assert float(parts[name].std()) == pytest.approx(scale, rel=0.06)
        assert abs(float(parts[name].mean())) < 4 * scale / parts[name].numel() ** 0.5
    for name, part in parts.items():
        if name.endswith("bias"):
            assert (part == 0).all()
        elif name not in fan_in:
            assert (part == 1).all(), name


def test_signals_survive_the_depth_at_the_start() -> None:
    """He's scale keeps activations alive: features neither vanish nor explode."""
    net = network(Conv(width=16, depth=4), spec((1, 32, 32)), 0)
    x = torch.randn(64, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    features = net.forward(net.initial(0), x)
    assert 0.1 < float(features.std()) < 10
    assert float((features == 0).float().mean()) < 0.9


# --------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm2d(4), nn.InstanceNorm2d(4, track_running_stats=True)]
)
def test_networks_with_state_beside_the_vector_are_refused(norm: nn.Module) -> None:
    body = nn.Sequential(nn.Conv2d(1, 4, 3), norm, nn.Flatten())
    with pytest.raises(ValueError, match="GroupNorm instead of BatchNorm"):
        Network(body, 4, 2)


@pytest.mark.parametrize("shape", [(8,), (1, 2, 3, 4, 5), ()])
def test_conv_names_shapes_it_cannot_take(shape: tuple[int, ...]) -> None:
    for ask in (Conv().features, Conv().body):
        with pytest.raises(ValueError, match=r"signals.*images.*not shape \(.*network: mlp"):
            ask(shape)


@pytest.mark.parametrize(
    ("conv", "shape", "features"),
    [
        (Conv(depth=4), (1, 28, 28), 32),
        (Conv(depth=3), (1, 28, 28), 32 * 9),
        (Conv(depth=2), (3, 84, 84), 32 * 441),
        (Conv(depth=4), (12, 1000), 32 * 62),
        (Conv(depth=1), (1, 3, 2), 32),
        (Conv(depth=3, halve="stride"), (1, 28, 28), 32 * 16),
        (Conv(depth=4, halve="stride"), (12, 1000), 32 * 63),
        (Conv(depth=6, halve="stride"), (1, 1, 3), 32),
    ],
)
def test_conv_counts_its_features(conv: Conv, shape: tuple[int, ...], features: int) -> None:
    assert conv.features(shape) == features
    assert conv.body(shape)(torch.zeros(2, *shape)).shape == (2, features)


@pytest.mark.parametrize(("depth", "shape"), [(5, (1, 28, 28)), (3, (1, 28, 7)), (4, (2, 15))])
def test_conv_that_leaves_nothing_names_depth_and_shape(depth: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"depth: {depth} halvings leave nothing .*{shape[-1]}\)"):
        Conv(depth=depth).features(shape)


def test_conv_groups_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="groups: 8 must divide width = 12"):
        Conv(width=12)


def test_meta_networks_take_no_memory_for_weights() -> None:
    """A 4096-wide layer is described, not filled: only its shapes are needed."""
    net = network(Mlp((4096, 4096)), spec((4096,)), 10)
    assert {p.device.type for p in net.module.parameters()} == {"meta"}
    assert net.dim == 2 * (4096 * 4096 + 4096) + 4096 * 10 + 10
