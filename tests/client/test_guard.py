"""Policy, ledger and noise at the hospital's edge: closed by default, charged before computed."""

from __future__ import annotations

import shutil
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metaward.client import work
from metaward.client.guard import open_guard
from metaward.client.tasks.medmnist import MedMnist
from metaward.privacy import UNITS, Attendance, Mark, Refusal, Release, Scores
from metaward.privacy.asked import PolicyError
from metaward.privacy.ledger import Ledger
from metaward.privacy.noise import SeededNoise, SystemNoise
from tests.client.bedside import OPEN, RECORD, Site, ask, code, reply_to, request, site, theta
from tests.mechanisms import protecting
from tests.server.small import small

__all__ = ["site"]
NONE = small()
DRAWN = small(
    "privacy={mechanism: sums, sampling_rate: 0.5, noise_multiplier: 9}", "client.schedule=passes"
)
UNSEEN = 4


def bytes_of(answer: Any) -> bytes:
    assert isinstance(answer, Release), answer
    return answer.update.tobytes()


def mark_of(answer: Any) -> Mark:
    assert isinstance(answer, Release), answer
    assert answer.mark is not None
    return answer.mark


# ------------------------------------------------------------------- closed by default

REQUESTS = [
    ("query.roster", request(theta=None), 0),
    ("train", request(), 0),
    ("train", request(NONE), 0),
    ("evaluate", request(episodes=2), UNSEEN),
]


@pytest.mark.parametrize(("kind", "content", "index"), REQUESTS)
def test_no_policy_no_participation(kind: str, content: Any, index: int, tmp_path: Path) -> None:
    ledger = tmp_path / "a.ledger"
    Ledger.create(ledger, "sine-01", "the tests")
    absent = str(tmp_path / "policy.yaml")
    for config in ({}, {"ledger": str(ledger)}, {"ledger": str(ledger), "policy": absent}):
        assert code(ask(kind, content, index, **config)) == "policy-missing"
    Path(absent).write_text("epsilon: 3\n")
    config = {"ledger": str(ledger), "policy": absent}
    assert code(ask(kind, content, index, **config)) == "policy-unreadable"


@pytest.mark.parametrize(("kind", "content", "index"), REQUESTS)
def test_no_ledger_no_participation(kind: str, content: Any, index: int, site: Site) -> None:
    """One that was initialised and is gone is not made anew: that would wipe all that was spent."""
    policy = str(site.policy)
    assert code(ask(kind, content, index, policy=policy)) == "ledger-missing"
    site.path.unlink()
    assert code(site.ask(kind, content, index)) == "ledger-missing"
    assert not site.path.exists()


def test_the_server_cannot_call_it_a_simulation(site: Site, tmp_path: Path) -> None:
    """A simulated hospital has no policy, so a node with one of its own never becomes simulated."""
    folder = tmp_path / "simulation"
    site.write(train=False)
    for config in (site.config, {"policy": str(site.policy)}, {"ledger": str(site.path)}):
        answer = ask("train", request(), 0, simulation=str(folder), **config)
        assert code(answer) in {"policy-purpose", "ledger-missing", "policy-missing"}
    assert not folder.exists()


@pytest.mark.parametrize(
    ("config", "asked", "expected"),
    [
        ({}, True, False),
        ({"download": False}, True, False),
        ({"download": "yes"}, True, False),
        ({"download": True}, True, True),
        ({"download": True}, False, True),
        ({"simulation": "s"}, True, True),
        ({"simulation": "s"}, False, False),
        ({"simulation": "s", "download": True}, False, False),
    ],
)
def test_only_the_hospitals_own_setting_opens_a_connection(
    config: dict[str, Any],
    asked: bool,
    expected: bool,
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A simulation belongs to whoever wrote the yaml; a hospital with a policy does not."""
    connections: list[str] = []

    def connect(url: str, timeout: float) -> None:
        connections.append(url)
        raise OSError("not here")

    monkeypatch.setattr(urllib.request, "urlopen", connect)
    site.write(**OPEN)
    own = {} if "simulation" in config else site.config
    desk = replace(NONE.desk(), source=MedMnist(download=asked))
    start = desk.learner.initial(work.open_setting(desk), desk.seed).numpy()
    content = request(NONE, desk=desk.json(), theta=start)
    roster = request(NONE, desk=content.desk, theta=None)
    for kind, of in (("query.roster", roster), ("train", content)):
        answer = ask(kind, of, 0, **{**own, "data-root": str(tmp_path / "none"), **config})
        assert code(answer) == "data-refused"
    assert bool(connections) == expected


def test_real_noise_is_the_systems_and_simulated_noise_is_seeded(
    site: Site, tmp_path: Path
) -> None:
    mechanism = protecting("record")
    real = open_guard(site.config, mechanism, "run-1", "sine-01", (1, 2), True)
    assert type(real.noise) is SystemNoise
    config = {"simulation": str(tmp_path / "s")}
    made = [open_guard(config, mechanism, "r", "sine-01", seed, True) for seed in ((1, 2), (1, 3))]
    assert {type(guard.noise) for guard in made} == {SeededNoise}
    one, other = (guard.noise.gaussian(4).tolist() for guard in made)
    assert one != other


# --------------------------------------------------------------------------- simulations


@pytest.mark.parametrize("by", ["node config", "environment"])
def test_a_simulation_makes_ledgers_as_they_are_needed(
    by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "hospitals"
    config = {"simulation": str(folder)} if by == "node config" else {}
    if by == "environment":
        monkeypatch.setenv("METAWARD_SIMULATION", str(folder))
    assert isinstance(ask("query.roster", request(theta=None), 0, **config), Attendance)
    assert isinstance(ask("evaluate", request(episodes=2), UNSEEN, **config), Scores)
    assert isinstance(ask("train", request(NONE), 0, **config), Release)
    assert not folder.exists(), "nothing was charged, so nothing is written"
    answer = ask("train", request(), 0, **config)
    path = folder / "run-1" / "sine-01.sqlite"
    assert Ledger.open(path).holds(mark_of(answer))
    assert [p.name for p in folder.rglob("*.sqlite")] == ["sine-01.sqlite"]
    assert Ledger.open(path).hospital == "sine-01"
    ask("train", request(run="run-2"), 1, **config)
    assert (folder / "run-2" / "sine-02.sqlite").is_file(), "one for each run and hospital"


def test_a_simulated_round_is_a_function_of_the_request(tmp_path: Path) -> None:
    """Seeded noise, another for each round, hospital and learner."""

    def update(folder: str, index: int = 0, **changes: Any) -> bytes:
        config = {"simulation": str(tmp_path / folder)}
        return bytes_of(ask("train", request(**changes), index, **config))

    assert update("a") == update("b")
    other = request().desk.replace('"steps":2', '"steps":1')
    assert other != request().desk
    others = [update("c", round=2), update("d", index=1), update("e", desk=other)]
    assert len({update("a"), *others}) == 4


# ----------------------------------------------------------------- an empty promise


@pytest.mark.parametrize("simulated", [True, False])
@pytest.mark.parametrize("kind", ["query.roster", "train"])
@pytest.mark.parametrize(
    ("delta", "meant", "refused"),
    [(1 / 2500, False, True), (1 / 2501, False, False), (1 / 2500, True, False)],
)
def test_a_delta_that_publishing_a_record_at_random_keeps_is_refused(
    simulated: bool,
    kind: str,
    delta: float,
    meant: bool,
    refused: bool,
    site: Site,
    tmp_path: Path,
) -> None:
    """The hospital holds 2,500 records; one that only judges is asked nothing."""
    run = small(
        f"privacy={{mechanism: sums, delta: {delta}, epsilon: 1, large_delta: {meant}}}".lower(),
        "client.schedule=passes",
    )
    config = {"simulation": str(tmp_path / "s")} if simulated else site.config
    answer = ask(kind, request(run), 0, **config)
    assert (answer == Refusal("policy-delta")) == refused
    assert isinstance(answer, Refusal | Attendance | Release)
    assert ask("query.roster", request(run), UNSEEN, **config) != Refusal("policy-delta")


def test_the_records_that_count_are_the_hospitals_own() -> None:
    """Hospitals of one file share its arrays; ``rows`` says which are theirs."""
    whole = work.open_hospital(RECORD.client.tasks, 0, None, 1)
    mechanism = protecting("record", delta=1 / 1000)
    work.check_promise(mechanism, replace(whole, rows=whole.rows[:999]))
    with pytest.raises(PolicyError, match="not below 1 / 1000 "):
        work.check_promise(mechanism, replace(whole, rows=whole.rows[:1000]))


def test_where_a_hospital_is_the_unit_there_is_no_such_delta() -> None:
    for name, unit in UNITS.items():
        if unit.protected:
            told = protecting(name, delta=0.005).empty_promise(2500)
            assert (told is None) == unit.whole, name


# ------------------------------------------------------------------ outside the policy

SILENT: dict[str, Any] = {"evaluate": False, "episodes": 0, "metrics": []}
EXCESSES: list[tuple[dict[str, Any], str, tuple[str, Any, int]]] = [
    ({"hospital": "elsewhere"}, "policy-hospital", REQUESTS[0]),
    ({"units": ["patient"]}, "policy-unit", REQUESTS[0]),
    ({"rounds": 5}, "policy-rounds", REQUESTS[0]),
    ({"train": False, **SILENT}, "policy-purpose", REQUESTS[0]),
    ({"hospital": "elsewhere"}, "policy-hospital", REQUESTS[1]),
    ({"mechanisms": ["whole"], "units": ["task"]}, "policy-mechanism", REQUESTS[1]),
    ({"train": False}, "policy-purpose", REQUESTS[1]),
    ({"noise_multiplier": 5.0}, "policy-noise", REQUESTS[1]),
    ({"sampling_rate": 1.0}, "policy-sampling", ("train", request(DRAWN), 0)),
    ({"clip": 0.99}, "policy-clip", REQUESTS[1]),
    ({"steps": 1}, "policy-steps", REQUESTS[1]),
    ({"tasks": 1}, "policy-tasks", REQUESTS[1]),
    ({"rounds": 5}, "policy-rounds", REQUESTS[1]),
    ({}, "policy-rounds", ("train", request(round=7), 0)),
    (SILENT, "policy-purpose", REQUESTS[3]),
    ({"metrics": ["accuracy"]}, "policy-metric", REQUESTS[3]),
    ({"episodes": 1}, "policy-tasks", REQUESTS[3]),
    (OPEN | {"loss": False}, "policy-metric", REQUESTS[2]),
    ({}, "policy-mechanism", REQUESTS[2]),
]


@pytest.mark.parametrize(("policy", "expected", "asked"), EXCESSES)
def test_an_excess_is_refused_and_noted_at_the_hospital(
    policy: dict[str, Any],
    expected: str,
    asked: tuple[str, Any, int],
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site.write(**policy)
    for mechanism in (RECORD.privacy, NONE.privacy):
        monkeypatch.setattr(type(mechanism), "session", lambda *_: pytest.fail("computed"))
    monkeypatch.setattr(work, "judge", lambda *_: pytest.fail("computed"))
    assert site.ask(*asked) == Refusal(expected)
    (refusal,) = site.ledger.history().refusals
    assert (refusal.code, refusal.run, refusal.round) == (expected, "run-1", asked[1].round)
    assert refusal.reason.startswith(f"{expected}: ")
    assert site.charges() == 0


def test_an_unwanted_run_gets_no_file_opened(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "open_hospital", lambda *_: pytest.fail("opened"))
    site.write(units=["patient"])
    for asked in REQUESTS:
        unwanted = "policy-mechanism" if asked is REQUESTS[2] else "policy-unit"
        assert site.ask(*asked) == Refusal(unwanted)


@pytest.mark.parametrize(("kind", "content", "index"), [REQUESTS[0], REQUESTS[1], REQUESTS[3]])
def test_what_lies_exactly_at_the_limits_is_answered(
    kind: str, content: Any, index: int, site: Site
) -> None:
    """The excesses above are refused for what they say, and for nothing else."""
    assert not isinstance(site.ask(kind, content, index), Refusal)
    assert site.refusals() == []


# ------------------------------------------------------------------- charged, then sent


def test_a_release_carries_the_mark_of_its_reply(site: Site) -> None:
    answer = site.ask("train", request())
    history = site.ledger.history()
    (charge,), (reply,) = history.charges, history.replies
    assert reply.charge == charge.sequence
    assert mark_of(answer) == Mark(site.ledger.id, reply.sequence, history.mark.head)
    assert site.ledger.holds(mark_of(answer))
    assert isinstance(answer, Release)
    assert answer.loss is None
    assert charge.request.run == "run-1"
    assert charge.units(), "somebody paid"


def test_a_retry_is_answered_with_the_same_bytes_and_charged_once(site: Site) -> None:
    """Noise is the operating system's: a second computation could not give the same bytes."""
    once = reply_to("train", request(), 0, **site.config)
    mark = mark_of(site.ask("train", request()))
    again = reply_to("train", request(mark=mark), 0, **site.config)
    for name in ("release", "arrays"):
        assert once[name] == again[name]
    assert site.charges() == 1
    assert len(site.ledger.history().replies) == 1


@pytest.mark.parametrize("changes", [{"round": 2}, {"run": "run-2"}, {"theta": theta() + 1}])
def test_another_request_is_another_charge_with_fresh_noise(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    site = Site(tmp_path, epsilon=20.0)
    one, other = site.ask("train", request()), site.ask("train", request(**changes))
    assert bytes_of(one) != bytes_of(other)
    assert site.charges() == 2


def test_equal_requests_at_two_hospitals_get_different_noise(tmp_path: Path) -> None:
    """Nor would the same one again from a ledger that knows nothing of the first."""
    answers = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        answers.append(bytes_of(Site(tmp_path / name).ask("train", request())))
    assert answers[0] != answers[1]


@pytest.mark.parametrize("at", ["compute", "store"])
def test_a_crash_after_the_charge_costs_one_charge_and_gives_one_answer(
    at: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was paid for and never sent is paid for once: nothing left under that charge."""

    def dies(*_: Any) -> Any:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        if at == "compute":
            patch.setattr(type(RECORD.privacy), "session", dies)
        else:
            patch.setattr(Ledger, "answer", dies)
        assert site.ask("train", request()) == Refusal("failed")
    assert (site.charges(), len(site.ledger.history().replies)) == (1, 0)
    answer = site.ask("train", request())
    assert (site.charges(), len(site.ledger.history().replies)) == (1, 1)
    assert bytes_of(site.ask("train", request())) == bytes_of(answer)


def test_nothing_is_computed_before_it_was_charged(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: Any) -> Any:
        raise RuntimeError("disk full")

    monkeypatch.setattr(Ledger, "charge", refuses)
    monkeypatch.setattr(type(RECORD.privacy), "session", lambda *_: pytest.fail("opened"))
    assert site.ask("train", request()) == Refusal("failed")


# --------------------------------------------------------------------------- the budget


def test_a_run_spends_its_budget_and_the_next_one_is_refused(site: Site) -> None:
    """RECORD's epsilon is the policy's: a run fits exactly. Budgets belong to records, so that
    another run, which meets some of them again, does not."""
    for number in range(1, 7):
        assert isinstance(site.ask("train", request(round=number)), Release)
    assert site.ask("train", request(run="run-2")) == Refusal("budget-spent")
    assert site.refusals() == ["budget-spent"]
    assert site.charges() == 6
    options = ("privacy={mechanism: sums, unit: record, epsilon: 6.0}", "client.schedule=passes")
    renamed = small("name=other", *options)
    assert site.ask("train", request(renamed, run="run-3")) == Refusal("budget-spent")


def test_the_policys_budget_counts_and_not_the_servers(tmp_path: Path) -> None:
    """A run that asks for more than the hospital gives is refused at the first round."""
    site = Site(tmp_path, epsilon=2.0)
    assert site.ask("train", request()) == Refusal("budget-spent")
    assert site.charges() == 0


def test_a_hospital_that_took_part_in_the_open_is_not_protected_later(site: Site) -> None:
    """No cap under mechanism none, but the use is written down, and so is that nothing was."""
    site.write(**OPEN)
    first = site.ask("train", request(NONE))
    assert isinstance(first, Release)
    assert first.loss is not None
    assert mark_of(first).sequence == 3, "the row of the reply; row 2 is the charge"
    site.write()
    for number in range(1, 7):
        assert site.ask("train", request(round=number)) == Refusal("ledger-unit")


def test_runs_of_two_units_are_not_charged_to_one_ledger(site: Site) -> None:
    """The policy allows both units; the first run settles by which the ledger counts."""
    assert isinstance(site.ask("train", request()), Release)
    patient = small(
        "privacy={mechanism: sums, unit: patient, epsilon: 6.0}", "client.schedule=passes"
    )
    assert site.ask("train", request(patient, run="run-2")) == Refusal("ledger-unit")
    assert site.charges() == 1
    assert site.refusals() == ["ledger-unit"]


TASK = "privacy={mechanism: whole, unit: task, epsilon: 6.0}"


def test_a_ledger_that_counts_by_task_takes_runs_of_one_deal(site: Site) -> None:
    """Another seed, or tasks of another size, would take the records of one task apart."""
    site.write(mechanisms=["whole"], units=["task"], clip=1.0, epsilon=20.0, tasks=9)

    def asked(run: str, *settings: str) -> Any:
        of = small(TASK, "client.schedule=passes", *settings)
        return site.ask("train", request(of, run=run))

    assert isinstance(asked("run-1"), Release)
    for number, setting in enumerate(("seed=6", "client.tasks.shots=9", "client.tasks.points=60")):
        assert asked(f"other-{number}", setting) == Refusal("ledger-deal")
    assert site.refusals() == ["ledger-deal"] * 3
    for number, setting in enumerate(("client.tasks_per_round=3", "client.inner.steps=1")):
        assert isinstance(asked(f"same-{number}", setting), Release)
    assert site.charges() == 3


def test_who_trained_is_not_evaluated_whatever_the_roster_says(site: Site) -> None:
    """The server writes the roster: with two training hospitals, the third seat is unseen."""
    fewer = small(
        "privacy={mechanism: sums, unit: record, epsilon: 6.0}",
        "client.schedule=passes",
        "client.tasks.hospitals=2",
        "strategies.hospitals_per_round=2",
    )
    assert isinstance(site.ask("evaluate", request(fewer, episodes=2), 2), Scores)
    assert isinstance(site.ask("train", request(), 2), Release)
    assert site.ask("evaluate", request(fewer, episodes=2), 2) == Refusal("policy-purpose")
    assert site.refusals() == ["policy-purpose"]


def test_a_hospital_set_aside_for_validation_is_under_the_rules_of_evaluation(site: Site) -> None:
    """Index 6 comes after the four that train and the two that stay unseen."""
    aside = small(
        "privacy={mechanism: sums, unit: record, epsilon: 6.0}",
        "client.schedule=passes",
        "client.tasks.validation=1",
    )
    asked = request(aside, episodes=2)
    scores = site.ask("evaluate", asked, 6)
    assert isinstance(scores, Scores)
    assert scores.hospital == "validation-01"
    assert site.ask("train", request(aside), 6) == Refusal("policy-purpose")
    site.write(**SILENT)
    assert site.ask("evaluate", asked, 6) == Refusal("policy-purpose")
    site.write()
    assert isinstance(site.ask("train", request(aside), 0), Release)
    assert site.ask("evaluate", asked, 6) == Refusal("policy-purpose"), "its ledger has a charge"
    assert site.refusals() == ["policy-purpose"] * 3


# ------------------------------------------------------------------ a ledger set back


def copied(site: Site, name: str) -> Path:
    """A backup of the ledger and its key."""
    folder = site.folder / name
    folder.mkdir()
    for path in site.folder.glob("hospital.ledger*"):
        shutil.copy2(path, folder / path.name)
    return folder


def put_back(site: Site, folder: Path) -> None:
    for path in site.folder.glob("hospital.ledger*"):
        path.unlink()
    for path in folder.iterdir():
        shutil.copy2(path, site.folder / path.name)


def test_a_ledger_that_was_set_back_is_noticed_by_the_servers_mark(site: Site) -> None:
    first = mark_of(site.ask("train", request()))
    backup = copied(site, "backup")
    second = mark_of(site.ask("train", request(round=2, mark=first)))
    put_back(site, backup)
    for kind, content in (
        ("train", request(round=3, mark=second)),
        ("query.roster", request(theta=None, mark=second)),
    ):
        assert site.ask(kind, content) == Refusal("ledger-rewound")
    assert site.refusals() == ["ledger-rewound"] * 2
    assert isinstance(site.ask("train", request(round=3, mark=first)), Release), "it holds that"


def test_a_copy_from_while_the_round_computed_does_not_answer_it_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds the charge and not the reply, so it would draw fresh noise under the same charge."""
    update, copies = type(RECORD.client.inner).update, list[Path]()

    def copying(*arguments: Any) -> Any:
        copies.append(copied(site, f"copy-{len(copies)}"))
        return update(*arguments)

    monkeypatch.setattr(type(RECORD.client.inner), "update", copying)
    seen = mark_of(site.ask("train", request()))
    put_back(site, copies[-1])
    assert site.charges() == 1
    for content in (request(mark=seen), request(round=2, mark=seen)):
        assert site.ask("train", content) == Refusal("ledger-rewound")
    assert site.ledger.history().replies == ()


def test_another_ledger_is_noticed_as_well(site: Site) -> None:
    first = mark_of(site.ask("train", request()))
    for path in site.folder.glob("hospital.ledger*"):
        path.unlink()
    Ledger.create(site.path, "sine-01", "somebody who wants fresh budgets")
    assert site.ask("train", request(round=2, mark=first)) == Refusal("ledger-rewound")
    forged = Mark(site.ledger.id, 1, "00" * 32)
    assert site.ask("train", request(round=2, mark=forged)) == Refusal("ledger-rewound")


def test_the_mark_does_not_change_the_request(site: Site) -> None:
    """A retry may carry a later mark: it only informs."""
    one = site.ask("train", request())
    two = site.ask("train", request(mark=mark_of(one)))
    assert bytes_of(one) == bytes_of(two)
    np.testing.assert_equal(site.charges(), 1)
