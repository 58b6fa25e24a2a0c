"""Losses and scores of one's own, from a script into worker processes, and at a real hospital."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import metaward as mw
from metaward.client.desk import asked_plugins
from metaward.client.scores import METRIC, known_scores
from metaward.privacy import Refusal
from tests.client.bedside import OPEN, Site, request
from tests.door.own import configuration, register_all
from tests.door.test_entry_points import Install
from tests.door.test_entry_points import install as install
from tests.server.small import SMALL


def helped(outputs: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, labels, reduction="none")


def register_losses_and_scores() -> None:
    @mw.register.loss("tempered")
    def tempered(outputs: Tensor, labels: Tensor, temperature: float = 1.0) -> Tensor:
        return helped(outputs / temperature, labels)

    @mw.register.metric("surprise", higher_is_better=False, lowest=0)
    def surprise(outputs: Tensor, labels: Tensor) -> float:
        return float(helped(outputs, labels).mean())


def test_both_reach_the_workers_and_the_tables(tmp_path: Path) -> None:
    """The workers have to find a helper that this file has beside them."""
    register_all()
    register_losses_and_scores()
    run = mw.load(
        configuration(workers=2),
        {
            "client.loss": {"function": "tempered", "temperature": 2},
            "server.evaluation.metrics": ["surprise", "auroc"],
        },
    )
    result = mw.run(run, tmp_path / "run")
    assert list(result.tables) == ["accuracy", "surprise", "auroc"]
    assert result.run.client.loss == run.client.loss
    (row,) = result.tables["surprise"]
    assert 0 <= row["low"] <= row["after"] <= row["high"]
    plain = mw.run(mw.load(run, {"client.loss": None}), tmp_path / "plain")
    assert plain.theta.shape == result.theta.shape
    assert (plain.theta != result.theta).any(), "the loss was used"
    alike = mw.load(run, {"client.loss": {"function": "tempered", "temperature": 1}})
    same = mw.run(alike, tmp_path / "alike")
    torch.testing.assert_close(torch.tensor(same.theta), torch.tensor(plain.theta))


def test_a_run_without_its_parts_says_so() -> None:
    register_all()
    with pytest.raises(mw.ConfigError, match=r"client\.loss\.function: unknown 'tempered'"):
        mw.load(configuration(), {"client.loss": "tempered"})
    with pytest.raises(mw.ConfigError, match=r"metrics: unknown 'surprise'; choose from accuracy"):
        mw.load(configuration(), {"server.evaluation.metrics": ["surprise"]})


PACKAGE = """
def quartic(outputs, targets):
    return ((outputs - targets) ** 4).sum(dim=1)
def far(outputs, targets):
    return float((outputs - targets).abs().max())
"""


def test_a_package_offers_both_and_a_policy_names_them(install: Install, tmp_path: Path) -> None:
    install("demo_losses", PACKAGE, "losses", quartic="quartic")
    install("demo_metrics", PACKAGE, "metrics", far="far")
    run = mw.load(SMALL, {"client.loss": "quartic", "server.evaluation.metrics": ["far"]})
    assert {"far"} <= known_scores(), "a policy may list it"
    assert asked_plugins(run.desk().json()) == ["function:quartic", "metric:far"]
    content = request(run)
    site = Site(tmp_path, **OPEN)
    assert site.ask("train", content) == Refusal("policy-plugin")
    site.write(**OPEN, plugins=["function:quartic"])
    assert site.ask("train", content) == Refusal("policy-plugin")
    site.write(**OPEN, plugins=["function:quartic", "metric:far"])
    assert not isinstance(site.ask("train", content), Refusal)
    assert METRIC.plugins is not None
    assert "far" not in METRIC.plugins.registered


def test_a_desk_that_names_no_texts_asks_for_no_plug_in() -> None:
    desk = json.loads(mw.load(SMALL).desk().json())
    assert asked_plugins(json.dumps(desk | {"score": 3, "metrics": [None, 4], "loss": 7})) == []
    assert asked_plugins(json.dumps(desk | {"loss": "mine"})) == ["function:mine"]
