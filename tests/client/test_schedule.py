"""Which records a hospital works on: disjoint tasks, and none more often than is priced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from math import ceil
from typing import Any

import numpy as np
import pytest

from metaward.client import schedule, work
from metaward.client.errors import DataError
from metaward.client.schedule import Share, deal, name_of, pass_share, random_share
from metaward.client.tasks import TASKS
from metaward.client.tasks.base import Episode, FewShot, Hospital
from metaward.privacy import UNITS
from tests.client.wards import rows_of, task, ward
from tests.mechanisms import spelled
from tests.server.small import small

LONG = FewShot(ways=2, shots=2, queries=3)


@cache
def phantom() -> Hospital:
    source = TASKS["phantom"](hospitals=2, unseen=1, records=120, ways=2, shots=2, queries=3)  # type: ignore[call-arg]
    return source.hospital(0, None, 5)


HOSPITALS: dict[str, Callable[[], Hospital]] = {
    "few-shot": lambda: ward([0, 1, 2] * 24, LONG),
    "natural": lambda: ward([0, 0, 0, 1] * 18, LONG, natural=True),
    "rotated": lambda: ward([0, 1, 2] * 24, LONG, ids=[f"r{k % 36}" for k in range(72)]),
    "sine": lambda: TASKS["sine"](functions=5, points=40).hospital(0, None, 5),  # type: ignore[call-arg]
    "phantom": phantom,
}
every_hospital = pytest.mark.parametrize("name", HOSPITALS)
Dealt = Callable[[int], tuple[Episode, ...]]


def dealer(hospital: Hospital, unit: str = "record", seed: int = 1) -> Dealt:
    return cache(lambda number: deal(hospital, UNITS[unit], np.random.default_rng([seed, number])))


def shares(dealt: Dealt, tasks: int, rounds: int) -> list[Share]:
    first = len(dealt(0))
    return [pass_share(dealt, first, tasks, rounds, number + 1) for number in range(rounds)]


def ids_of(hospital: Hospital, episodes: tuple[Episode, ...]) -> list[Any]:
    """A record's name once for each task in which it stands."""
    found = [set(hospital.ids[rows_of(e)].tolist()) for e in episodes]
    return [name for names in found for name in names]


# ------------------------------------------------------------------------------- a deal


@every_hospital
def test_tasks_of_a_deal_are_disjoint_and_whole(name: str) -> None:
    hospital = HOSPITALS[name]()
    tasks = deal(hospital, UNITS["record"], np.random.default_rng(2))
    assert len(tasks) > 2
    names = ids_of(hospital, tasks)
    assert len(set(names)) == len(names)
    one = hospital.episode(np.random.default_rng(2))
    sizes = {(len(t.support_rows), len(t.query_rows)) for t in tasks}
    assert sizes == {(len(one.support_rows), len(one.query_rows))}
    for t in tasks:
        np.testing.assert_array_equal(t.support_x, hospital.view(hospital.x[t.support_rows]))
        np.testing.assert_array_equal(t.query_x, hospital.view(hospital.x[t.query_rows]))


def test_a_deal_leaves_nothing_over_that_would_make_a_task() -> None:
    """24 records of each of three classes, five of two classes a task: 4 tasks take 20 + 20 of two
    classes, 5 more from mixed ones; whatever is left, no two classes have five records."""
    hospital = ward([0, 1, 2] * 24, LONG)
    tasks = deal(hospital, UNITS["record"], np.random.default_rng(2))
    used = [row for t in tasks for row in rows_of(t)]
    left = Counter(np.delete(hospital.y, used).tolist())
    assert sum(count >= 5 for count in left.values()) < 2
    assert len(tasks) >= 6


def test_the_best_of_several_deals_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    hospital = ward([0] * 20 + [1] * 20 + [2] * 20 + [3] * 6, LONG)
    once = schedule._deal_once
    lengths: list[int] = []

    def counted(*args: Any) -> tuple[Episode, ...]:
        tasks = once(*args)
        lengths.append(len(tasks))
        return tasks

    monkeypatch.setattr(schedule, "_deal_once", counted)
    found = [len(deal(hospital, UNITS["record"], np.random.default_rng(seed))) for seed in range(8)]
    tries = np.array(lengths).reshape(8, schedule.TRIES)
    assert found == tries.max(axis=1).tolist()
    assert (tries.min(axis=1) < tries.max(axis=1)).any(), "deals differ, or this tests nothing"


@every_hospital
@pytest.mark.parametrize("unit", ["record", "patient"])
def test_classes_that_are_kept_up_give_the_tasks_of_fresh_ones(
    name: str, unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital = HOSPITALS[name]()
    kept_up = deal(hospital, UNITS[unit], np.random.default_rng(3))

    def fresh(own: Hospital, rows: Any) -> Hospital:
        return replace(own, rows=np.setdiff1d(own.rows, rows))

    monkeypatch.setattr(Hospital, "without", fresh)
    again = deal(hospital, UNITS[unit], np.random.default_rng(3))
    assert [rows_of(t) for t in kept_up] == [rows_of(t) for t in again]


def test_without_rows_nothing_of_them_is_left() -> None:
    hospital = ward([0, 1, 2] * 4)
    assert list(hospital.by_class) == [0, 1, 2]
    gone = hospital.by_class[1]
    other = hospital.without(np.append(gone, hospital.by_class[2][:1]))
    assert other.by_class.keys() == replace(other, rows=other.rows).by_class.keys() == {0, 2}
    for c, rows in replace(other, rows=other.rows).by_class.items():
        np.testing.assert_array_equal(other.by_class[c], rows)
    assert not np.isin(gone, other.rows).any()
    assert len(hospital.rows) == 12, "the hospital itself keeps them"


def test_a_hospital_without_a_single_task_says_so() -> None:
    with pytest.raises(DataError, match="ward: 1 classes have at least"):
        deal(ward([0, 0, 0, 0, 1]), UNITS["record"], np.random.default_rng(0))


def test_a_patients_records_stand_in_one_task_at_most() -> None:
    patients = [f"p{k // 6}" for k in range(72)]
    hospital = ward([0, 1, 2] * 24, LONG, patients=patients)

    def most(cap: int | None) -> int:
        tasks = deal(hospital, replace(UNITS["patient"], cap=cap), np.random.default_rng(4))
        assert len(tasks) >= 2
        seen = Counter(who for t in tasks for who in set(hospital.patients[rows_of(t)].tolist()))
        return max(seen.values())

    assert most(1) == 1
    assert most(2) == 2
    assert most(None) > 2, "without the cap it does happen"


# ------------------------------------------------------------------- passes over rounds


@every_hospital
@pytest.mark.parametrize("tasks", [1, 2, 3, 50])
@pytest.mark.parametrize("rounds", [1, 7, 23])
def test_no_record_takes_part_more_often_than_is_priced(name: str, tasks: int, rounds: int) -> None:
    hospital = HOSPITALS[name]()
    dealt = dealer(hospital)
    found, length = shares(dealt, tasks, rounds), ceil(len(dealt(0)) / tasks)
    assert all(1 <= len(s.episodes) <= tasks for s in found), "no round without a task"
    (priced,) = {s.participations for s in found}
    seen = Counter(who for s in found for who in ids_of(hospital, s.episodes))
    assert 1 <= max(seen.values()) <= priced
    for start in range(0, rounds, length):
        within = [w for s in found[start : start + length] for w in ids_of(hospital, s.episodes)]
        assert len(set(within)) == len(within), "a record came twice in a pass"


@every_hospital
def test_a_whole_pass_uses_all_that_was_dealt(name: str) -> None:
    hospital, tasks = HOSPITALS[name](), 2
    dealt = dealer(hospital)
    length = ceil(len(dealt(0)) / tasks)
    used = [e for s in shares(dealt, tasks, length) for e in s.episodes]
    assert sorted(map(rows_of, used)) == sorted(map(rows_of, dealt(0)))
    assert {s.participations for s in shares(dealt, tasks, length)} == {1}
    assert {s.participations for s in shares(dealt, tasks, length + 1)} == {2}


def test_a_pass_that_was_dealt_worse_leaves_no_round_empty() -> None:
    """Pass 0 has five tasks, so a pass takes five rounds; pass 1 would have three: pass 0's deal
    comes again instead, which costs the same, because a record still stands in one task a pass."""
    hospital = ward([0, 1] * 15)
    first = deal(hospital, UNITS["record"], np.random.default_rng(1))[:5]
    worse = deal(hospital, UNITS["record"], np.random.default_rng(2))[:3]
    found = shares(lambda number: first if number == 0 else worse, 1, 10)
    assert [len(s.episodes) for s in found] == [1] * 10
    seen = Counter(who for s in found for who in ids_of(hospital, s.episodes))
    assert max(seen.values()) == found[0].participations == 2


def test_a_pass_that_was_dealt_better_is_cut_to_the_rounds_there_are() -> None:
    hospital = ward([0, 1] * 15)
    whole = deal(hospital, UNITS["record"], np.random.default_rng(1))
    found = shares(lambda number: whole[:2] if number == 0 else whole[:5], 1, 4)
    assert [len(s.episodes) for s in found] == [1, 1, 1, 1]
    assert max(Counter(w for s in found for w in ids_of(hospital, s.episodes)).values()) <= 2


# ------------------------------------------------------------- the hospital's own choice


RUN = small(
    "client.tasks={source: phantom, hospitals: 2, unseen: 1, records: 120, ways: 2, shots: 2, "
    "queries: 3}",
    "client.model={network: mlp, hidden: [8]}",
    "strategies.hospitals_per_round=2",
    "client.schedule=passes",
    "server.rounds=12",
)


def parts(*settings: str, rounds: int = 12) -> tuple[Hospital, list[Share]]:
    """All rounds of the first hospital under some settings."""
    mapping = [f"{key}={value}" for key, value in (s.split("=", 1) for s in settings)]
    desk = with_settings(*mapping).desk()
    hospital = work.open_hospital(desk.source, 0, None, desk.seed)
    return hospital, [work.tasks_of(desk, hospital, 0, n + 1) for n in range(rounds)]


def with_settings(*settings: str) -> Any:
    from metaward import sim
    from metaward.yaml_text import override

    mapping = RUN.mapping()
    for text in settings:
        override(mapping, text)
    return sim.parse(mapping)


def test_every_pass_is_dealt_afresh_and_always_alike() -> None:
    _, found = parts("privacy={mechanism: sums, unit: record}")
    again = parts("privacy={mechanism: sums, unit: record}")[1]
    assert [[rows_of(e) for e in s.episodes] for s in found] == [
        [rows_of(e) for e in s.episodes] for s in again
    ]
    length = 4
    assert found[0].participations == 12 / length, "more than one pass, or this tests nothing"
    assert {*map(str, map(rows_of, found[0].episodes))} != {
        *map(str, map(rows_of, found[length].episodes))
    }


def test_for_unit_task_the_first_deal_serves_all_passes() -> None:
    """A unit is a task: dealt anew, its records would be in several tasks, and be charged as one.

    No record may therefore ever share a task with another record than at first.
    """
    _, found = parts("privacy={mechanism: whole, unit: task}")
    tasks = Counter(frozenset(rows_of(e)) for s in found for e in s.episodes)
    assert max(tasks.values()) == found[0].participations == 3, "more than one pass"
    assert len(tasks) > 2
    assert sum(map(len, tasks)) == len(frozenset[int]().union(*tasks))


def test_tasks_have_one_name_however_they_are_cut_and_ordered() -> None:
    """Only which records are together matters: not who asks first, nor support and query."""
    hospital = ward([0, 1] * 9)
    one, two = task(hospital, [0, 1], [2, 3, 4, 5]), task(hospital, [6, 7], [8, 9, 10, 11])
    turned = task(hospital, [5, 4], [3, 2, 1, 0])
    assert name_of([one, two], hospital) == name_of([two, turned], hospital)
    mixed = task(hospital, [0, 1], [2, 3, 4, 11]), task(hospital, [6, 7], [8, 9, 10, 5])
    others = [[one], mixed, [task(hospital, [*range(11)], [11])]]
    assert len({name_of(tasks, hospital) for tasks in [[one, two], *others]}) == 4


def test_a_patient_stands_in_one_task_of_a_pass_for_unit_patient() -> None:
    def most(unit: str) -> tuple[int, int]:
        hospital, found = parts(spelled(unit))
        whose = [set(hospital.patients[rows_of(e)].tolist()) for s in found for e in s.episodes]
        return max(Counter(w for who in whose for w in who).values()), found[0].participations

    seen, priced = most("patient")
    assert 1 <= seen <= priced
    seen, priced = most("record")
    assert seen > priced, "records of one patient are dealt apart for unit record"


def test_for_unit_hospital_every_round_is_a_participation() -> None:
    assert {s.participations for s in parts("privacy={mechanism: whole, unit: hospital}")[1]} == {
        12
    }


def test_random_tasks_may_bring_any_record_in_every_round() -> None:
    hospital = ward([0, 1] * 5)
    rng = np.random.default_rng(0)
    found = [random_share(hospital, 3, 9, rng) for _ in range(9)]
    assert {(len(s.episodes), s.participations) for s in found} == {(3, 9)}
    seen = Counter(
        who for s in found for who in {w for e in s.episodes for w in hospital.ids[rows_of(e)]}
    )
    assert 2 < max(seen.values()) <= 9
