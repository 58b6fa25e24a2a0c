"""A sweep's file: what it may hold, and the trials that it makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from metaward import sim
from metaward.options import ConfigError, build
from metaward.server.sweeping.draws import DRAW
from metaward.server.sweeping.file import Sweep
from metaward.server.sweeping.trials import expanded, planned
from tests.server.sweeping.desk import sweep_file

RATE = "client.inner.lr"
DRAWN = {RATE: {"draw": "log_uniform", "low": 0.001, "high": 0.1}}
STEPS = {"client.inner.steps": {"draw": "integer", "low": 1, "high": 3}}


def made(**keys: Any) -> Sweep:
    faults: list[str] = []
    sweep = build(Sweep, {"run": "run.yaml", **keys}, "", faults)
    assert faults == []
    assert isinstance(sweep, Sweep)
    return sweep


def fault_of(**keys: Any) -> str:
    faults: list[str] = []
    assert build(Sweep, {"run": "run.yaml", **keys}, "", faults) is None
    return "\n".join(faults)


def test_a_grid_takes_every_value_with_every_other() -> None:
    found = expanded(made(grid={"a": [1, 2], "b": ["x", "y"]}))
    assert found == [{"a": a, "b": b} for a in (1, 2) for b in ("x", "y")]


def test_draws_are_a_function_of_the_seed() -> None:
    def rates(seed: int, trials: int) -> list[Any]:
        return expanded(made(random={"trials": trials, "seed": seed, "keys": DRAWN}))

    assert rates(1, 5) == rates(1, 5)
    assert rates(1, 8)[:5] == rates(1, 5), "more trials begin with the same ones"
    assert rates(2, 5) != rates(1, 5)
    assert all(0.001 <= one[RATE] <= 0.1 for one in rates(1, 200))


def test_a_keys_draws_do_not_depend_on_other_keys() -> None:
    alone = expanded(made(random={"trials": 4, "keys": DRAWN}))
    both = expanded(made(random={"trials": 4, "keys": {**STEPS, **DRAWN}}))
    assert [one[RATE] for one in both] == [one[RATE] for one in alone]


def test_every_draw_goes_with_every_point_and_repeats_are_left_out() -> None:
    keys = {"b": {"draw": "choice", "values": ["x"]}}
    found = expanded(made(grid={"a": [1, 2]}, random={"trials": 3, "keys": keys}))
    assert found == [{"a": 1, "b": "x"}, {"a": 2, "b": "x"}]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"draw": "normal"}, "unknown 'normal'; choose from uniform, log_uniform, integer, choice"),
        ({"draw": "uniform", "low": 2.0, "high": 1.0}, "low: 2.0 is not below high = 1.0"),
        ({"draw": "log_uniform", "low": 0, "high": 1.0}, "low"),
        ({"draw": "integer", "low": 0.5, "high": 2}, "must be a whole number"),
        ({"draw": "choice", "values": []}, "values"),
        ({"draw": "uniform", "low": 0.0, "hihg": 1.0}, "did you mean high?"),
    ],
)
def test_a_wrong_draw_is_named(given: dict[str, Any], words: str) -> None:
    fault = fault_of(random={"trials": 1, "keys": {RATE: given}})
    assert words in fault
    assert f"random.keys.{RATE}" in fault


def test_uniform_and_whole_numbers_stay_within_their_limits() -> None:
    keys = {"u": {"draw": "uniform", "low": -0.123456, "high": 0.0}}
    whole = {"n": {"draw": "integer", "low": 1, "high": 3}}
    found = expanded(made(random={"trials": 100, "keys": {**keys, **whole}}))
    assert all(-0.123456 <= one["u"] <= 0.0 for one in found)
    assert {one["n"] for one in found} == {1, 2, 3}
    assert set(DRAW.parts) == {"uniform", "log_uniform", "integer", "choice"}


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("seed", "list the seeds of all trials in seeds"),
        ("client.tasks.shots", "client.tasks.train_shots"),
        ("client.tasks", "must not vary"),
        ("client", "this whole section holds client.tasks"),
        ("server.evaluation.final_episodes", "change it in the run's file"),
        ("server.evaluation.judges", "the hospitals for validation judge"),
        ("server.evaluation", "this whole section"),
        ("server.evaluation.baselines", "its own learner alone"),
        ("data.root", "METAWARD_DATA"),
    ],
)
@pytest.mark.parametrize("place", ["set", "grid", "random"])
def test_what_is_judged_and_by_whom_stays(place: str, key: str, words: str) -> None:
    search = {"trials": 1, "keys": {key: {"draw": "choice", "values": [1]}}}
    given: dict[str, Any] = {"grid": {RATE: [0.1]}, "set": {key: 1}}
    given = {"set": given, "grid": {"grid": {key: [1]}}, "random": {"random": search}}[place]
    fault = fault_of(**given)
    assert key in fault
    assert words in fault


def test_keys_of_training_tasks_may_vary() -> None:
    keys = {"client.tasks.train_shots": [3, 5], "client.tasks.train_queries": [5]}
    assert len(expanded(made(grid=keys))) == 2


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, "nothing is varied"),
        ({"grid": [RATE]}, "must be a mapping, as in {key: value}"),
        ({"grid": {RATE: 0.1}}, "must be a list of values"),
        ({"grid": {RATE: []}}, "must be a list of values"),
        ({"grid": {RATE: [0.1, 0.1]}}, "a value is there twice"),
        ({"grid": {RATE: [0.1]}, "set": {RATE: 0.2}}, "named more than once"),
        ({"grid": {RATE: [0.1]}, "seeds": [1, 1]}, "a seed is there twice"),
        ({"grid": {RATE: [0.1]}, "sedes": [1]}, "did you mean seeds?"),
        ({"grid": {RATE: [0.1]}, "jobs": 0}, "jobs"),
    ],
)
def test_a_wrong_file_is_refused_with_the_way_out(keys: dict[str, Any], words: str) -> None:
    assert words in fault_of(**keys)


def test_trials_are_whole_runs_that_validation_hospitals_judge(tmp_path: Path) -> None:
    keys = {"set": {"server.rounds": 3}, "seeds": [4, 9]}
    plan = planned(sweep_file(tmp_path, "server.workers=2", **keys))
    assert [trial.name for trial in plan.trials] == [
        f"00{number}-seed-{seed}" for number in (1, 2) for seed in (4, 9)
    ]
    for trial in plan.trials:
        evaluation = trial.run.server.evaluation
        assert (evaluation.judges, evaluation.baselines) == ("validation", ())
        assert (trial.run.server.rounds, trial.run.server.workers) == (3, 1)
        assert trial.run.seed == trial.seed
    chosen = plan.combinations[1].run
    base = sim.load(tmp_path / "run.yaml", [f"{RATE}=0.05", "server.rounds=3"])
    assert chosen == base, "what trials have of their own is not in the configuration that is kept"


def test_a_key_of_a_part_that_is_varied_as_a_whole_holds(tmp_path: Path) -> None:
    part = {"algorithm": "reptile", "lr": 0.5, "steps": 1, "adapt_steps": 1}
    path = sweep_file(tmp_path, grid={RATE: [0.02, 0.05], "client.inner": [part]})
    assert [one.run.mapping()["client"]["inner"]["lr"] for one in planned(path).combinations] == [
        0.02,
        0.05,
    ]


def test_without_seeds_it_is_the_runs_own(tmp_path: Path) -> None:
    assert [t.seed for t in planned(sweep_file(tmp_path, seeds=[])).trials] == [5, 5]


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ({"client.inner.lrr": [0.1]}, "client.inner.lrr: unknown key; did you mean lr?"),
        ({RATE: [0.1, "fast"]}, "'fast' is refused"),
        ({"client.inner.lr.x": [1]}, "lr is not a section"),
    ],
)
def test_a_typo_in_any_trial_is_found_before_all(
    tmp_path: Path, grid: dict[str, Any], words: str
) -> None:
    path = sweep_file(tmp_path, grid=grid)
    with pytest.raises(ConfigError, match=words) as stop:
        planned(path)
    assert str(path) in str(stop.value)


def test_without_hospitals_for_validation_it_is_refused(tmp_path: Path) -> None:
    path = sweep_file(tmp_path, "client.tasks.validation=0")
    with pytest.raises(ConfigError, match=r"client\.tasks\.validation: no hospital is set aside"):
        planned(path)


def test_the_sweeps_that_come_along_are_valid() -> None:
    files = sorted((sim.HERE / "configs" / "sweeps").glob("*.yaml"))
    assert files
    for path in files:
        assert len(planned(path).trials) >= 4
