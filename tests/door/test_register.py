"""Own networks, learners, tasks and mechanisms by one call each."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

import metaward as mw
from metaward.client.desk import LEARNER, MECHANISM, NETWORK, SOURCE
from metaward.client.inner import Algorithm, Reptile
from metaward.client.models import Mlp, network
from metaward.client.tasks.sine import Sine
from metaward.plugins import members
from metaward.privacy import Sums
from tests.contracts.requests import SPEC
from tests.door.own import CENTRES, Slower, Small, clinic, clinics, configuration, register_all

Shape = tuple[int, ...]


def built(registry: Any, name: str, **options: object) -> Any:
    """The part as a configuration would build it."""
    faults: list[str] = []
    part = registry.build({registry.by: name, **options}, "part", faults)
    assert not faults, faults
    return part


# ---------------------------------------------------------------------------------- networks


def test_a_functions_parameters_are_yaml_options() -> None:
    @mw.register.network("tiny")
    def tiny(input_shape: Shape, width: int = 4, bias: bool = True) -> nn.Module:
        return nn.Linear(input_shape[0], width, bias=bias)

    assert tiny((3,)).out_features == 4, "the decorator leaves it as it was"
    part = built(NETWORK, "tiny", bias=False)
    assert network(part, SPEC, 0).dim == 6 * 4
    assert network(built(NETWORK, "tiny", width=2), SPEC, 0).dim == 6 * 2 + 2
    assert NETWORK.plain(part) == {"network": "tiny", "width": 4, "bias": False}
    faults: list[str] = []
    NETWORK.build({"network": "tiny", "width": 1.5, "depth": 2}, "client.model", faults)
    assert "client.model: network tiny has no depth" in faults[0]
    faults.clear()
    NETWORK.build({"network": "tiny", "width": 1.5, "height": 2}, "client.model", faults)
    assert any("height: unknown key" in fault for fault in faults)
    assert any("width: 1.5 is refused: must be a whole number" in fault for fault in faults)


def test_a_modules_class_a_module_and_an_architecture() -> None:
    mw.register.network("of_class", Small)
    module = nn.Sequential(nn.Linear(6, 3), nn.Tanh())
    mw.register.network("of_module", module)

    @mw.register.network("whole")
    @dataclass(frozen=True)
    class Whole(Mlp):
        own_start: ClassVar[bool] = False

    assert network(built(NETWORK, "of_class", width=5), SPEC, 0).dim == 6 * 5 + 5
    start = network(built(NETWORK, "of_module"), SPEC, 0).initial(3)
    assert torch.equal(start, nn.utils.parameters_to_vector(module.parameters()).detach())
    assert built(NETWORK, "whole", hidden=[2]) == Whole((2,))


def test_own_start_may_be_declined() -> None:
    module = nn.Linear(6, 3)
    mw.register.network("redrawn", module, own_start=False)
    start = network(built(NETWORK, "redrawn"), SPEC, 0).initial(3)
    assert not torch.equal(start[:18].view(3, 6), module.weight)


def test_two_networks_of_one_module_do_not_share_it() -> None:
    module = nn.Linear(6, 3)
    mw.register.network("kept", module)
    before = module.weight.clone()
    network(built(NETWORK, "kept"), SPEC, 3)
    assert module.weight.device.type == "cpu"
    assert torch.equal(module.weight, before)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (3, "bad: give a module or a function that makes one, not 3"),
        (lambda: nn.Flatten(), "the function needs parameters for the input's shape"),
        (lambda input_shape, width=3: nn.Flatten(), "give width a type, such as width: int = 16"),
        (type("Half", (), {"body": None}), "Half lacks features, front, own_start of Architecture"),
    ],
)
def test_what_makes_no_network(make: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        mw.register.network("bad", make)
    assert NETWORK.find("bad") is None


def test_a_network_that_mixes_records_is_refused_when_it_is_named() -> None:
    register_all()
    mw.register.network("mixing", lambda shape: nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)))
    with pytest.raises(mw.ConfigError, match=r"client\.model\.network: layer '1' is a BatchNorm1d"):
        mw.load(configuration(), {"client.model": {"network": "mixing"}})
    mw.register.network("wrong", lambda shape: nn.Linear(7, 4))
    with pytest.raises(
        mw.ConfigError, match=r"client\.model\.network: two records of shape \(5,\)"
    ):
        mw.load(configuration(), {"client.model": {"network": "wrong"}})


# ---------------------------------------------------------------------------------- learners


def test_a_learners_fields_are_yaml_options() -> None:
    mw.register.learner("slower", Slower)
    part = built(LEARNER, "slower", part=0.25, steps=2)
    assert (part.part, part.steps, part.lr) == (0.25, 2, Reptile().lr)
    faults: list[str] = []
    LEARNER.build({"algorithm": "slower", "part": 2.0}, "client.inner", faults)
    assert "must be less than or equal to 1" in faults[0]


def test_a_learner_may_be_a_dataclass_already_if_it_is_frozen() -> None:
    @mw.register.learner("mine")
    @dataclass(frozen=True)
    class Mine(Reptile):
        own: int = 3

    assert built(LEARNER, "mine") == Mine()
    assert [field.name for field in fields(Mine)][-1] == "own"


@pytest.mark.parametrize(
    ("thing", "text"),
    [
        (Reptile(), "give a class, not Reptile"),
        (
            type("Half", (), {"update": None}),
            "Half lacks adapt, adapt_steps, check, check_network",
        ),
        (dataclass(type("Open", (), dict.fromkeys(members(Algorithm)))), "must be a frozen"),
    ],
)
def test_what_is_no_learner(thing: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        mw.register.learner("bad", thing)


# -------------------------------------------------------------------- tasks and mechanisms


def test_a_source_may_be_a_class() -> None:
    @mw.register.tasks("steep")
    @dataclass(frozen=True)
    class Steep(Sine):
        def hospital(self, index: int, root: Path | None, seed: int) -> Any:
            flat = super().hospital(index, root, seed)
            return replace(flat, y=3 * flat.y)

    part = built(SOURCE, "steep", hospitals=2)
    plain = Sine(hospitals=2).hospital(0, None, 1)
    assert np.array_equal(part.hospital(0, None, 1).y, 3 * plain.y)


def test_a_run_needs_hospitals_of_both_roles() -> None:
    register_all()
    mw.register.tasks("clinics", [clinic("north")])
    with pytest.raises(mw.ConfigError, match="no unseen hospital"):
        mw.load(configuration())


def test_a_plan_knows_how_many_records_arrays_hold() -> None:
    register_all()
    run = mw.load(configuration(), {"privacy": {"mechanism": "sums"}, "client.schedule": "passes"})
    assert mw.plan(run).records == 80


@pytest.mark.parametrize("thing", [[], [3], "clinics", [*clinics(), None]])
def test_what_are_no_tasks(thing: Any) -> None:
    with pytest.raises(TypeError, match="one Records for each hospital"):
        mw.register.tasks("bad", thing)


def test_a_mechanism_of_ones_own_is_planned_and_run(tmp_path: Path) -> None:
    """Here metaward's noisy sums, under another name."""
    register_all()

    @mw.register.mechanism("mine")
    class Mine(Sums):
        name: ClassVar[str] = "mine"

    own = {"privacy": {"mechanism": "mine"}, "client.schedule": "passes", "server.workers": 1}
    run = mw.load(configuration(), own)
    assert MECHANISM.plain(run.privacy)["mechanism"] == "mine"
    same = mw.load(configuration(), own | {"privacy": {"mechanism": "sums"}})
    assert mw.plan(run).sums == mw.plan(same).sums
    one, two = mw.run(run, tmp_path / "one"), mw.run(same, tmp_path / "two")
    assert (one.theta == two.theta).all()


def test_a_mechanism_knows_its_own_name() -> None:
    with pytest.raises(TypeError, match="calls itself 'sums'; give it name = 'mine'"):
        mw.register.mechanism("mine", type("Mine", (Sums,), {}))


# ------------------------------------------------------------------------------------ names


@pytest.mark.parametrize("name", ["", "Tiny", "a b", "1st", "../x", "x" * 65, "é"])
def test_names_are_plain(name: str) -> None:
    with pytest.raises(ValueError, match="is no name"):
        mw.register.network(name, Small)


def test_names_of_metawards_own_are_taken() -> None:
    for register, name in (
        (mw.register.network, "mlp"),
        (mw.register.learner, "maml"),
        (mw.register.tasks, "sine"),
        (mw.register.mechanism, "sums"),
    ):
        with pytest.raises(ValueError, match=f"{name} is metaward's own; choose another name"):
            register(name, Small)  # type: ignore[operator]


def test_the_last_registration_of_a_name_counts(tmp_path: Path) -> None:
    """As cells of a notebook are run again; also where hospitals answer in this process."""
    register_all()
    run = mw.load(configuration(), {"server.workers": 1, "client.tasks_per_round": 1})
    first = mw.run(run, tmp_path / "first").theta
    mw.register.learner("slower", type("Slower", (Slower,), {"part": 0.25, "__annotations__": {}}))
    mw.register.network("small", lambda shape: nn.Linear(shape[0], 6))
    again = mw.run(mw.load(configuration(), {"server.workers": 1}), tmp_path / "again").theta
    assert first.shape == again.shape
    assert (first != again).any()


def test_unknown_names_are_refused_with_what_there_is() -> None:
    register_all()
    with pytest.raises(mw.ConfigError, match=r"client\.model\.network: unknown 'smal'.*small"):
        mw.load(configuration(), {"client.model": {"network": "smal"}})


def test_what_is_registered_is_told() -> None:
    register_all()
    found = mw.register.names()
    assert found == {
        "source": ["clinics"],
        "network": ["small"],
        "algorithm": ["slower"],
        "mechanism": [],
        "function": [],
        "metric": [],
    }
    assert len(CENTRES) == 4
