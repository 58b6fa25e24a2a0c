"""The server's part in privacy: it adds noise for units that trust it to do so."""

from __future__ import annotations

from collections import Counter

import numpy as np

from metaward.privacy.noise import SeededNoise, SystemNoise
from metaward.sim import Sim
from metaward.strategies import Combine
from metaward.strategies.meta import Protect, Vector

STREAM = 6  # the random stream of the server's seeded noise


def protection(run: Sim, simulated: bool) -> Protect:
    """How updates are combined under the run's mechanism; noise is seeded in simulations only."""
    sigma, tag = noise_multiplier(run), run.desk().learner_tag

    def protect(updates: Vector, combine: Combine, round: int) -> Vector:
        noise = SeededNoise(run.seed, STREAM, round, tag) if simulated else SystemNoise()
        combined = run.privacy.at_server(updates, combine, sigma, noise)
        return np.asarray(combined, np.float32)

    return protect


def noise_multiplier(run: Sim) -> float:
    """The noise multiplier of the server's noise; 0 where the server adds none.

    A hospital's update is in one sum per round. The noise is calibrated for a hospital that is
    chosen in every round.
    """
    if not run.privacy.unit.noise_at_server:
        return 0.0
    return run.privacy.noise_multipliers([Counter(update=run.server.rounds)])["update"]
