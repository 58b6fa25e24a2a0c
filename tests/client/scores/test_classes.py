"""Scores of predictions, against a pencil and against scikit-learn's own way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from metaward.client.scores.classes import (
    auroc,
    balanced_accuracy,
    brier,
    confusion,
    expected_calibration_error,
    probabilities,
    reliability,
    sensitivity_at,
)

P = torch.tensor([[0.95, 0.05], [0.93, 0.07], [0.35, 0.65], [0.38, 0.62], [0.7, 0.3]])
Y = torch.tensor([0, 1, 1, 1, 0])


def outputs(p: Tensor) -> Tensor:
    return p.double().log()


def test_the_calibration_error_by_hand() -> None:
    # (0.9, 1]: 0.95 right, 0.93 wrong; (0.6, 0.7]: 0.65, 0.62 and 0.7, all right
    by_hand = 2 / 5 * abs(0.94 - 0.5) + 3 / 5 * abs((0.65 + 0.62 + 0.7) / 3 - 1)
    assert expected_calibration_error(outputs(P), Y) == pytest.approx(by_hand)


def test_a_probability_on_an_edge_is_in_the_lower_bin() -> None:
    found = reliability(outputs(P), Y)
    assert found.counts.tolist() == [0, 0, 0, 0, 0, 0, 3, 0, 0, 2]
    assert found.right[[6, 9]].tolist() == [1, 0.5]


def test_the_brier_score_by_hand() -> None:
    wrong = [0.05, 0.93, 0.35, 0.38, 0.3]
    assert brier(outputs(P), Y) == pytest.approx(np.mean([2 * w**2 for w in wrong]))


def test_the_area_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    y = torch.from_numpy(rng.integers(4, size=60))
    x = torch.from_numpy(rng.normal(size=(60, 4))) + torch.nn.functional.one_hot(y, 4)
    theirs = roc_auc_score(y.numpy(), probabilities(x), multi_class="ovr", average="macro")
    assert auroc(x, y) == pytest.approx(theirs)
    assert 0.5 < auroc(x, y) < 1


def test_the_sensitivity_at_a_specificity_by_hand() -> None:
    # the first three records are of class 1; one of the four others may be above its threshold
    p = torch.tensor([0.9, 0.6, 0.2, 0.7, 0.5, 0.3, 0.1])
    both, y = outputs(torch.stack([1 - p, p], dim=1)), torch.tensor([1, 1, 1, 0, 0, 0, 0])
    # class 1: two of three above 0.5; class 0: with one of three wrong allowed none (1/3 > 1/4),
    # so only what is surer than 0.8 counts: 0.9
    assert sensitivity_at(both, y, 0.75) == pytest.approx((2 / 3 + 1 / 4) / 2)
    assert sensitivity_at(both, y, 0.9) == pytest.approx((1 / 3 + 1 / 4) / 2)


def test_the_balanced_score_and_the_confusion_by_hand() -> None:
    assert confusion(outputs(P), Y).tolist() == [[2, 0], [1, 2]]
    assert balanced_accuracy(outputs(P), Y) == pytest.approx((1 + 2 / 3) / 2)
