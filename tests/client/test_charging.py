"""What a request costs, and whom: records by name and by content, patients, never a bystander."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from metaward.client.charging import Plan, charges, contents, plan
from metaward.client.inner import ALGORITHMS, Setting
from metaward.client.models import Mlp
from metaward.client.schedule import Share, deal
from metaward.client.tasks import TASKS
from metaward.client.tasks.base import Hospital, Stored, TaskSpec
from metaward.client.tasks.kinds import CLASSIFICATION
from metaward.privacy import Charge, Opening, Use
from metaward.privacy.accounting import enforced_epsilon
from metaward.privacy.event import gaussian, merged
from metaward.privacy.noise import SeededNoise
from tests.client.wards import share, ward
from tests.mechanisms import protecting

SETTING = Setting(Mlp((3,)), TaskSpec(CLASSIFICATION, (4,), 2, 2, False))
LEARNERS = {
    "reptile": {"steps": 3},
    "fomaml": {"steps": 3},
    "maml": {"steps": 3},
    "proto_maml": {"steps": 3},
    "fedavg": {"steps": 3},
    "embedding": {},
    "metric": {},
}
Y = [0, 1] * 6


def learner(name: str) -> Any:
    return ALGORITHMS[name](**LEARNERS[name])


def price(mechanism: str, algorithm: str, tasks: Share, **options: Any) -> Plan:
    method = learner(algorithm)
    theta = method.initial(SETTING, 1)
    made = protecting(mechanism, **options)
    return plan(made, method, SETTING, theta, tasks, np.random.default_rng(5))


def paid(
    mechanism: str, algorithm: str, hospital: Hospital, tasks: Share
) -> dict[str, Counter[float]]:
    """Of each key: how many sums at which noise."""
    made = protecting(mechanism)
    found = charges(made, price(mechanism, algorithm, tasks), hospital)
    assert_sound(found)
    bill: dict[str, Counter[float]] = {}
    for key, cost in merged(found).items():
        for event in cost:
            bill.setdefault(key, Counter())[event.noise_multiplier] += event.count
    return bill


def assert_sound(found: list[Charge]) -> None:
    """No key twice, no charge without keys or events: the ledger would not take it."""
    keys = [key for charge in found for key in charge.keys]
    assert len(set(keys)) == len(keys) > 0
    assert all(charge.events for charge in found)


def sums(bill: dict[str, Counter[float]], key: str) -> int:
    return bill[key].total()


def content(hospital: Hospital, row: int) -> str:
    return contents(hospital, [row])[0]


# ---------------------------------------------------------------- known before, and real


@pytest.mark.parametrize("algorithm", LEARNERS)
@pytest.mark.parametrize("mechanism", ["record", "patient"])
def test_a_session_serves_the_rehearsed_sums_to_the_last_one(
    mechanism: str, algorithm: str
) -> None:
    """On real hospitals' tasks: nothing asked for that was not charged, nothing charged in vain."""
    source = TASKS["phantom"](hospitals=2, unseen=1, records=120, ways=2, shots=2, queries=3)  # type: ignore[call-arg]
    hospital = source.hospital(0, None, 5)
    setting, method = Setting(Mlp((3,)), source.spec()), learner(algorithm)
    made = protecting(mechanism)
    tasks = Share(deal(hospital, made.unit, np.random.default_rng(1))[:2], 4)
    theta = method.initial(setting, 1)
    known = plan(made, method, setting, theta, tasks, np.random.default_rng(5))
    opening = Opening(known.uses, known.noise, made.unit.owners(hospital), SeededNoise(1))
    session: Any = made.session(opening)
    assert session.left.total() == len(known.uses) > 0
    update = method.update(setting, theta, tasks.episodes, session, np.random.default_rng(5))
    assert session.left.total() == 0
    assert torch.isfinite(update.delta).all()


# ------------------------------------------------------------------------ who is charged


@pytest.mark.parametrize(
    ("algorithm", "support", "query"),
    [
        ("reptile", 3, 3),
        ("fomaml", 3, 1),
        ("maml", 6, 1),
        ("proto_maml", 5, 1),
        ("embedding", 1, 1),
        ("metric", 2, 2),
    ],
)
def test_records_pay_for_the_sums_they_stand_in(algorithm: str, support: int, query: int) -> None:
    """T = 3: Reptile T for all; MAML T and the T Hessian products; Proto-MAML T, features, and the
    way back. A query record stands in one gradient; all records in the embedding's only one, and in
    the metric's two: features, and their second moments."""
    hospital = ward(Y)
    bill = paid("record", algorithm, hospital, share(hospital, ([0, 1], [2, 3]), ([4, 5], [6, 7])))
    found = {key: sums(bill, key) for key in bill if key.startswith("record:")}
    expected = {f"record:r{row}": support for row in (0, 1, 4, 5)}
    assert found == expected | {f"record:r{row}": query for row in (2, 3, 6, 7)}


@pytest.mark.parametrize("mechanism", ["record", "task", "hospital", "none"])
def test_a_record_is_known_by_its_name_and_by_its_content(mechanism: str) -> None:
    """Both pay the same; who is not in a task of the round pays nothing. The hospital pays too."""
    hospital = ward(Y)
    bill = paid(mechanism, "fomaml", hospital, share(hospital, ([0, 1], [2, 3])))
    wanted = {k for row in range(4) for k in (f"record:r{row}", content(hospital, row))}
    whole = {f"hospital:{hospital.seat.name}"} if mechanism == "hospital" else set()
    assert bill.keys() == wanted | whole
    for row in range(4):
        assert bill[f"record:r{row}"] == bill[content(hospital, row)]


def test_what_each_kind_costs() -> None:
    hospital = ward(Y)
    tasks = share(hospital, ([0, 1], [2, 3]), ([4, 5], [6, 7]))
    fixed = price("record", "fomaml", tasks, noise_multiplier=2.5)
    found = merged(charges(protecting("record"), fixed, hospital))
    assert found["record:r0"] == (gaussian(2.5, 3),)
    assert found["record:r2"] == (gaussian(2.5, 1),)
    drawn = protecting("record", sampling_rate=0.5, noise_multiplier=2.5)
    found = merged(charges(drawn, fixed, hospital))
    assert found["record:r0"] == (gaussian(2.5, 3, 0.5),)
    bill = paid("none", "fomaml", hospital, tasks)
    assert all(cost == {0.0: 1} for cost in bill.values()), (
        "written down as used without protection"
    )


def test_a_record_pays_for_its_task_under_mechanism_task() -> None:
    """Dealt tasks are disjoint; drawn ones need not be, and then one sum holds a record twice:
    that costs four times as much, not twice, and is refused."""
    hospital = ward(Y)
    bill = paid("task", "reptile", hospital, share(hospital, ([0, 1], [2, 3]), ([4, 5], [6, 7])))
    assert {sums(bill, key) for key in bill} == {1}
    with pytest.raises(ValueError, match="share records"):
        paid("task", "reptile", hospital, share(hospital, ([0, 1], [2, 3]), ([0, 5], [6, 7])))


def test_a_patient_pays_once_for_a_sum_with_several_of_her_records() -> None:
    """Rows 0 and 1 (support) and 2 (query) are Ann's, 3 is Bob's: 3 steps and 1 query gradient."""
    hospital = ward(Y, patients=["ann", "ann", "ann", "bob", *"cdefghij"[:8]])
    bill = paid("patient", "fomaml", hospital, share(hospital, ([0, 1], [2, 3])))
    people = {key: sums(bill, key) for key in bill if not key.startswith("content:")}
    assert people == {"patient:ann": 4, "patient:bob": 1}
    assert {sums(bill, content(hospital, row)) for row in (0, 1, 2)} == {4}, "as the patient does"
    assert sums(bill, content(hospital, 3)) == 1
    assert len(bill) == 2 + 4


def test_who_stands_behind_a_row_is_who_pays_for_it() -> None:
    """The session clips by the same identities that are charged."""
    hospital = ward(Y, patients=["ann", "ann", *"abcdefghij"])
    assert protecting("patient").unit.owners(hospital).tolist() == hospital.patients.tolist()
    for name in ("none", "record", "task", "hospital"):
        assert protecting(name).unit.owners(hospital).tolist() == hospital.ids.tolist()


# ---------------------------------------------------------------------------- duplicates


def with_copy(support: int, query: int) -> Hospital:
    """Two records of one content: somebody's file was read in twice under another name."""
    x = np.random.default_rng(3).normal(size=(len(Y), 4)).astype(np.float32)
    x[query] = x[support]
    return ward(Y, x=x)


def test_a_shared_content_pays_as_the_record_that_pays_most() -> None:
    """Row 0 stands in 3 support sums, its copy in 1 query sum. Each name pays its own; the content
    pays the larger number of each kind, so whoever is behind it is never charged too little."""
    hospital = with_copy(0, 2)
    tasks = share(hospital, ([0, 1], [2, 3]))
    known = price("record", "fomaml", tasks, noise_multiplier=2.0)
    bill = merged(charges(protecting("record"), known, hospital))
    assert bill["record:r0"] == (gaussian(2.0, 3),)
    assert bill["record:r2"] == (gaussian(2.0, 1),)
    assert content(hospital, 0) == content(hospital, 2)
    assert bill[content(hospital, 0)] == (gaussian(2.0, 3 + 1),)
    assert len(bill) == 4 + 3


def test_two_support_copies_pay_once_each() -> None:
    hospital = with_copy(0, 1)
    bill = paid("record", "fomaml", hospital, share(hospital, ([0, 1], [2, 3])))
    assert [sums(bill, k) for k in ("record:r0", "record:r1", content(hospital, 0))] == [3, 3, 3]


def test_turned_copies_of_one_drawing_are_one_record() -> None:
    """Turns have the id of their drawing, and contents of their own unless their source says what
    is stored. Rows 0 and 1 are one drawing in two turns, both in the support set: 3 sums, in which
    they are clipped together."""
    ids = ["drawing-0", "drawing-0", *[f"drawing-{k}" for k in range(1, 11)]]
    hospital = ward(Y, ids=ids)
    bill = paid("record", "fomaml", hospital, share(hospital, ([0, 1], [2, 3])))
    assert sums(bill, "record:drawing-0") == 3
    assert {sums(bill, content(hospital, row)) for row in (0, 1)} == {3}
    assert content(hospital, 0) != content(hospital, 1)
    assert len(bill) == 3 + 4
    drawn = replace(hospital, stored=Stored(hospital.x[1:], np.arange(12).clip(1) - 1))
    bill = paid("record", "fomaml", drawn, share(hospital, ([0, 1], [2, 3])))
    assert content(drawn, 0) == content(drawn, 1) == content(hospital, 1)
    assert sums(bill, content(drawn, 0)) == 3
    assert len(bill) == 3 + 3


def test_a_turned_copy_in_both_sets_costs_more_than_the_noise_was_made_for() -> None:
    """Noise is derived row by row, from what is public. A drawing in both sets pays for both: the
    ledger sees it and ends at the budget, too early rather than too late."""
    ids = ["drawing-0", "b", "drawing-0", "c", *"defghijk"]
    hospital = ward(Y, ids=ids)
    made = protecting("record")
    tasks = share(hospital, ([0, 1], [2, 3]))
    found = merged(charges(made, price("record", "fomaml", tasks), hospital))
    assert made.budget is not None
    spent = {key: enforced_epsilon(found[f"record:{key}"], made.budget.delta) for key in "bc"}
    assert max(spent.values()) <= made.budget.epsilon
    both = enforced_epsilon(found["record:drawing-0"], made.budget.delta)
    assert both > made.budget.epsilon


# ------------------------------------------------------------------------------ contents


def test_content_is_the_stored_record_alone() -> None:
    """Not the label, which may be corrected; not the view, which a request's options choose; not
    the place in the file."""
    hospital = ward(Y)
    found = contents(hospital, range(len(Y)))
    assert len(set(found)) == len(Y)
    expected = hashlib.sha256(hospital.x[3].tobytes()).hexdigest()
    assert found[3] == f"content:{expected}"
    relabelled = replace(hospital, y=1 - hospital.y, view=lambda rows: rows * 0)
    assert contents(relabelled, range(len(Y))) == found
    turned = replace(hospital, x=hospital.x[::-1])
    assert contents(turned, range(len(Y))) == found[::-1]
    columns = replace(hospital, x=np.asfortranarray(hospital.x))
    assert contents(columns, range(len(Y))) == found, "a matter of memory, not of content"


def test_one_changed_value_is_another_content_under_the_same_name() -> None:
    hospital = ward(Y)
    x = hospital.x.copy()
    x[0, 0] += 1
    tasks = share(hospital, ([0, 1], [2, 3]))
    before = paid("record", "fomaml", hospital, tasks)
    after = paid("record", "fomaml", replace(hospital, x=x), tasks)
    assert len(after.keys() - before.keys()) == 1
    assert "record:r0" in before.keys() & after.keys()


def test_equal_costs_are_one_charge() -> None:
    """A ledger row for each different list of events, not for each key."""
    hospital = ward(Y)
    tasks = share(hospital, ([0, 1], [2, 3]), ([4, 5], [6, 7]))
    found = charges(protecting("record"), price("record", "fomaml", tasks), hospital)
    assert [len(charge.keys) for charge in found] == [8, 8]
    last = price("record", "fomaml", tasks).uses[-1]
    assert last == Use("query", (2, 3, 6, 7)), "one sum for the queries of all tasks"
