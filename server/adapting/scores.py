"""What predictions for judging records are worth: order, decisions, and probabilities.

Every score is a ``Score`` of outputs (n, N), whose softmax are the probabilities, and labels (n,).
Where a score is of one class, it is taken against all others, and the mean over the classes is
given. Predictions never use the other judging records, so none of this is transductive; only the
threshold of the sensitivity is chosen on the judging records.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaward.client.tasks.kinds import Score, TaskKind

BINS = 10
"""Bins of equal width for the reliability of probabilities, from 0 to 1."""
ROUNDING = 1e-12

Floats = NDArray[np.float64]


class Reliability(NamedTuple):
    """For each of the ``BINS``: how many records' highest probability lies in it, the mean of these
    probabilities, and the share of these records whose class is right (0 where there is none)."""

    counts: NDArray[np.int64]
    confidence: Floats
    right: Floats


def scores_of(kind: TaskKind, specificity: float) -> tuple[Score, ...]:
    """The kind's own first score, and those of this file."""
    own = kind.scores[0]

    def sensitivity(outputs: Tensor, y: Tensor) -> float:
        return sensitivity_at(outputs, y, specificity)

    at = f"sensitivity at specificity {specificity:g}, %"
    return (
        own,
        Score(f"balanced_{own.name}", f"balanced {own.label}", balanced, True, 0, 1, 100, 1),
        Score("auroc", "AUROC", auroc, True, 0, 1),
        Score("sensitivity", at, sensitivity, True, 0, 1, 100, 1),
        Score("ece", f"ECE, {BINS} bins", expected_calibration_error, False, 0, 1),
        Score("brier", "Brier score", brier, False, 0, 2),
    )


def probabilities(outputs: Tensor) -> Floats:
    """(n, N), each row of sum 1."""
    return np.asarray(torch.softmax(outputs.double(), dim=1).numpy(), np.float64)


@cache
def _metrics() -> Any:
    """scikit-learn's metrics: they take seconds to import, which other commands need not wait."""
    from sklearn import metrics

    return metrics


def balanced(outputs: Tensor, y: Tensor) -> float:
    """The mean over the classes of the share of their records that is recognised."""
    return float(_metrics().balanced_accuracy_score(y.numpy(), outputs.argmax(dim=1).numpy()))


def auroc(outputs: Tensor, y: Tensor) -> float:
    """The mean over the classes of the area under the curve of one against the rest."""
    p, labels = probabilities(outputs), y.numpy()
    return float(
        np.mean([_metrics().roc_auc_score(labels == c, p[:, c]) for c in np.unique(labels)])
    )


def sensitivity_at(outputs: Tensor, y: Tensor, specificity: float) -> float:
    """The mean over the classes of the highest sensitivity at this specificity or a higher one."""
    p, labels = probabilities(outputs), y.numpy()
    found = []
    for c in np.unique(labels):
        wrong, right, _ = _metrics().roc_curve(labels == c, p[:, c], drop_intermediate=False)
        found.append(right[wrong <= 1 - specificity + ROUNDING].max())
    return float(np.mean(found))


def brier(outputs: Tensor, y: Tensor) -> float:
    """The mean squared distance of the probabilities from the true class's (Brier 1950), 0 to 2."""
    p = probabilities(outputs)
    labels = list(range(p.shape[1]))
    return float(_metrics().brier_score_loss(y.numpy(), p, labels=labels, scale_by_half=False))


def expected_calibration_error(outputs: Tensor, y: Tensor) -> float:
    """The mean over the records of |confidence - share that is right| of their bin (Naeini, Cooper,
    Hauskrecht 2015: Obtaining Well Calibrated Probabilities Using Bayesian Binning)."""
    found = reliability(outputs, y)
    return float((found.counts * np.abs(found.confidence - found.right)).sum() / len(y))


def reliability(outputs: Tensor, y: Tensor) -> Reliability:
    """The records by their highest probability: bin k of ``BINS`` holds those in (k, k+1] /
    ``BINS``."""
    p = probabilities(outputs)
    highest, hit = p.max(axis=1), p.argmax(axis=1) == y.numpy()
    place = np.clip(np.ceil(highest * BINS - ROUNDING).astype(int) - 1, 0, BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    each = np.maximum(counts, 1)
    sums = (np.bincount(place, weights=w, minlength=BINS) for w in (highest, hit.astype(float)))
    confidence, right = (one / each for one in sums)
    return Reliability(counts, confidence, right)


def confusion(outputs: Tensor, y: Tensor) -> NDArray[np.int64]:
    """How many records of each class (rows) are taken for each class (columns), (N, N)."""
    labels = list(range(outputs.shape[1]))
    found = _metrics().confusion_matrix(y.numpy(), outputs.argmax(dim=1).numpy(), labels=labels)
    return np.asarray(found, np.int64)
