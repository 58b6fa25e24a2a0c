"""Adaptation whose result may be published: priced, and carried out in a session that noises.

The hospital's records are one task, all of them support, and the learner adapts to them as it
always does, but for the session: whatever it sums over records is clipped and noised, and what it
makes of the noisy sums is post-processing.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from metaward.client.charging import Plan, planned
from metaward.client.inner import Algorithm, Setting
from metaward.client.inner.fitted import Fitted
from metaward.client.inner.setting import Predictor
from metaward.privacy import Batch, Mechanism, Opening, Rehearsal, Session, Use
from metaward.privacy.noise import Noise
from metaward.privacy.price import profiles


@dataclass(frozen=True, eq=False)
class Adaptation:
    """``steps`` steps of ``learner`` from ``theta`` (dim,) under a mechanism whose session noises
    every sum over records."""

    mechanism: Mechanism
    learner: Algorithm
    setting: Setting
    theta: Tensor
    steps: int

    def check(self, support: Batch) -> None:
        """``ValueError``, with the way out, where the learner takes no session, gives no network
        that could be written, or sums nothing over records. It reads no record's value."""
        name = type(self.learner).__name__
        if "session" not in inspect.signature(self.learner.adapt).parameters:
            raise ValueError(
                f"the method adapt of {name} takes no session, so nothing that it does with "
                "records could be noised; give it the parameter session"
            )
        predictor, uses = self._rehearsed(support)
        if not isinstance(predictor, Fitted):
            raise ValueError(f"{name} adapts no network, so there is none to publish")
        if not uses:
            raise ValueError(f"in {self.steps} steps {name} uses no record; take 1 step or more")

    def price(self, support: Batch) -> Plan:
        """Every sum over the records, and the noise that it needs; no value of a record is read."""
        rows = [support.rows.tolist()]
        uses = self.mechanism.uses(lambda: self._rehearsed(support)[1], rows)
        found = profiles(self.mechanism.unit, uses, rows)
        return planned(self.mechanism, uses, found, found, 1, 1)

    def session(self, price: Plan, owners: NDArray[Any], noise: Noise) -> Session:
        """The session that serves what was priced; it must be charged before (``charging``).

        ``owners`` (n,) are the units behind all of the hospital's rows.
        """
        return self.mechanism.session(Opening(price.uses, price.noise, owners, noise))

    def adapted(self, support: Batch, session: Session) -> Predictor:
        """What the learner makes of the records in a session."""
        return self.learner.adapt(self.setting, self.theta, support, self.steps, session)

    def _rehearsed(self, support: Batch) -> tuple[Predictor, list[Use]]:
        session = Rehearsal(self.mechanism.trained)
        return self.adapted(support, session), session.uses
