"""The scores of an adaptation at a new hospital."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from metaward.client.scores import METRICS
from metaward.client.scores.classes import sensitivity_at
from metaward.client.tasks.kinds import Score, TaskKind

BESIDE = ("balanced_accuracy", "auroc", "sensitivity", "ece", "brier")


def scores_of(kind: TaskKind, specificity: float) -> tuple[Score, ...]:
    """The scores of the run's kind of task, and those ``BESIDE`` them.

    The sensitivity is given at this specificity.
    """

    def sensitivity(outputs: Tensor, y: Tensor) -> float:
        return sensitivity_at(outputs, y, specificity)

    label = f"sensitivity at specificity {specificity:g}, %"
    own = {score.name: score for score in kind.scores}
    beside = {name: METRICS[name] for name in BESIDE if name not in own}
    at = replace(METRICS["sensitivity"], label=label, measure=sensitivity)
    return tuple({**own, **beside, "sensitivity": at}.values())
