"""A module of somebody else's as a network: its own start, its constants, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from metaward.client.inner import ALGORITHMS, Setting
from metaward.client.models import Architecture, check_architecture, network
from metaward.client.tasks.base import TaskSpec
from metaward.client.tasks.kinds import CLASSIFICATION
from metaward.privacy import OpenSession
from tests.contracts.test_learners import episode

SPEC = TaskSpec(CLASSIFICATION, (6,), 3, 7, False)
LOADED = torch.linspace(-1, 1, 24).view(4, 6)


@dataclass(frozen=True)
class Own(Architecture):
    """Any function that makes a body."""

    make: Callable[[], nn.Module]
    width: int = 4
    own_start: bool = True

    def body(self, input_shape: tuple[int, ...]) -> nn.Module:
        return self.make()

    def features(self, input_shape: tuple[int, ...]) -> int:
        return self.width


def refused(make: Callable[[], nn.Module], match: str, width: int = 4) -> None:
    for start in (True, False):
        with pytest.raises(ValueError, match=match):
            check_architecture(Own(make, width, start), (6,))


def pretrained() -> nn.Module:
    """A linear layer with weights from a file, and a norm with torch's own start."""
    layer = nn.Linear(6, 4)
    layer.load_state_dict({"weight": LOADED, "bias": torch.full((4,), 2.0)})
    return nn.Sequential(layer, nn.LayerNorm(4), nn.Tanh())


# -------------------------------------------------------------------------- its own start


@pytest.mark.parametrize("outputs", [0, 3])
def test_pretrained_weights_are_the_start(outputs: int) -> None:
    net = network(Own(pretrained), SPEC, outputs)
    first = net.split(net.initial(1))
    assert torch.equal(first["body.0.weight"], LOADED)
    assert first["body.0.bias"].tolist() == [2.0] * 4
    assert first["body.1.weight"].tolist() == [1.0] * 4
    assert net.drawn() == bool(outputs), "only the head is drawn"
    x = torch.linspace(-1, 1, 12).view(2, 6)
    body = network(Own(pretrained), SPEC, 0)
    torch.testing.assert_close(body.forward(net.initial(9)[: body.dim], x), pretrained()(x))


def test_without_it_they_are_drawn_as_everywhere_else() -> None:
    net = network(Own(pretrained, own_start=False), SPEC, 3)
    assert not torch.equal(net.split(net.initial(1))["body.0.weight"], LOADED)
    assert net.drawn()


def test_what_its_code_draws_is_a_function_of_the_seed() -> None:
    architecture = Own(lambda: nn.Linear(6, 4))
    before = torch.get_rng_state()
    net = network(architecture, SPEC, 0)
    one, two = net.initial(1), net.initial(2)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    assert torch.equal(network(architecture, SPEC, 0).initial(1), one)
    assert not torch.equal(one, two)
    assert one.abs().max() <= 6**-0.5, "as torch draws a linear layer"


@pytest.mark.parametrize("name", ["reptile", "maml", "proto_maml", "fedavg", "embedding", "metric"])
def test_learners_start_from_pretrained_weights(name: str) -> None:
    setting, learner = Setting(Own(pretrained), SPEC), ALGORITHMS[name]()
    theta = learner.initial(setting, 3)
    if name != "metric":
        assert torch.equal(theta[:24].view(4, 6), LOADED)
    update = learner.update(
        setting, theta, [episode(SPEC, 1)], OpenSession(), np.random.default_rng(0)
    )
    assert torch.isfinite(update.delta).all()
    assert update.delta.any()


def test_groups_of_a_module_with_its_own_norm() -> None:
    net = network(Own(pretrained), SPEC, 3)
    assert [layer.group for layer in net.layers()] == [*["body"] * 2, *["norm"] * 2, *["head"] * 2]
    frozen = OpenSession(trained=frozenset({"head"}))
    assert int(net.mask(frozen.trained).sum()) == 3 * 5


# ------------------------------------------------------------------------------- constants


class Constants(nn.Module):
    """Plain tensors, made by torch's own factories, and a frozen layer: neither is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = torch.full((6,), 0.5)
        self.turns = [torch.eye(6), torch.randn(6, 6)]
        self.backbone = nn.Linear(6, 5).requires_grad_(False)
        self.adapter = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        for turn in self.turns:
            x = x @ turn
        features: Tensor = self.adapter(self.backbone(x + self.shift).tanh())
        return features


@pytest.mark.parametrize("own_start", [True, False])
def test_constants_keep_their_values_and_are_no_part_of_theta(own_start: bool) -> None:
    net = network(Own(Constants, own_start=own_start), SPEC, 0)
    assert net.names == ["body.adapter.weight", "body.adapter.bias"]
    assert net.dim == 5 * 4 + 4
    x, phi = torch.linspace(-1, 1, 12).view(2, 6), net.initial(1)
    again = network(Own(Constants, own_start=own_start), SPEC, 0)
    assert torch.equal(net.forward(phi, x), again.forward(phi, x)), "constants are drawn alike"
    assert net.forward(phi, x).abs().max() > 0.01


class Tied(nn.Module):
    """One matrix in two places, the way back with it turned around."""

    def __init__(self) -> None:
        super().__init__()
        self.there = nn.Linear(6, 6, bias=False)
        self.back = nn.Linear(6, 6, bias=False)
        self.back.weight = self.there.weight

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.back(self.there(x).tanh())
        return features


def test_tied_weights_are_one_parameter_in_both_places() -> None:
    net = network(Own(Tied, width=6), SPEC, 0)
    assert net.dim == 36
    phi, x = torch.eye(6).reshape(-1), torch.linspace(-1, 1, 12).view(2, 6)
    torch.testing.assert_close(net.forward(2 * phi, x), 2 * (2 * x).tanh())


def test_a_body_without_parameters_serves_a_learner_with_a_head() -> None:
    setting = Setting(Own(nn.Flatten, width=6), SPEC)
    assert len(ALGORITHMS["reptile"]().initial(setting, 1)) == 3 * 7
    assert len(ALGORITHMS["proto_maml"]().initial(setting, 1)) == 0
    assert setting.network(0).mask({"body"}).tolist() == []


# ------------------------------------------------------------------------------ what is refused


class Listed(nn.Module):
    """Layers in a plain list, which torch does not look into."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = [nn.Linear(6, 5), nn.Linear(5, 4)]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class With(nn.Module):
    """A linear layer and a function of the batch after it."""

    def __init__(self, then: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.then = nn.Linear(6, 4), then

    def forward(self, x: Tensor) -> Tensor:
        return self.then(self.layer(x))


class Idle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle = nn.Linear(6, 4), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.used(x)
        return features


@dataclass
class Counting:
    """Adds how often it was called."""

    calls: int = 0
    seen: list[int] = field(default_factory=list)

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x + self.calls


class Buffered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 4)
        self.register_buffer("scale", torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.layer(x) * self.scale
        return features


class First(nn.Module):
    """What ``next(self.parameters())`` does where there are none."""

    def forward(self, x: Tensor) -> Tensor:
        return x.to(next(self.parameters()))


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "batch norm": (
        lambda: nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4)),
        "layer '1' is a BatchNorm1d, which mixes the records.*use GroupNorm.*fuse_conv_bn_eval",
    ),
    "batch norm without statistics": (
        lambda: nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4, track_running_stats=False)),
        "BatchNorm1d, which mixes",
    ),
    "frozen batch norm": (
        lambda: nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4).requires_grad_(False).eval()),
        "BatchNorm1d, which mixes",
    ),
    "mean over the batch": (lambda: With(lambda x: x - x.mean(dim=0)), "move a record's features"),
    "a little of the others": (
        lambda: With(lambda x: x + 1e-9 * x.sum(dim=0)),
        "other records in the batch move",
    ),
    "dropout": (lambda: nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.1)), "draws at random.*p to 0"),
    "noise": (lambda: With(lambda x: x + torch.randn(4)), "leave out what draws at random"),
    "counter": (lambda: With(Counting()), "keeps count"),
    "functional dropout": (
        lambda: With(lambda x: nn.functional.dropout(x, 0.5)),
        "leave out what draws at random",
    ),
    "idle": (Idle, r"do not depend on idle\.weight, idle\.bias.*requires_grad_\(False\)"),
    "cut off": (lambda: With(lambda x: x.detach()), r"do not depend on layer\.weight, layer\.bias"),
    "listed": (Listed, r"attribute 'layers' holds layers.*ModuleList"),
    "buffer": (Buffered, r"buffers \(scale\).*self\.x = tensor.*Parameter"),
    "bare iteration": (First, "forward fails on made-up records: StopIteration"),
    "another width": (lambda: nn.Linear(6, 5), r"give \(3, 5\).*= \(3, 4\)"),
    "no axis": (lambda: With(lambda x: x.mean(dim=1)), r"give \(3,\)"),
    "two outputs": (lambda: With(lambda x: (x, x)), "give tuple"),  # type: ignore[arg-type, return-value]
    "branching on values": (
        lambda: With(lambda x: x if x.detach().sum().item() > 0 else -x),
        "each record alone.*vmap.*fails",
    ),
}


@pytest.mark.parametrize(("make", "match"), REFUSED.values(), ids=REFUSED)
def test_refused_with_the_way_out(make: Callable[[], nn.Module], match: str) -> None:
    refused(make, match)


def test_the_check_draws_nothing_from_the_process() -> None:
    before = torch.get_rng_state()
    refused(lambda: With(lambda x: x + torch.randn(4)), "draws at random")
    assert torch.equal(torch.get_rng_state(), before)


class Modes(nn.Module):
    """Part of it in evaluation mode already, which must stay so."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.drop = nn.Linear(6, 4), nn.Dropout(0.0).eval()

    def forward(self, x: Tensor) -> Tensor:
        assert not self.drop.training
        features: Tensor = self.drop(self.layer(x))
        return features


SOUND: dict[str, Callable[[], nn.Module]] = {
    "pretrained": pretrained,
    "constants": Constants,
    "modes": Modes,
    "attention": lambda: With(
        lambda x: nn.functional.scaled_dot_product_attention(*[x.view(-1, 2, 2)] * 3).flatten(1)
    ),
    "group norm": lambda: nn.Sequential(nn.Linear(6, 4), nn.GroupNorm(2, 4), nn.PReLU(4)),
}


@pytest.mark.parametrize("make", SOUND.values(), ids=SOUND)
def test_sound_modules_pass(make: Callable[[], nn.Module]) -> None:
    check_architecture(Own(make), (6,))


def test_an_architecture_says_whether_it_starts_itself() -> None:
    @dataclass(frozen=True)
    class Typed:
        own_start: ClassVar[bool] = True

        def body(self, input_shape: tuple[int, ...]) -> nn.Module:
            return pretrained()

        def features(self, input_shape: tuple[int, ...]) -> int:
            return 4

    typed: Architecture = Typed()
    assert not network(typed, SPEC, 0).drawn()
