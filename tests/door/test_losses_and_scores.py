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
from metaward.sim import HERE, Sim
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


def test_the_loss_is_what_learners_minimise() -> None:
    """With temperature 1 it is that of the kind; with another one theta goes elsewhere."""
    register_all()
    register_losses_and_scores()
    outputs, labels = torch.randn(6, 3), torch.arange(6) % 3
    for temperature, alike in ((1.0, True), (2.0, False)):
        chosen = {"client.loss": {"function": "tempered", "temperature": temperature}}
        run = mw.load(configuration(), chosen)
        own, usual = run.setting(), run.client.tasks.spec().kind.losses
        net = own.network(3)
        found = own.objective(net).loss(outputs, labels)
        assert torch.allclose(found, usual(outputs, labels), atol=1e-5) == alike


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
    assert (
        asked_plugins(json.dumps(desk | {"first_score": 3, "further_scores": [None, 4], "loss": 7}))
        == []
    )
    assert asked_plugins(json.dumps(desk | {"further_scores": 4})) == []
    assert asked_plugins(json.dumps(desk | {"loss": "mine"})) == ["function:mine"]


def test_the_guide_shows_what_is_run() -> None:
    """The lines of docs/python.md, as a reader copies them."""
    guide = (HERE / "docs" / "python.md").read_text(encoding="utf-8")
    code = guide[guide.index("**Losses and scores.**") : guide.index("## Packages")]
    lines = [line for line in code.splitlines() if line.startswith("    ") or not line]
    known: dict[str, object] = {}
    exec("\n".join(line.removeprefix("    ") for line in lines), known)
    run = known["run"]
    assert isinstance(run, Sim)
    assert run.spec().kind.score_names == ("accuracy", "surprise", "auroc")
    assert run.mapping()["client"]["loss"] == {"function": "tempered", "temperature": 2.0}
