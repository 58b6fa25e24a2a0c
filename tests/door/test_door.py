"""Load, plan, run, open and adapt from Python."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import metaward as mw
from metaward import sim
from metaward.errors import InputError
from metaward.result import Result
from tests.door.own import clinic, configuration, register_all
from tests.server.small import SMALL

# ---------------------------------------------------------------------------------- loading


def test_a_file_a_mapping_and_a_run_give_the_same() -> None:
    path = sim.HERE / "configs" / "sine.yaml"
    one = mw.load(path, {"seed": 5})
    assert one == mw.load(str(path), ["seed=5"]) == mw.load(one) == mw.load(one.mapping())
    assert one.seed == 5
    assert mw.load() == sim.load(sim.DEFAULT)


def test_overrides_may_be_parts_lists_and_null() -> None:
    run = mw.load(
        overrides={
            "client.model": {"network": "mlp", "hidden": [3]},
            "client.inner": {"algorithm": "proto_maml", "steps": 1},
            "client.warm_up": None,
            "strategies.hospitals_per_round": 2,
            "server.evaluation.baselines": [],
        }
    )
    assert run.client.model.hidden == (3,)  # type: ignore[attr-defined]
    assert run.strategies.hospitals_per_round == 2
    assert mw.load(run, {"strategies.hospitals_per_round": None}) != run
    assert run.strategies.hospitals_per_round == 2, "a run is never changed"
    with pytest.raises(FrozenInstanceError):
        run.seed = 3  # type: ignore[misc]


def test_a_mapping_that_is_given_is_not_written_to() -> None:
    given = mw.load().mapping()
    before = json.dumps(given)
    mw.load(given, {"client.inner.lr": 0.5, "privacy.epsilon": 2})
    assert json.dumps(given) == before


@pytest.mark.parametrize(
    ("source", "overrides", "text"),
    [
        (None, {"privacy.epsilom": 3}, "privacy.epsilom: unknown key; did you mean epsilon"),
        (None, {"privacy.epsilon": "3"}, "must be a number"),
        (None, {"seed.x": 3}, "seed is not a section"),
        (None, ["seed"], "'seed' is not section.key=value"),
        ("no/such.yaml", {}, "no such file"),
        ({}, {}, "client: missing"),
        ([], {}, "no such file"),
    ],
)
def test_what_is_wrong_is_named(source: Any, overrides: Any, text: str) -> None:
    if source == []:
        with pytest.raises(TypeError):
            mw.load(source)
        return
    with pytest.raises(mw.ConfigError, match=text):
        mw.load(source, overrides)


def test_a_plan_says_whether_it_can_work() -> None:
    plan = mw.plan(mw.load())
    assert plan.verdict == "can work"
    assert plan.epsilon == pytest.approx(8, rel=1e-6)
    assert mw.plan(mw.load(), hospitals=1, records=60).ratio < plan.ratio  # type: ignore[operator]
    with pytest.raises(mw.ConfigError, match="do not make one task"):
        mw.plan(mw.load(), records=2)


# ---------------------------------------------------------------------------------- running


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, list[dict[str, Any]]]:
    seen: list[dict[str, Any]] = []
    out = tmp_path_factory.mktemp("door") / "run"
    run = mw.load(SMALL)
    return mw.run(run, out, lambda row: seen.append(dict(row))), seen


def test_a_result_is_plain_tables(result: tuple[Result, list[dict[str, Any]]]) -> None:
    found, seen = result
    assert found.status == "finished"
    assert found.table[0]["learner"] == found.rounds[0]["phase"]
    assert found.tables[next(iter(found.tables))] == found.table
    observed = [json.loads(json.dumps(row)) for row in seen]
    assert [row for row in observed if row["phase"] == "reptile"] == found.rounds
    assert found.rounds[-1]["round"] == found.run.server.rounds
    columns = mw.columns(found.rounds)
    assert {len(column) for column in columns.values()} == {len(found.rounds)}
    assert columns["round"] == [row["round"] for row in found.rounds]
    assert None in columns["loss"], "an evaluation has no loss"
    assert found.theta.dtype == np.float32
    assert found.theta.ndim == 1
    json.dumps([found.table, found.rounds])


def test_a_result_that_is_there_already(result: tuple[Result, list[dict[str, Any]]]) -> None:
    found, _ = result
    again = mw.open(str(found.path))
    assert again.table == found.table
    assert again.run == found.run
    assert (again.theta == found.theta).all()
    assert repr(again) == f"Result({str(found.path)!r}, finished)"
    with pytest.raises(mw.MetawardError, match="already holds a run"):
        mw.run(found.run, found.path)
    with pytest.raises(mw.ConfigError, match="nothing to resume"):
        mw.resume(found.path)


def test_nothing_is_opened_where_nothing_is(tmp_path: Path) -> None:
    for open_ in (mw.open, mw.resume):
        with pytest.raises(mw.ConfigError, match="holds no run"):
            open_(tmp_path)


def test_a_run_that_is_not_finished_has_no_table_yet(tmp_path: Path) -> None:
    from metaward.server.folder import Folder

    Folder(tmp_path).create(mw.load(SMALL))
    found = mw.open(tmp_path)
    assert (found.status, found.rounds) == ("absent", [])
    for ask in (lambda: found.table, lambda: found.theta):
        with pytest.raises(InputError, match="the run is absent, not finished"):
            ask()
    finished = mw.resume(tmp_path)
    assert finished.table


# --------------------------------------------------------------------------------- adapting


@pytest.fixture(scope="module")
def curves(result: tuple[Result, list[dict[str, Any]]]) -> Result:
    return result[0]


def test_adapting_to_a_curve(curves: Result) -> None:
    """Sinusoids: targets may be (n,) where there is one."""
    x = np.linspace(-3, 3, 10)[:, None]
    model = curves.adapt(x, np.sin(x[:, 0]))
    assert model.classes is None
    predicted = model.predict(x)
    assert (predicted.shape, predicted.dtype) == ((10, 1), np.float32)
    assert (predicted == model.outputs(x)).all()
    before = curves.adapt(x, np.sin(x), steps=0).predict(x)
    assert np.mean((predicted - np.sin(x)) ** 2) < np.mean((before - np.sin(x)) ** 2)


@pytest.mark.parametrize(
    ("x", "y", "text"),
    [
        (np.zeros((3, 2)), np.zeros(3), r"x has shape \(3, 2\); give \(n, 1\)"),
        (np.zeros((0, 1)), np.zeros(0), "n from 1"),
        (np.full((3, 1), np.nan), np.zeros(3), "not finite"),
        (np.zeros((3, 1)), np.zeros(2), "2 labels for 3 records"),
        (np.zeros((3, 1)), np.zeros((3, 2)), r"y has shape \(3, 2\); give finite targets \(n, 1\)"),
        (np.zeros((3, 1)), np.full(3, np.inf), "finite targets"),
    ],
)
def test_arrays_that_do_not_fit(curves: Result, x: Any, y: Any, text: str) -> None:
    with pytest.raises(InputError, match=text):
        curves.adapt(x, y)


def classified(tmp_path: Path, **inner: object) -> Result:
    """A short run on own arrays with four classes, three a task."""
    register_all()
    changes: dict[str, Any] = {"server.workers": 1, "server.rounds": 1}
    if inner:
        changes["client.inner"] = inner
    return mw.run(mw.load(configuration(), changes), tmp_path / "run")


def test_labels_come_back_as_they_were_given(tmp_path: Path) -> None:
    found = classified(tmp_path)
    one = clinic("new", count=60)
    some = np.isin(one.y, ["a", "c", "d"])
    x, y = one.x[some], one.y[some]
    model = found.adapt(x[:20], y[:20], steps=400)
    assert model.classes is not None
    assert model.classes.tolist() == ["a", "c", "d"]
    assert model.outputs(x).shape == (len(x), 3)
    assert np.mean(model.predict(x[20:]) == y[20:]) > 0.8
    with pytest.raises(InputError, match="4 different labels; this run's tasks have 3 classes"):
        found.adapt(one.x, one.y)


def test_a_learner_without_a_shared_head_takes_any_number_of_classes(tmp_path: Path) -> None:
    found = classified(tmp_path, algorithm="proto_maml", steps=1)
    one = clinic("new", count=60)
    model = found.adapt(one.x[:30], one.y[:30])
    assert model.classes is not None
    assert len(model.classes) == 4
    assert np.mean(model.predict(one.x[30:]) == one.y[30:]) > 0.8
    with pytest.raises(InputError, match="1 different labels"):
        found.adapt(one.x[:5], ["a"] * 5)


def test_labels_that_mean_the_same_everywhere_are_numbers(tmp_path: Path) -> None:
    register_all()
    run = mw.load(
        configuration(),
        {
            "client.tasks.canonical": True,
            "client.tasks.ways": 4,
            "server.workers": 1,
            "server.rounds": 1,
        },
    )
    found = mw.run(run, tmp_path / "run")
    one = clinic("new")
    number = np.searchsorted(["a", "b", "c", "d"], one.y)
    model = found.adapt(one.x[number < 3], number[number < 3], steps=40)
    assert model.classes is not None
    assert model.classes.tolist() == [0, 1, 2, 3], "a class without a record is still known"
    with pytest.raises(InputError, match="labels are 0 to 3"):
        found.adapt(one.x, number + 1)
