"""What the server adds for privacy: its own noise, where the unit has it trusted with that."""

from __future__ import annotations

import numpy as np

from metaward.privacy import Use
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
    """Of the server's noise: a hospital's update is in one sum a round; 0 where none is added.

    Whichever hospitals are chosen in a round, the noise is measured for one that always is.
    """
    if not run.privacy.unit.noise_at_server:
        return 0.0
    use = Use("update", (0,))
    return run.privacy.noise_multipliers([use], [[0]], run.server.rounds)["update"]
