"""What a hospital is sent: it comes back equal, holds nothing of the server's, and is checked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import pytest

from metaward import sim
from metaward.client.desk import Desk, read_desk
from metaward.client.inner import ALGORITHMS
from metaward.client.models.adapter import Adapter
from metaward.options import ConfigError
from metaward.privacy import Mechanism
from tests.mechanisms import EVERY, protecting
from tests.server.small import small

FILES = [sim.DEFAULT, *sorted((sim.HERE / "configs").glob("*.yaml"))]
SMALL = small().desk()
PHANTOM = small("client.tasks={source: phantom}", "client.model={network: conv}").desk()


def keys_of(value: Any) -> Iterator[str]:
    """Every key of nested JSON."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield key
            yield from keys_of(below)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_desk_comes_back_from_json(path: Any) -> None:
    desk = sim.load(path).desk()
    assert read_desk(desk.json()) == desk
    assert read_desk(desk.json()).json() == desk.json()


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_every_learner_comes_back_from_json(name: str) -> None:
    desk = replace(PHANTOM, learner=ALGORITHMS[name]())
    if name == "proto_anil":  # the network must map class means to class means
        desk = replace(desk, architecture=Adapter())
    assert read_desk(desk.json()) == desk


@pytest.mark.parametrize("mechanism", EVERY, ids=lambda one: one.unit.name)
def test_every_mechanism_comes_back_from_json(mechanism: Mechanism) -> None:
    desk = replace(SMALL, mechanism=mechanism, schedule="passes")
    assert read_desk(desk.json()) == desk


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_desk_holds_nothing_of_strategies_server_and_data(path: Any) -> None:
    """But for the number of rounds: every hospital is told how often it will be asked."""
    run = sim.load(path)
    whole = run.mapping()
    told = json.loads(run.desk().json())
    assert told.keys() == {field.name for field in fields(Desk)}
    others = {key for part in ("strategies", "server", "data") for key in keys_of(whole[part])}
    hospitals = {key for part in ("client", "privacy") for key in keys_of(whole[part])}
    assert others - hospitals - {"rounds"}, "there is something to keep back"
    assert not set(keys_of(told)) & (others - hospitals - {"rounds"})
    assert not set(told) & {"strategies", "server", "data"}


def test_whatever_the_server_is_set_to_hospitals_are_sent_the_same(tmp_path: Any) -> None:
    settings = (
        f"data.root={tmp_path}",
        f"server.out={tmp_path}/out",
        "server.device=cuda:3",
        "server.workers=7",
        "strategies.max_norm=3.0",
        "strategies.outer={optimizer: sgd}",
        "name=another",
    )
    assert small(*settings).desk().json() == SMALL.json()
    assert small("seed=6").desk().json() != SMALL.json()


@pytest.mark.parametrize("text", ["", "{", "[1,", "nonsense", '{"seed": NaN}', "null", "[]", "3"])
def test_text_that_is_no_desk_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="desk"):
        read_desk(text)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("learner", "lr"), "1", "learner.lr: '1' is refused: must be a number"),
        (("learner", "algorithm"), "sgd", "learner.algorithm: unknown 'sgd'; choose from"),
        (("learner", "l"), 1, "learner.l: unknown key; did you mean"),
        (("source", "source"), "xray", "source.source: unknown 'xray'"),
        (("architecture", "network"), "resnet", "architecture.network: unknown 'resnet'"),
        (("mechanism", "mechanism"), "dp", "mechanism.mechanism: unknown 'dp'"),
        (("schedule",), "sometimes", "schedule: 'sometimes' is refused"),
        (("rounds",), 0, "rounds: 0 is refused: must be greater than or equal to 1"),
        (("tasks_per_round",), 0, "tasks_per_round: 0 is refused"),
        (("seed",), -1, "seed: -1 is refused"),
        (("server",), {"out": "/etc"}, "server: unknown key"),
    ],
)
def test_a_fault_names_key_value_and_what_is_allowed(
    path: tuple[str, ...], value: Any, expected: str
) -> None:
    told = json.loads(SMALL.json())
    place = told
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ConfigError) as caught:
        read_desk(json.dumps(told))
    (fault,) = caught.value.faults
    assert fault.startswith(expected)


def test_all_faults_are_told_at_once() -> None:
    told = json.loads(SMALL.json()) | {"seed": -1, "rounds": "six", "more": 1}
    del told["learner"]
    with pytest.raises(ConfigError) as caught:
        read_desk(json.dumps(told))
    named = sorted(fault.split(":")[0] for fault in caught.value.faults)
    assert named == ["learner", "more", "rounds", "seed"]


def test_parts_that_do_not_go_together_are_refused() -> None:
    """The server's own check of the file is not relied upon."""
    mixing = replace(SMALL.learner, local_lr=0.1)  # type: ignore[type-var]
    unfit = replace(SMALL, learner=mixing, mechanism=protecting("task"), schedule="random")
    with pytest.raises(ConfigError) as caught:
        read_desk(unfit.json())
    named = [fault.split(":")[0] for fault in caught.value.faults]
    assert named == ["learner.algorithm", "schedule"]
    with pytest.raises(ConfigError, match=r"architecture\.network conv takes signals"):
        read_desk(replace(SMALL, architecture=PHANTOM.architecture).json())


def test_learners_have_tags_of_their_own() -> None:
    """Seeded noise is drawn with it: two learners of a run must not share theirs."""
    other = replace(SMALL, learner=replace(SMALL.learner, lr=0.5))  # type: ignore[type-var]
    assert other.learner_tag != SMALL.learner_tag
    assert replace(SMALL, rounds=9, seed=1).learner_tag == SMALL.learner_tag
    assert 0 <= SMALL.learner_tag < 2**64
