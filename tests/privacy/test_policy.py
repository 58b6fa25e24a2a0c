"""The hospital's policy: every excess is refused under its own code; nothing is clamped."""

import math
from dataclasses import replace
from typing import Any, get_type_hints

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from metaward.privacy import MECHANISMS, UNITS
from metaward.privacy.asked import Asked, PolicyError
from metaward.privacy.event import Budget
from metaward.privacy.policy import LARGEST_NOISE, SMALLEST_CLIP, Policy
from metaward.privacy.release import POLICY_CODES

POLICY = Policy(
    hospital="north",
    mechanisms=("sums",),
    units=("record", "patient"),
    epsilon=3.0,
    delta=1e-5,
    noise_multiplier=2.0,
    clip=1.5,
    sampling_rate=0.5,
    train=True,
    steps=10,
    tasks=20,
    rounds=40,
    evaluate=True,
    episodes=30,
    metrics=("accuracy",),
    loss=False,
    plugins=(),
)
OPEN = replace(
    POLICY,
    mechanisms=("none",),
    units=("none",),
    epsilon=None,
    delta=None,
    noise_multiplier=None,
    clip=None,
    sampling_rate=None,
    loss=True,
    plugins=(),
)
# All of these lie exactly at POLICY's limits.
TRAIN = Asked("train", "north", "sums", "record", 40, 40, 20, 10, 2.0, 1.5, sampling_rate=0.5)
EVALUATE = Asked("evaluate", "north", "sums", "patient", 40, 0, 30, metrics=("accuracy",))
ATTEND = Asked("attend", "north", "sums", "record", 40)


def refused(policy: Policy, asked: Asked) -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        policy.admit(asked)
    assert caught.value.code in POLICY_CODES
    return caught.value


@pytest.mark.parametrize("asked", [TRAIN, EVALUATE, ATTEND], ids=lambda asked: asked.purpose)
def test_exactly_at_every_limit_is_admitted(asked: Asked) -> None:
    POLICY.admit(asked)


NEXT = math.nextafter  # the very next number beyond a limit

# (request, field, value, code, key in the policy, limit as the reason shows it)
EXCESSES: list[tuple[Asked, str, Any, str, str, str]] = [
    (TRAIN, "hospital", "south", "policy-hospital", "hospital", "north"),
    (ATTEND, "hospital", "North", "policy-hospital", "hospital", "north"),
    (TRAIN, "mechanism", "none", "policy-mechanism", "mechanisms", "sums"),
    (EVALUATE, "mechanism", "whole", "policy-mechanism", "mechanisms", "sums"),
    (ATTEND, "mechanism", "whole", "policy-mechanism", "mechanisms", "sums"),
    (TRAIN, "unit", "none", "policy-unit", "units", "record, patient"),
    (EVALUATE, "unit", "task", "policy-unit", "units", "record, patient"),
    (ATTEND, "unit", "hospital", "policy-unit", "units", "record, patient"),
    (TRAIN, "noise_multiplier", NEXT(2.0, 0), "policy-noise", "noise_multiplier", "2.0"),
    (TRAIN, "noise_multiplier", 0.0, "policy-noise", "noise_multiplier", "2.0"),
    (TRAIN, "noise_multiplier", None, "policy-noise", "noise_multiplier", "2.0"),
    (TRAIN, "noise_multiplier", 65536.0, "policy-noise", "noise_multiplier", "65535"),
    (TRAIN, "clip", NEXT(1.5, 2), "policy-clip", "clip", "1.5"),
    (TRAIN, "clip", None, "policy-clip", "clip", "1.5"),
    (TRAIN, "clip", NEXT(1e-6, 0), "policy-clip", "clip", "1e-06"),
    (TRAIN, "sampling_rate", NEXT(0.5, 0), "policy-sampling", "sampling_rate", "0.5"),
    (TRAIN, "sampling_rate", NEXT(1, 2), "policy-sampling", "sampling_rate", "1.0"),
    (TRAIN, "sampling_rate", None, "policy-sampling", "sampling_rate", "0.5"),
    (TRAIN, "steps", 11, "policy-steps", "steps", "10"),
    (TRAIN, "tasks", 21, "policy-tasks", "tasks", "20"),
    (EVALUATE, "tasks", 31, "policy-tasks", "episodes", "30"),
    (TRAIN, "rounds", 41, "policy-rounds", "rounds", "40"),
    (EVALUATE, "rounds", 41, "policy-rounds", "rounds", "40"),
    (ATTEND, "rounds", 41, "policy-rounds", "rounds", "40"),
    (TRAIN, "round", 41, "policy-rounds", "rounds", "40"),
    (replace(TRAIN, rounds=30, round=30), "round", 31, "policy-rounds", "rounds", "30"),
    (TRAIN, "metrics", ("loss",), "policy-metric", "loss", "none"),
    (TRAIN, "metrics", ("accuracy",), "policy-metric", "loss", "none"),
    (EVALUATE, "metrics", ("accuracy", "mse"), "policy-metric", "metrics", "accuracy"),
    (EVALUATE, "metrics", ("loss",), "policy-metric", "metrics", "accuracy"),
    (EVALUATE, "metrics", (), "policy-metric", "metrics", "accuracy"),
    (TRAIN, "purpose", "export", "policy-purpose", "train, evaluate", "train: true"),
]


@pytest.mark.parametrize(
    ("good", "field", "value", "code", "key", "limit"),
    EXCESSES,
    ids=[f"{row[0].purpose}-{row[1]}-{row[2]}" for row in EXCESSES],
)
def test_an_excess_is_refused_under_its_code_and_names_both_values(
    good: Asked, field: str, value: Any, code: str, key: str, limit: str
) -> None:
    error = refused(POLICY, replace(good, **{field: value}))
    assert error.code == code
    shown = value[-1] if field == "metrics" and value else value
    assert repr(shown) in error.reason
    assert f"policy key {key} allows" in error.reason
    assert limit in error.reason.split(" allows ")[1]


def test_every_code_has_a_test() -> None:
    met = {row[3] for row in EXCESSES} | {"policy-missing", "policy-unreadable"}  # test_policy_file
    met |= {"policy-plugin"}  # below
    met |= {"policy-delta"}  # tests/client/test_guard.py
    assert met == POLICY_CODES


@pytest.mark.parametrize(
    ("asked", "closed", "code"),
    [
        (TRAIN, {"train": False}, "policy-purpose"),
        (EVALUATE, {"evaluate": False, "episodes": 0, "metrics": ()}, "policy-purpose"),
    ],
    ids=["train", "evaluate"],
)
def test_what_a_hospital_does_not_do_is_refused(
    asked: Asked, closed: dict[str, Any], code: str
) -> None:
    policy = replace(POLICY, **closed)
    assert refused(policy, asked).code == code
    policy.admit(ATTEND)  # it still does the other


def test_a_hospital_that_does_nothing_does_not_even_attend() -> None:
    policy = replace(POLICY, train=False, evaluate=False, episodes=0, metrics=())
    error = refused(policy, ATTEND)
    assert error.code == "policy-purpose"
    assert "train: false, evaluate: false" in error.reason


INSANE = [math.nan, math.inf, -math.inf, -1, -1.0, 0, True, False, "3", [2], (), 1e308]


@pytest.mark.parametrize("value", INSANE, ids=repr)
@pytest.mark.parametrize(
    ("field", "code"),
    [
        ("noise_multiplier", "policy-noise"),
        ("clip", "policy-clip"),
        ("sampling_rate", "policy-sampling"),
        ("steps", "policy-steps"),
        ("tasks", "policy-tasks"),
        ("rounds", "policy-rounds"),
    ],
)
def test_a_value_that_is_no_sane_number_is_refused(field: str, code: str, value: Any) -> None:
    assert refused(POLICY, replace(TRAIN, **{field: value})).code == code


@pytest.mark.parametrize("value", [2.0, np.int64(2), math.nan, -1, True, "2", None], ids=repr)
def test_a_count_is_a_whole_number(value: Any) -> None:
    for field, code in (("steps", "steps"), ("tasks", "tasks"), ("rounds", "rounds")):
        assert refused(POLICY, replace(TRAIN, **{field: value})).code == f"policy-{code}"
    assert refused(POLICY, replace(TRAIN, round=value)).code == "policy-rounds"


def test_a_clip_may_be_whole_and_a_multiplier_numpys() -> None:
    POLICY.admit(replace(TRAIN, clip=1, noise_multiplier=np.float64(2.5)))
    POLICY.admit(replace(TRAIN, clip=SMALLEST_CLIP, noise_multiplier=LARGEST_NOISE))


def test_under_none_there_must_be_nothing_to_limit() -> None:
    nothing = {"mechanism": "none", "unit": "none", "noise_multiplier": None, "clip": None}
    asked = replace(TRAIN, **nothing, metrics=("loss",), sampling_rate=1.0)
    OPEN.admit(asked)
    assert refused(OPEN, replace(asked, sampling_rate=0.5)).code == "policy-sampling"
    assert refused(OPEN, replace(asked, noise_multiplier=1.0)).code == "policy-noise"
    assert refused(OPEN, replace(asked, clip=1.0)).code == "policy-clip"
    assert refused(OPEN, replace(asked, mechanism="sums")).code == "policy-mechanism"
    assert refused(OPEN, replace(asked, unit="record")).code == "policy-unit"
    assert refused(replace(OPEN, loss=False), asked).code == "policy-metric"


def test_null_binds_to_no_name() -> None:
    replace(POLICY, hospital=None).admit(replace(TRAIN, hospital="anyone"))


def test_a_hostile_name_cannot_forge_a_log_line() -> None:
    error = refused(POLICY, replace(TRAIN, mechanism="x\nhospital north: admitted" + "y" * 10_000))
    assert "\n" not in error.reason
    assert len(error.reason) < 300


def test_the_budget_is_the_policys() -> None:
    assert POLICY.budget() == Budget(3.0, 1e-5)
    assert OPEN.budget() is None


@pytest.mark.parametrize(("key", "registry"), [("mechanisms", MECHANISMS), ("units", UNITS)])
def test_the_names_are_those_that_exist(
    monkeypatch: pytest.MonkeyPatch, key: str, registry: dict[str, Any]
) -> None:
    """A registered mechanism, or a unit that was added, can be allowed without a word here."""
    hint = TypeAdapter(get_type_hints(Policy, include_extras=True)[key])
    assert hint.validate_python(tuple(registry)) == tuple(registry)
    with pytest.raises(ValidationError, match=f"must be one of {', '.join(registry)}"):
        hint.validate_python(("new",))
    monkeypatch.setitem(registry, "new", next(iter(registry.values())))
    assert hint.validate_python(("new",)) == ("new",)


# --------------------------------------------------------------------------------- plug-ins

OWN = replace(POLICY, plugins=("network:tiny", "mechanism:secure"))


def test_plug_ins_are_run_where_the_policy_names_them() -> None:
    OWN.admit_plugins([])
    POLICY.admit_plugins([])
    OWN.admit_plugins(["network:tiny", "mechanism:secure"])
    for names in (["network:other"], ["network:tiny", "algorithm:tiny"], ["tiny"]):
        with pytest.raises(PolicyError, match=f"{names[-1]}.*policy key plugins") as caught:
            OWN.admit_plugins(names)
        assert caught.value.code == "policy-plugin"
    with pytest.raises(PolicyError, match="plugins allows none"):
        POLICY.admit_plugins(["network:tiny"])


def test_a_mechanism_that_is_a_plug_in_is_named_among_them() -> None:
    asked = replace(TRAIN, mechanism="secure")
    OWN.admit(asked)
    assert refused(POLICY, asked).code == "policy-mechanism"
    replace(OWN, mechanisms=()).admit(asked)
    with pytest.raises(ValueError, match=r"mechanisms: \[\] allows no run"):
        replace(POLICY, mechanisms=())
