"""An attack on the real mechanism with units made to be found, and checks of its parts.

What is claimed is an upper bound, by proof; what is measured here is a lower bound, by attack. A
lower bound near the claim says that the claim is not loose; one above it that the code is wrong. An
audit finds mistakes of implementation; it does not prove that there are none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from torch import Tensor

from metaward.privacy.accounting import gdp
from metaward.privacy.audit.bounds import mu_lower, mu_lower_any
from metaward.privacy.audit.play import Effort, Stage, Work, lives
from metaward.privacy.audit.structure import (
    Layers,
    correlations,
    effects,
    extremes,
    layer_noise,
    shape,
)
from metaward.privacy.audit.verdict import CONFIDENCE, LEVEL, AuditReport, checks
from metaward.privacy.mixing import mixing
from metaward.privacy.price import counts, events


def audit(
    stage: Stage,
    layers: Layers,
    delta: float,
    size: Effort,
    seed: int,
    network: tuple[Callable[[Tensor], Tensor], Tensor] | None = None,
) -> AuditReport:
    """Attack a mechanism as a run uses it, and check its parts.

    Epsilon is told at ``delta``. Time grows with canaries * rounds * lives. ``seed`` says which
    canaries are inside, and where; noise does not come from it. ``network``, which is (x (n, ...)
    -> outputs (n, ...), an x with n above 1), shows whether records mix. ``ValueError``: more
    canaries than coordinates.
    """
    played = list(lives(stage, size, np.random.default_rng([seed, 1])))
    sensitivity = effects(stage, played[0].canaries)
    noised = [life.noise(s, sensitivity[s.kind]) for life in played for s in life.seen]
    sigma, source = stage.noise_multipliers, stage.noise(0)
    noise = layer_noise(noised, layers, sigma, LEVEL)
    scores = np.concatenate([life.scores for life in played])
    inside = np.concatenate([life.canaries.inside for life in played])
    claim, pair = claimed_mu(stage, size.rounds), (scores[inside], scores[~inside])
    low, low_any = mu_lower(*pair, CONFIDENCE), mu_lower_any(*pair, claim / 2, CONFIDENCE)
    report = AuditReport(
        unit=stage.mechanism.unit.name,
        mechanism=stage.mechanism.name,
        delta=delta,
        **vars(size),
        sums=sum(life.sums for life in played),
        claimed_mu=claim,
        mu_lower=low,
        mu_lower_any=low_any,
        claimed_epsilon=gdp.epsilon(claim, delta),
        epsilon_lower=gdp.epsilon(low, delta),
        epsilon_lower_any=gdp.epsilon(low_any, delta),
        noise_multipliers={kind: sigma[kind] for kind in sensitivity},
        sensitivity=sensitivity,
        extreme=extremes(stage, sensitivity),
        layers=noise,
        correlations=correlations(noised, layers, stage.tasks),
        gaussian_p=shape(noised, layers, noise, sigma),
        mixing=None if network is None else mixing(*network),
        noise_source=source.name,
        secret=source.secret,
    )
    return replace(report, faults=tuple(check for check in checks(report) if check.code))


def claimed_mu(stage: Stage, rounds: int) -> float:
    """mu of one canary over the rounds, as the price of a request has it."""
    canaries = stage.canaries(2, np.random.default_rng(0), stage.costliest())
    row = int(canaries.rows[0])
    count = counts(stage.uses(canaries), lambda row: row)[row]
    return gdp.mu(events(count, stage.noise_multipliers, 1.0) * rounds)


__all__ = ["CONFIDENCE", "AuditReport", "Effort", "Layers", "Stage", "Work", "audit", "claimed_mu"]
