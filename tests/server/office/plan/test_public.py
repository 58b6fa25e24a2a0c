"""What a plan finds on public tasks: what clipping and noise leave, and a rehearsal of the run."""

from __future__ import annotations

import json
from math import sqrt
from pathlib import Path

import numpy as np
import pytest

from metaward import sim
from metaward.options import ConfigError
from metaward.server.office.plan import rehearse as rehearsing
from metaward.server.office.plan.plan import DressRehearsal, Left, planned
from metaward.server.office.plan.public import left_on_public, noise_of, on_public
from metaward.server.office.plan.question import question
from metaward.server.office.plan.rehearse import outlook, rehearse, rehearsed_plan
from tests.server.office.plan.plan_desk import run_with
from tests.server.office.privacy_desk import Call, caller, written

TASKS = "{source: phantom, hospitals: 2, unseen: 1, records: 90, shots: 2, queries: 3, held: 4}"
METRIC = (
    "client.model={network: scatter, orientations: 1}",
    "client.inner={algorithm: metric}",
    "server.rounds=1",
    "client.tasks_per_round=100",
)
ADAPTER = (
    "client.model={network: adapter, orientations: 1, rank: 2}",
    "client.inner={algorithm: proto_anil}",
    "client.warm_up={shrink: 0.3}",
    "client.tasks_per_round=100",
)


def made(*settings: str, unit: str = "record", clips: str = "") -> sim.Sim:
    mechanism = "whole" if unit in ("task", "hospital") else "sums"
    privacy = f"privacy={{mechanism: {mechanism}, unit: {unit}, epsilon: 8.0{clips}}}"
    return run_with(TASKS, privacy, *settings)


def left_of(run: sim.Sim, **known: int) -> dict[str, Left]:
    asked = question(run, **known)
    return {one.kind: one for one in left_on_public(planned(asked), asked, run)}


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    return caller(monkeypatch)


def test_every_sum_of_the_first_two_rounds_is_measured() -> None:
    assert set(left_of(made(*METRIC))) == {"features", "moments"}
    assert set(left_of(made(*ADAPTER))) == {"support", "query", "features", "moments"}


@pytest.mark.parametrize("unit", ["task", "hospital"])
def test_whole_updates_are_measured(unit: str) -> None:
    found = left_of(made(unit=unit))
    assert set(found) == {"update"}
    assert 0 < found["update"].left <= found["update"].clipped <= 1


def test_a_clip_norm_far_too_small_leaves_nothing_of_a_value_and_a_better_one_is_named() -> None:
    """Of class means a hundredth of the norm is left; no more by the best one that is tried."""
    first = left_of(made(*METRIC, clips=", clip_features: 10.0"))["features"]
    middle = first.norms[1]
    small = left_of(made(*METRIC, clips=f", clip_features: {middle / 100}"))["features"]
    assert small.longer == 1
    assert small.clipped == pytest.approx(0.01, abs=0.005)
    assert small.best is not None
    assert small.best > 20 * small.clip_norm
    again = left_of(made(*METRIC, clips=f", clip_features: {small.best}"))["features"]
    assert again.left > small.left


def test_noise_is_that_of_the_planned_run_and_not_of_the_public_one() -> None:
    """Twice the records of the planned hospitals: half the noise on a hospital's own means."""
    run = made(*METRIC)
    lengths = []
    for records in (90, 180):
        asked = question(run, records=records)
        plan = planned(asked)
        one = next(s for s in plan.sums if s.kind == "features")
        lengths.append(noise_of(asked, plan, one, 50, "moments"))
        assert lengths[-1] == pytest.approx(one.noise_multiplier * sqrt(50) / records)
    assert lengths[0] == pytest.approx(2 * lengths[1])


def test_noise_on_what_the_server_adds_up_is_shared_by_hospitals_and_rounds() -> None:
    run = made(*ADAPTER)
    asked = question(run)
    plan = planned(asked)
    query = next(s for s in plan.sums if s.kind == "query")
    alone = query.noise_multiplier * sqrt(50) / (query.vectors / query.sums)
    found = noise_of(asked, plan, query, 50, "query")
    assert found == pytest.approx(alone / sqrt(plan.hospitals * query.sums * plan.rounds))


def test_public_tasks_of_another_shape_are_refused() -> None:
    run = made("client.model={network: conv, width: 8, depth: 2}")
    with pytest.raises(ConfigError, match="the run with the public tasks"):
        on_public(run, run_with("{source: sine, hospitals: 2, unseen: 1}"))


@pytest.mark.parametrize(
    ("share", "verdict"),
    [
        (-1.0, "cannot work"),
        (0.25, "cannot work"),
        (0.3, "doubtful"),
        (0.5, "can work"),
        (1.2, "can work"),
    ],
)
def test_the_share_that_is_left_is_the_verdict(share: float, verdict: str) -> None:
    assert outlook(DressRehearsal(3, "accuracy", 0.5, 0.6, 0.7, share)) == verdict


def test_where_training_gains_nothing_it_is_doubtful() -> None:
    assert outlook(DressRehearsal(3, "accuracy", 0.5, 0.6, 0.5, None)) == "doubtful"


def test_shares_are_of_the_means_and_errors_count_downwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Errors 4 untrained, 2 without privacy, 3 with: half is left. Seeds follow the run's own."""
    seeds: list[int] = []

    def table(run: sim.Sim, seed: int) -> object:
        seeds.append(seed)
        rows = (3.0 + seed / 100, 2.0 + seed / 100, 4.0 + seed / 100)
        return {"rows": [{"after": value} for value in rows]}

    monkeypatch.setattr(rehearsing, "_table", table)
    errors = rehearse(run_with("{source: sine, hospitals: 2, unseen: 1}", "seed=5"), 3)
    assert seeds == [5, 6, 7]
    assert errors.share == pytest.approx(0.5)
    assert errors.no_privacy == pytest.approx(2.06)
    accuracies = rehearse(made(), 3)
    assert accuracies.share is None, "a higher accuracy without training is no gain"


def test_a_rehearsal_is_a_run_on_the_public_tasks() -> None:
    """The same numbers as the run itself gives, and the same ones again."""
    run = made(*METRIC, "seed=3")
    found = rehearse(run, 1)
    assert found == rehearse(run, 1)
    assert 0 < found.untrained < 1
    assert found.seeds == 1
    plan = planned(question(run))
    assert rehearsed_plan(plan, found).verdict == outlook(found)


def test_as_typed(tmp_path: Path, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(made(*METRIC), tmp_path / "run.yaml")
    assert call("privacy", "plan", file, "--public", file, "--rehearse", 1) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "on the public records" in words
    assert "rehearsed on the public tasks (1 seed): accuracy" in words
    assert call("privacy", "plan", file, "--public", file, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert {one["kind"] for one in told["public"]} == {"features", "moments"}
    assert told["rehearsal"] is None
    assert all(np.isfinite(one["left"]) for one in told["public"])


def test_a_rehearsal_needs_public_tasks(
    tmp_path: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(made(*METRIC), tmp_path / "run.yaml")
    assert call("privacy", "plan", file, "--rehearse", 2) == 2
    words = " ".join(capsys.readouterr().err.split())
    assert "--rehearse: there is nothing to rehearse on; add --public FILE" in words
