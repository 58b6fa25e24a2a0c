"""Which round's theta is the result of a training: the last one's, or that of the best round.

The best round is chosen by hospitals that are set aside for it (role ``validation``), never by the
unseen ones that judge the final result. A theta is as good as the mean over these hospitals of the
main score after adaptation; of equally good rounds the first one counts. A round in which one of
them gave no scores is not compared, because a mean over other hospitals is another number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaward.client.tasks.kinds import Score
from metaward.sections import Evaluation

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Best:
    """The best round so far: its theta (dim,), and its ``scores`` at the validation hospitals.

    The scores are those of ``evaluate.watched``.
    """

    round: int
    theta: Vector
    scores: Mapping[str, Any]


@dataclass(frozen=True)
class Chosen:
    """The ``round`` whose theta is the result of a learner's training, of ``reached`` rounds.

    ``planned`` is how many rounds there could have been; ``scores`` are the validation hospitals'
    where they have chosen the round, else None.
    """

    learner: str
    round: int
    reached: int
    planned: int
    scores: Mapping[str, Any] | None

    def plain(self) -> dict[str, Any]:
        """The choice as plain data for JSON."""
        return asdict(self)

    def text(self, score: Score) -> str:
        """The choice in a sentence."""
        words = f"{self.learner}: the theta of round {self.round}"
        if self.scores is None:
            return f"{words}, the last one."
        after, low, high = (score.text(self.scores[key]) for key in ("after", "low", "high"))
        words += f", with {after} [{low}, {high}] ({score.label}) at the validation hospitals"
        early = self.reached < self.planned
        return f"{words}; training {'stopped early,' if early else 'ended'} after {self.reached}."


def better(score: Score, best: Best | None, found: Best) -> Best:
    """The better one of two rounds by their main ``score``; the earlier one if they are equal."""
    if best is None or score.advantage(found.scores["after"], best.scores["after"]) > 0:
        return found
    return best


def stale(evaluation: Evaluation, best: Best | None, round: int) -> bool:
    """Whether training stops after ``round``: the best one is ``patience`` evaluations old."""
    if best is None or evaluation.patience is None:
        return False
    return round // evaluation.every - best.round // evaluation.every >= evaluation.patience
