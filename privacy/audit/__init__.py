"""An attack on the real mechanism with units made to be found, and checks of its parts.

What is claimed is an upper bound, by proof; what is measured here is a lower bound, by attack. A
lower bound near the claim says that the claim is not loose; one above it that the code is wrong. An
audit finds mistakes of implementation; it does not prove that there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metaward.privacy.accounting import gdp
from metaward.privacy.audit import verdict
from metaward.privacy.audit.bounds import mu_lower, mu_lower_any
from metaward.privacy.audit.play import Life, Stage, Work, lives
from metaward.privacy.audit.report import (
    AuditReport,
    Correlation,
    Effort,
    Fault,
    LayerNoise,
    Measured,
)
from metaward.privacy.audit.structure import (
    Layers,
    correlations,
    effects,
    extremes,
    layer_noise,
    mixing,
    shape,
)
from metaward.privacy.audit.verdict import LEVEL
from metaward.privacy.price import counts, events

CONFIDENCE = 1 - LEVEL
"""Of the bound: a sound mechanism's is above the claim as seldom as any other check fails."""

KEPT = 20_000_000
"""Values of sums that are kept for the checks of the noise, 8 bytes each; all of them count for the
bound."""


def audit(
    stage: Stage,
    layers: Layers,
    delta: float,
    size: Effort,
    seed: int,
    network: tuple[Callable[[Tensor], Tensor], Tensor] | None = None,
) -> AuditReport:
    """Attack a mechanism as a run uses it, and check its parts.

    Args:
        stage: the mechanism, the algorithm's work, and the run's noise.
        layers: names and sizes of the trained layers, in theta's order.
        delta: where epsilon is told.
        size: how much is played; time grows with canaries * rounds * lives.
        seed: which canaries are inside, and where. Noise does not come from it.
        network: (x (n, ...) -> outputs (n, ...), an x with n above 1), to see whether records mix.

    Raises:
        ValueError: more canaries than coordinates.
    """
    rng = np.random.default_rng([seed, 1])
    played = _play(lives(stage, size.canaries, size.rounds, size.lives, rng), stage)
    moved = effects(stage, played.kept[0])
    noised = [(one, life.noise(one, moved[one.kind])) for life in played.kept for one in life.seen]
    spread = layer_noise(noised, layers, stage.noise_multipliers, LEVEL)
    measured = Measured(
        moved,
        extremes(stage, moved),
        spread,
        correlations(noised, layers, stage.tasks),
        shape(noised, layers, spread, stage.noise_multipliers),
        None if network is None else mixing(*network),
    )
    return _report(stage, size, delta, played, measured)


@dataclass
class _Played:
    """Scores of all canaries (n,), who of them was inside, and the first lives as they were."""

    scores: NDArray[np.float64]
    inside: NDArray[np.bool_]
    kept: list[Life]
    sums: int


def _play(played: Iterable[Life], stage: Stage) -> _Played:
    """Play all lives; the values of the later ones are dropped once they are scored."""
    scores, inside, kept, sums, values = [], [], [], 0, 0
    for life in played:
        scores.append(life.scores(stage.noise_multipliers))
        inside.append(life.canaries.inside)
        sums += len(life.seen)
        if values < KEPT:
            kept.append(life)
            values += sum(len(seen.values) for seen in life.seen)
    return _Played(np.concatenate(scores), np.concatenate(inside), kept, sums)


def _report(
    stage: Stage, size: Effort, delta: float, played: _Played, measured: Measured
) -> AuditReport:
    source, claim = stage.noise(0), claimed_mu(stage, size.rounds)
    inside, outside = played.scores[played.inside], played.scores[~played.inside]
    low = mu_lower(inside, outside, CONFIDENCE)
    free = mu_lower_any(inside, outside, claim / 2, CONFIDENCE)
    return AuditReport(
        **vars(size),
        **vars(measured),
        unit=stage.mechanism.unit.name,
        mechanism=stage.mechanism.name,
        delta=delta,
        confidence=CONFIDENCE,
        level=LEVEL,
        sums=played.sums,
        claimed_mu=claim,
        mu_lower=low,
        mu_lower_any=free,
        claimed_epsilon=gdp.epsilon(claim, delta),
        epsilon_lower=gdp.epsilon(low, delta),
        epsilon_lower_any=gdp.epsilon(free, delta),
        noise_multipliers={k: stage.noise_multipliers[k] for k in measured.sensitivity},
        noise_source=source.name,
        secret=source.secret,
        faults=tuple(verdict.faults(claim, low, measured)),
    )


def claimed_mu(stage: Stage, rounds: int) -> float:
    """mu of one canary over the rounds, as the price of a request has it."""
    canaries = stage.canaries(2, np.random.default_rng(0), stage.costliest())
    row = int(canaries.rows[0])
    count = counts(stage.uses(canaries), lambda row: row)[row]
    return gdp.mu(events(count, stage.noise_multipliers, 1.0) * rounds)


__all__ = [
    "AuditReport",
    "Correlation",
    "Effort",
    "Fault",
    "LayerNoise",
    "Layers",
    "Stage",
    "Work",
    "audit",
    "claimed_mu",
]
