"""The sessions in which a private adaptation is judged: noised as the one that is published.

What is judged never leaves, so nothing of it is charged; its noise is seeded, so that the numbers
of a report can be made again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from metaward.client.adaptation import Adaptation
from metaward.client.inner import Algorithm, Setting
from metaward.privacy import Batch, Mechanism, Rehearsal, Session
from metaward.privacy.noise import SeededNoise

Opens = Callable[[Algorithm, Setting, Tensor, Batch, int], Session]
"""(learner, setting, theta, support, steps) -> the session in which it adapts."""


@dataclass(frozen=True, eq=False)
class Noising:
    """Opens sessions that noise as ``mechanism`` does; ``owners`` (n,) are the units behind the
    hospital's records."""

    mechanism: Mechanism
    owners: NDArray[Any]
    noise: SeededNoise

    def __call__(
        self, learner: Algorithm, setting: Setting, theta: Tensor, support: Batch, steps: int
    ) -> Session:
        """A session for this adaptation alone; one without a record where it sums nothing."""
        asked = Adaptation(self.mechanism, learner, setting, theta, steps)
        price = asked.price(support)
        if not price.uses:
            return Rehearsal(self.mechanism.trained)
        return asked.session(price, self.owners, self.noise)
