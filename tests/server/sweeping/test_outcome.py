"""The table of a sweep and what it costs in privacy, from trials that were run in this process."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Any

import pytest

from metaward.privacy.accounting import gdp
from metaward.server.pictures.swept import draw_sweep
from metaward.server.sweeping.command import swept
from metaward.server.sweeping.cost import CHOOSING
from metaward.server.sweeping.outcome import SweepOutcome, outcome_of
from metaward.server.sweeping.place import SweepPlace
from metaward.server.sweeping.text import markdown
from metaward.server.sweeping.trials import planned
from tests.server.office.privacy_desk import PRIVATE
from tests.server.sweeping.desk import carry_here, quiet, read, sweep_file

RATES = {"client.inner.lr": [0.0001, 0.05]}


def carried(folder: Path, *settings: str, leave: int = 0, **keys: Any) -> SweepOutcome:
    """A sweep whose trials are run here, one after the other, without the last ``leave`` ones."""
    plan, place = planned(sweep_file(folder, *settings, **keys)), SweepPlace(folder / "out")
    carry_here(plan, place, leave)
    return outcome_of(plan, place)


def test_a_row_is_the_mean_over_seeds_and_the_best_is_first(tmp_path: Path) -> None:
    found = carried(tmp_path, grid=RATES, seeds=[1, 2], set={"client.inner.adapt_steps": 5})
    means = [row.mean for row in found.rows]
    score = found.score
    assert score.advantage(means[0], means[1]) > 0
    for row in found.rows:
        one, other = (side.first for side in row.done)
        assert row.mean == pytest.approx((one["after"] + other["after"]) / 2)
        assert row.interval is not None
        assert score.lowest <= row.interval.low < row.mean < row.interval.high
        hospital, worst = row.worst
        assert worst in [side.first["hospitals"][hospital] for side in row.done]
        assert score.advantage(worst, min(one["worst"], other["worst"])) <= 0
    assert found.best is found.rows[0]
    assert found.failed == []


def test_finished_trials_are_not_run_again(tmp_path: Path) -> None:
    found = carried(tmp_path, grid=RATES)
    place, said = SweepPlace(tmp_path / "out"), list[str]()
    swept(found.plan, place, 2, said.append)
    assert said == [f"2 trials in {place.path}, of which 2 are finished"]
    before = read(place.path)
    assert [place.trial(t).about()["starts"] for t in found.plan.trials] == [1, 1]
    swept(found.plan, place, 1, quiet)
    assert read(place.path) == before


def test_a_combination_without_a_seed_is_not_chosen(tmp_path: Path) -> None:
    found = carried(tmp_path, grid=RATES, seeds=[1, 2], leave=1)
    assert [row.combination.number for row in found.rows] == [1, 2]
    assert not found.rows[1].complete
    assert found.best is found.rows[0]
    page = markdown(found, tmp_path / "best.yaml")
    assert "| 1 of 2 |" in page
    assert "002-seed-2 has no result" in page


def test_without_privacy_it_says_so(tmp_path: Path) -> None:
    found = carried(tmp_path, grid={"client.inner.lr": [0.01]})
    assert found.cost.together == inf
    assert "NO PRIVACY" in found.cost.text


def test_all_trials_together_cost_what_their_squares_of_mu_add_up_to(tmp_path: Path) -> None:
    aside = ("client.tasks.validation=2", "server.rounds=2")
    grid = {"client.inner.lr": [0.01]}
    found = carried(tmp_path, *PRIVATE, *aside, seeds=[1, 2], grid=grid)
    cost, trials = found.cost, len(found.plan.trials)
    assert cost.trials == trials == 2
    assert 0 < cost.one < cost.together < trials * cost.one
    one = gdp.mu_of(cost.one, cost.delta)
    assert gdp.epsilon(one * trials**0.5, cost.delta) == pytest.approx(cost.together, rel=1e-6)
    page = markdown(found, tmp_path / "best.yaml")
    assert f"at most epsilon {cost.together:.4g}" in page
    assert CHOOSING in page
    assert found.plain()["privacy"]["together"] == cost.together


def test_the_picture_takes_numbers_and_names(tmp_path: Path) -> None:
    grid = {
        "client.inner.lr": [0.0001, 0.05],
        "strategies.combine": [{"rule": "mean"}, {"rule": "median"}],
        "strategies.quorum": [1.0],  # a median of two would mean nothing
    }
    found = carried(tmp_path, grid=grid)
    draw_sweep(tmp_path / "sweep.png", found)
    assert (tmp_path / "sweep.png").read_bytes()[1:4] == b"PNG"
