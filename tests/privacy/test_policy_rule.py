"""The policy's whole rule said a second time, plainly, and held against the code on drawn cases."""

import math
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from metaward.privacy.asked import Asked, PolicyError
from metaward.privacy.policy import Policy


def around(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


COUNTS = around(-1, 0, 1, 2, 3, 4, 1.0, math.nan, True, None)
NUMBERS = around(
    -1.0,
    0.0,
    1e-9,
    0.5,
    1.0,
    math.nextafter(1.0, 0),
    math.nextafter(1.0, 2),
    2.0,
    1e9,
    math.nan,
    math.inf,
    None,
)
MECHANISMS = ("none", "sums", "whole")
UNITS = ("none", "record", "patient", "task", "hospital")
SERVED = {"none": UNITS[:1], "sums": UNITS[1:3], "whole": UNITS[3:]}
REQUESTS = st.builds(
    Asked,
    purpose=around("train", "train", "evaluate", "attend", "else"),
    hospital=around("a", "a", "b"),
    mechanism=around(*MECHANISMS, "other"),
    unit=around(*UNITS, "other"),
    rounds=COUNTS,
    round=COUNTS,
    tasks=COUNTS,
    steps=COUNTS,
    noise_multiplier=NUMBERS,
    clip=NUMBERS,
    metrics=st.lists(around("accuracy", "mse", "loss", "records"), max_size=2).map(tuple),
    sampling_rate=st.one_of(st.just(1.0), NUMBERS),
)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    unit = draw(st.booleans())
    evaluate = draw(st.booleans())
    caps = {key: draw(st.integers(1, 3)) for key in ("steps", "tasks", "rounds")}
    units = draw(st.lists(around(*UNITS[1:]), min_size=1, max_size=3).map(tuple))
    mechanisms = tuple(m for m, served in SERVED.items() if set(served) & set(units))
    scores = st.lists(around("accuracy", "mse"), min_size=1, max_size=2).map(tuple)
    return Policy(
        hospital=draw(around(None, "a")),
        mechanisms=mechanisms if unit else ("none",),
        units=units if unit else ("none",),
        epsilon=1.0 if unit else None,
        delta=1e-5 if unit else None,
        noise_multiplier=draw(around(0.5, 1.0)) if unit else None,
        clip=draw(around(1.0, 2.0)) if unit else None,
        sampling_rate=draw(around(0.5, 1.0)) if unit else None,
        train=draw(st.booleans()),
        evaluate=evaluate,
        episodes=draw(st.integers(1, 3)) if evaluate else 0,
        metrics=draw(scores) if evaluate else (),
        loss=not unit and draw(st.booleans()),
        plugins=(),
        **caps,
    )


def count_within(value: Any, low: int, high: int) -> bool:
    return type(value) is int and value in range(low, high + 1)


def allowed(policy: Policy, asked: Asked) -> bool:
    """The rule in one expression, without the code's helpers."""
    p, a = policy, asked
    run = (
        (p.hospital is None or p.hospital == a.hospital)
        and a.mechanism in p.mechanisms
        and a.unit in p.units
        and count_within(a.rounds, 1, p.rounds)
        and count_within(a.round, 0, a.rounds)
    )
    if a.purpose == "attend":
        return run and (p.train or p.evaluate)
    if a.purpose == "evaluate":
        scores = len(a.metrics) > 0 and set(a.metrics) <= set(p.metrics)
        return run and p.evaluate and scores and count_within(a.tasks, 1, p.episodes)
    if a.purpose != "train" or not (run and p.train):
        return False
    floor, noise, cap, clip = p.noise_multiplier, a.noise_multiplier, p.clip, a.clip
    if floor is None or cap is None or noise is None or clip is None:
        gauss = floor is noise is cap is clip is None
    else:
        gauss = floor <= noise < 65536 and 1e-6 <= clip <= cap
    least, rate = p.sampling_rate or 1.0, a.sampling_rate
    gauss = gauss and rate is not None and least <= rate <= 1
    counts = count_within(a.steps, 1, p.steps) and count_within(a.tasks, 1, p.tasks)
    return gauss and counts and all(name == "loss" and p.loss for name in a.metrics)


def admitted(policy: Policy, asked: Asked) -> bool:
    with suppress(PolicyError):
        policy.admit(asked)
        return True
    return False


@given(policies(), REQUESTS)
def test_admitted_is_exactly_what_lies_within_every_limit(policy: Policy, asked: Asked) -> None:
    assert admitted(policy, asked) == allowed(policy, asked)


@settings(max_examples=500)
@given(policies(), st.data())
def test_one_value_outside_its_limit_is_enough(policy: Policy, data: st.DataObject) -> None:
    """One field of an admitted request is drawn anew: it is now outside more often than not."""
    good = within(policy)
    if good is None:
        return
    policy.admit(good)
    name = data.draw(st.sampled_from([field.name for field in fields(Asked)]))
    asked = replace(good, **{name: getattr(data.draw(REQUESTS), name)})
    assert admitted(policy, asked) == allowed(policy, asked)


def within(policy: Policy) -> Asked | None:
    """A request at the policy's limits; None where it takes part in nothing."""
    seat, rounds = policy.hospital or "a", policy.rounds
    names = policy.mechanisms[-1], policy.units[-1]
    if policy.train:
        noise, clip = policy.noise_multiplier, policy.clip
        return Asked("train", seat, *names, rounds, rounds, policy.tasks, policy.steps, noise, clip)
    if policy.evaluate:
        episodes = policy.episodes
        return Asked("evaluate", seat, *names, rounds, 0, episodes, metrics=policy.metrics)
    return None
