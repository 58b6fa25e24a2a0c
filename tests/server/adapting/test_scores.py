"""The scores of an adaptation at a new hospital."""

from __future__ import annotations

import pytest
import torch

from metaward.client.tasks.kinds import KINDS
from metaward.server.adapting.scores import scores_of


def test_certain_and_right_is_best_in_every_score() -> None:
    kind = KINDS["classification"]
    best, y = torch.eye(3).double() * 100, torch.arange(3)
    for score in scores_of(kind, 0.9):
        assert score.measure(best, y) == pytest.approx(1.0 if score.higher_is_better else 0.0)
