"""Which scores a run asks for, and which it refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import metaward as mw
from metaward.client.scores import METRIC, METRICS, asked_metrics, known_scores, scored
from metaward.client.scores.known import faults
from metaward.client.tasks.base import TaskSpec
from metaward.client.tasks.kinds import ACCURACY, KINDS, Score
from tests.server.small import SMALL

SPECS = {
    name: TaskSpec(kind, (4,), 3, 3 if kind.classes else 0, True) for name, kind in KINDS.items()
}
SPEC = SPECS["classification"]


@pytest.fixture(autouse=True)
def nothing_stays_registered() -> Iterator[None]:
    assert METRIC.plugins is not None
    yield
    METRIC.plugins.registered.clear()
    METRIC.plugins.entries.clear()


def share_of_first(outputs: Tensor, labels: Tensor) -> float:
    return float((outputs.argmax(dim=1) == 0).float().mean())


@pytest.mark.parametrize("name", METRICS)
def test_every_score_is_best_where_a_network_is_certain_and_right(name: str) -> None:
    score = METRICS[name]
    assert score.name == name
    assert score.kinds
    for kind in score.kinds:
        spec = SPECS[kind]
        labels = torch.from_numpy(spec.kind.random(spec, 12, np.random.default_rng(1)))
        right = spec.kind.certain(spec, labels)
        right = 100 * right if spec.kind.classes else right
        best = score.highest if score.higher_is_better else score.lowest
        assert score.measure(right, labels) == pytest.approx(best)
        noise = torch.randn(right.shape, generator=torch.Generator().manual_seed(0))
        worse = score.measure(noise, labels)
        assert score.lowest <= worse <= score.highest
        assert score.advantage(best, worse) > 0


def test_a_network_that_diverged_has_a_score_and_no_traceback() -> None:
    labels = torch.arange(12) % 3
    for score in METRICS.values():
        if SPEC.kind.name in score.kinds:
            for value in (float("nan"), float("inf")):
                found = score.measure(torch.full((12, 3), value), labels)
                assert score.lowest <= found <= score.highest, score.name


def test_no_area_without_a_second_class() -> None:
    assert METRICS["auroc"].measure(torch.randn(4, 3), torch.zeros(4, dtype=torch.int64)) == 0.5


def test_the_main_score_comes_first_and_the_kinds_own_stay() -> None:
    assert scored(SPEC, None, ()) == SPEC
    assert scored(SPEC, None, ("auroc", "ece")).kind.score_names == ("accuracy", "auroc", "ece")
    assert scored(SPEC, "auroc", ()).kind.score_names == ("auroc", "accuracy")
    assert scored(SPEC, "ece", ("ece", "auroc")).kind.score_names == ("ece", "accuracy", "auroc")
    assert scored(SPEC, "auroc", ()).kind.losses is SPEC.kind.losses


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("classification", "aurco", "unknown 'aurco'; did you mean auroc"),
        ("classification", "x", "unknown 'x'; choose from accuracy, balanced_accuracy, auroc"),
        ("classification", "mae", "mae is a score of regression, .* of kind classification"),
        ("regression", "auroc", "auroc is a score of classification, .*; choose from mse, mae"),
    ],
)
def test_scores_that_cannot_be_asked_for(kind: str, name: str, words: str) -> None:
    for key, main, further in (("first_score", name, ()), ("further_scores", None, (name,))):
        ((found, text),) = faults(SPECS[kind], main, further)
        assert found == key
        assert re.search(words, text), text


def test_one_that_stands_twice() -> None:
    assert list(faults(SPEC, None, ("ece", "ece"))) == [("further_scores", ": ece stands twice")]


# --------------------------------------------------------------------------- scores of one's own


def test_a_score_of_ones_own() -> None:
    @mw.register.metric("first", label="first class, %", lowest=0, highest=1, scale=100, digits=1)
    def first(outputs: Tensor, labels: Tensor) -> float:
        return share_of_first(outputs, labels)

    mw.register.metric("plain", share_of_first)
    assert first(torch.eye(3), torch.arange(3)) == pytest.approx(1 / 3), "it is left as it was"
    made = scored(SPEC, None, ("first", "plain")).kind.scores
    assert made[0] == ACCURACY
    assert made[1] == Score("first", "first class, %", first, True, 0, 1, 100, 1)
    assert made[2] == Score("plain", "plain", share_of_first, True)
    assert list(faults(SPEC, "plain", ("first",))) == []
    assert {"first", "plain", "accuracy", "auroc", "mse"} <= known_scores()
    assert asked_metrics(["accuracy", "auroc", "first"]) == ["metric:first"]
    assert mw.register.names()["metric"] == ["first", "plain"]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda outputs, labels: outputs, "bad fails on made-up records: "),
        (lambda outputs, labels: float("nan"), "bad gives nan for made-up records"),
        (lambda outputs, labels: 3, "bad gives 3 .* from 0 to 2"),
        (lambda outputs: 1, "bad fails on made-up records: TypeError"),
    ],
)
def test_a_score_of_ones_own_that_gives_no_number(function: Any, words: str) -> None:
    mw.register.metric("bad", function, lowest=0, highest=2)
    with pytest.raises(mw.ConfigError, match=rf"server\.evaluation\.metrics: {words}"):
        mw.load(SMALL, {"server.evaluation.metrics": ["bad"]})


def test_what_is_no_score() -> None:
    with pytest.raises(TypeError, match="give a function of outputs and labels, not 3"):
        mw.register.metric("bad", 3)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="auroc is metaward's own"):
        mw.register.metric("auroc", share_of_first)
    with pytest.raises(ValueError, match="loss is the name of the training loss"):
        mw.register.metric("loss", share_of_first)
