"""`metaward privacy plan` as it is typed: what it suggests, prints and refuses."""

from __future__ import annotations

import json
from math import sqrt
from pathlib import Path

import pytest

from metaward.server.office.plan.advice import advised
from metaward.server.office.plan.plan import Planned, planned
from metaward.server.office.plan.question import question
from tests.server.office.plan.plan_desk import big, run_with
from tests.server.office.privacy_desk import Call, caller, private, written
from tests.server.small import small


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    return caller(monkeypatch)


# ----------------------------------------------------------------------------- suggestions


def ratios(plan: Planned) -> dict[str, float]:
    return {s.type_this: s.ratio for s in plan.suggestions}


def test_suggestions_are_planned_anew() -> None:
    """Each is what the plan says once it is typed."""
    plan = advised(question(big()))
    assert plan.ratio is not None
    found = ratios(plan)
    assert {
        "--set 'privacy.train=[norm, head]'",
        "--set 'privacy.epsilon=8'",
        "--hospitals 200",
        "--set 'client.tasks.records=50'",
    } <= found.keys()
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert min(found.values()) > plan.ratio
    for setting in ("privacy.train=[norm, head]", "privacy.epsilon=8"):
        again = planned(question(big(setting))).ratio
        assert found[f"--set '{setting}'"] == pytest.approx(again)
    assert found["--hospitals 200"] == pytest.approx(sqrt(2) * plan.ratio)
    assert found["--set 'client.tasks.records=50'"] == pytest.approx(sqrt(2) * plan.ratio)


def test_larger_tasks_are_suggested_where_they_help() -> None:
    """Two tasks in turn: as one of twice the size they take part twice as often: sqrt(2)."""
    plan = advised(question(big("client.tasks.records=50")))
    assert plan.ratio is not None
    typed = "--set 'client.tasks.train_shots=2' --set 'client.tasks.train_queries=8'"
    assert ratios(plan)[typed] == pytest.approx(sqrt(2) * plan.ratio, rel=1e-6)


def test_all_tasks_in_every_round_are_suggested_where_there_are_more() -> None:
    """One sum over both of a hospital's tasks, and every record in it each round: sqrt(2)."""
    typed = "--set 'client.tasks_per_round=2'"
    setting = ("client.tasks.records=50", "client.inner={algorithm: embedding}")
    plan = advised(question(big(*setting)))
    assert plan.ratio is not None
    assert ratios(plan)[typed] == pytest.approx(sqrt(2) * plan.ratio, rel=1e-6)
    both = advised(question(big(*setting, "client.tasks_per_round=2")))
    assert not [typed for typed in ratios(both) if "tasks_per_round" in typed]


def test_all_changes_together_where_none_is_enough() -> None:
    plan = advised(question(big()))
    (whole,) = [s for s in plan.suggestions if s.words == "all of these together"]
    assert "privacy.train" not in whole.type_this
    single = [s for s in plan.suggestions if "privacy.train" not in s.type_this and s != whole]
    assert whole.ratio > max(s.ratio for s in single)
    easy = advised(question(big("client.tasks.hospitals=10000", "privacy.epsilon=8")))
    assert any(s.verdict == "can work" for s in easy.suggestions)
    assert "all of these together" not in [s.words for s in easy.suggestions]


def test_what_does_not_help_is_not_suggested() -> None:
    """Less noise than the budget's own: to give it up would add noise."""
    found = ratios(advised(question(big("privacy.noise_multiplier=1.0"))))
    assert "--hospitals 200" in found
    assert not [typed for typed in found if "noise_multiplier" in typed]


def test_what_cannot_be_set_is_not_suggested() -> None:
    """A drawing more than the 20 of a character, a body that is not trained, epsilon at its end."""
    run = run_with(
        "{source: omniglot, shots: 10, queries: 10}",
        "privacy={mechanism: sums, unit: record, train: [head], epsilon: 8.0}",
    )
    found = ratios(advised(question(run, records=400)))
    assert found
    for words in ("train_shots", "privacy.train", "privacy.epsilon"):
        assert not [typed for typed in found if words in typed]
    assert "--records 800" in found


# ---------------------------------------------------------------------------------- command


def test_plan_for_people(call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(big(), tmp_path / "run.yaml")
    assert call("privacy", "plan", path) == 0
    printed = capsys.readouterr().out
    for words in (
        "100 training hospitals",
        "takes part 12 times at most",
        "28485 of 28485 coordinates",
        "epsilon 3.00 at delta 1e-05",
        "of a round at most 0.31, of the run at most 1.1",
        "CANNOT WORK",
        "privacy.train=[norm, head]",
        "--tasks",
    ):
        assert words in printed


def test_options_win_over_the_file(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(big(), tmp_path / "run.yaml")
    options = ("--epsilon", 8, "--delta", 1e-6, "--records", 100, "--hospitals", 7, "--tasks", 3)
    assert call("privacy", "plan", path, *options, "--set", "server.rounds=9", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["epsilon"] == pytest.approx(8.0, rel=1e-6)
    expected = {"delta": 1e-6, "records": 100, "hospitals": 7, "tasks_per_pass": 3, "rounds": 9}
    assert {key: found[key] for key in expected} == expected
    assert found["participations"] == 3
    assert found["suggestions"]


def test_units_with_something_to_know(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(big(), tmp_path / "run.yaml")
    for settings, words in (
        (["privacy={mechanism: whole, unit: hospital}"], "it must be trusted"),
        (["privacy.noise_multiplier=1.0"], "hospitals will refuse before the last round"),
        (["privacy.delta=5e-3", "client.tasks.records=300"], "not below 1 / 300 (records"),
    ):
        options = [part for text in settings for part in ("--set", text)]
        assert call("privacy", "plan", path, *options) == 0
        assert words in " ".join(capsys.readouterr().out.split())
    assert call("privacy", "plan", path, "--tasks", 1) == 0


def test_unit_patient_asks_for_the_patients(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """However many records they have: a patient's are clipped as one."""
    path = written(big("privacy={mechanism: sums, unit: patient}"), tmp_path / "run.yaml")
    assert call("privacy", "plan", path) == 2
    assert "--units: missing" in capsys.readouterr().err
    assert call("privacy", "plan", path, "--units", 5) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "The ratio counts 5 patients at a hospital" in printed
    assert call("privacy", "plan", path, "--units", 5, "--json") == 0
    suggestions = json.loads(capsys.readouterr().out)["suggestions"]
    twice = next(s for s in suggestions if s["words"].startswith("twice as many records and pat"))
    assert "--units 10" in twice["type_this"]


def test_without_protection_there_is_nothing_to_plan(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(small(), tmp_path / "run.yaml")
    assert call("privacy", "plan", path) == 0
    printed = capsys.readouterr().out
    assert "N O   P R I V A C Y" in printed
    assert "privacy={mechanism: sums, unit: record}" in printed
    assert call("privacy", "plan", path, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["epsilon"], found["ratio"]) == ("NO PRIVACY", "unlimited", None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--records", "24"], "24 records do not make one task of 25"),
        (["--tasks", "2"], "25 records make 1 to 1 disjoint tasks of 25"),
        (["--epsilon", "0"], "privacy.epsilon"),
        (["--delta", "0.5"], "privacy.delta"),
        (["--epsilon", "nan"], "privacy.epsilon"),
        (["--hospitals", "0"], "--hospitals"),
        (["--set", "client.schedule=random"], "set it to passes"),
        (["--set", "client.tasks={source: ecg}"], "give --records N"),
        (["--set", "client.model={network: mlp}", "--set", "privacy.train=[norm]"],
         "names no coordinate"),
        (["--set", "privacy={mechanism: none}", "--epsilon", "3"], "mechanism none has no budget"),
    ],
)  # fmt: skip
def test_bad_input_says_what_to_do(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    path = written(big(), tmp_path / "run.yaml")
    assert call("privacy", "plan", path, *options) == 2
    printed = capsys.readouterr().err
    assert words in printed
    assert "Traceback" not in printed


def test_a_missing_file_is_bad_input(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("privacy", "plan", "no/such.yaml") == 2
    assert "no/such.yaml: no such file" in capsys.readouterr().err


def test_sine_makes_tasks_of_whole_curves() -> None:
    """Four curves of 50 points make four tasks of 30, not six."""
    run = private("client.tasks.points=50")
    assert question(run).records == 200
    assert question(run).tasks == 4
