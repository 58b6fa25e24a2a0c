"""The scores that a run can ask for beside those of its kind of task.

``METRICS`` holds those of ``server.evaluation.metrics`` that come with metaward. Each is a
``Score``, a function of the outputs and labels of one task's query records; it says which kinds of
task it suits. A program or package can add others.
"""

from __future__ import annotations

from metaward.client.scores.known import (
    METRIC,
    METRICS,
    asked_metrics,
    known_scores,
    score_called,
    scored,
)

__all__ = ["METRIC", "METRICS", "asked_metrics", "known_scores", "score_called", "scored"]
