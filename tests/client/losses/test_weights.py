"""Weights of classes: who gets them, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

import metaward as mw
from metaward.client.losses import CrossEntropy, Weighted
from metaward.client.losses.run import with_loss
from metaward.client.losses.weights import factors
from metaward.client.tasks.base import TaskSpec
from metaward.client.tasks.kinds import CLASSIFICATION, REGRESSION
from tests.server.small import SMALL

NAMES = ("healthy", "mild", "severe")
SPEC = TaskSpec(CLASSIFICATION, (4,), 3, 3, True, NAMES)


def test_a_class_that_is_not_named_has_weight_one() -> None:
    assert factors(SPEC, (("severe", 4.0),)) == (1.0, 1.0, 4.0)
    assert factors(replace(SPEC, names=()), (("0", 2.0), ("2", 4.0))) == (2.0, 1.0, 4.0)
    assert factors(SPEC, "none") is None
    assert factors(SPEC, ()) is None


def test_the_loss_of_the_kind_is_weighted_where_none_is_chosen() -> None:
    outputs, labels = torch.randn(6, 3), torch.arange(6) % 3
    plain = CLASSIFICATION.losses(outputs, labels)
    for loss in (None, CrossEntropy()):
        found = with_loss(SPEC, loss, (("mild", 3.0),)).kind.losses
        assert isinstance(found, Weighted)
        expected = plain * torch.tensor([1.0, 3.0, 1.0])[labels]
        torch.testing.assert_close(found(outputs, labels), expected)
    assert with_loss(SPEC, None, "none") == SPEC


@pytest.mark.parametrize(
    ("spec", "wanted", "words"),
    [
        (SPEC, (("sever", 2.0),), "unknown class 'sever'; did you mean severe"),
        (SPEC, (("x", 2.0),), "unknown class 'x'; the classes are healthy, mild, severe"),
        (SPEC, "inverse", "would change nothing; .* no noise covers the count.*{severe: 3}"),
        (replace(SPEC, canonical=False), (("mild", 2.0),), "canonical: true"),
        (replace(SPEC, outputs=2), (("mild", 2.0),), "ways to the number of all classes"),
        (TaskSpec(REGRESSION, (4,), 1, 0, True), (("mild", 2.0),), "have no classes; set it to"),
    ],
)
def test_weights_that_have_no_class_to_go_to(spec: TaskSpec, wanted: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        factors(spec, wanted)


HEART = {
    "client.tasks": {"source": "heart"},
    "client.model": {"network": "mlp", "hidden": [4]},
    "client.inner": {"algorithm": "fomaml"},
    "strategies.hospitals_per_round": None,
}


def test_yaml_names_classes() -> None:
    run = mw.load(SMALL, {**HEART, "client.class_weights": {"diseased": 2}, "client.loss": "focal"})
    assert run.client.class_weights == (("diseased", 2.0),)
    assert run.mapping()["client"]["class_weights"] == {"diseased": 2.0}
    assert run.mapping()["client"]["loss"] == {"function": "focal", "gamma": 2.0}
    assert mw.load(run) == run
    assert run.desk().spec.kind.losses.weights == (1.0, 2.0)  # type: ignore[attr-defined]
    same = mw.load(SMALL, {**HEART, "client.class_weights": {"diseased": 2.0, "healthy": 1}})
    assert same.client.class_weights == (("diseased", 2.0), ("healthy", 1.0))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"diseased": 0}, "diseased: 0: must be a number above 0"),
        ({"diseased": "3"}, "diseased: '3': must be a number above 0"),
        ({"diseased": True}, "diseased: true: must be a number above 0"),
        ("balanced", "must be none, inverse, or a mapping of classes to numbers above 0"),
        ([1, 2], "must be none, inverse, or a mapping of classes to numbers above 0"),
        ({"disease": 3}, "unknown class 'disease'; did you mean diseased"),
        ("inverse", "inverse is not offered"),
    ],
)
def test_yaml_that_says_no_weights(value: Any, words: str) -> None:
    with pytest.raises(mw.ConfigError, match=rf"client\.class_weights: .*{words}"):
        mw.load(SMALL, {**HEART, "client.class_weights": value})


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("fokal", r"client\.loss\.function: unknown 'fokal'; choose from cross_entropy, focal"),
        ({"function": "focal", "gama": 3}, r"client\.loss\.gama: unknown key; did you mean gamma"),
        ({"function": "focal", "smoothing": 0.1}, r"function focal has no smoothing"),
        ("huber", r"client\.loss: huber needs targets, and these tasks are of kind"),
        (3, r"client\.loss\.function: missing; choose from"),
    ],
)
def test_losses_that_cannot_be_chosen(value: Any, words: str) -> None:
    with pytest.raises(mw.ConfigError, match=words):
        mw.load(SMALL, {**HEART, "client.loss": value})
