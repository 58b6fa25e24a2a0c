"""A unit's spend as Opacus's own accountants count it, for those who trust what they know.

Opacus counts Gaussian sums, with or without a secret Poisson draw, by Renyi divergences (``rdp``:
an upper bound) and by privacy loss random variables (S. Gopi, Y. T. Lee, L. Wutschitz 2021,
"Numerical Composition of Differential Privacy": ``prv``, with an error that it bounds). Its
neighbours differ in a unit being there or not, which moves a clipped sum as nulling it does. Its
third accountant is left out: below rate 1 its central limit theorem gives less than the truth.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from metaward.privacy.accounting.limits import check_delta
from metaward.privacy.event import Event, undrawn

ERROR = 0.01
"""The error of epsilon that the second accountant is asked to stay within."""

TOLERANCE = 0.01
"""The relative difference between ours and Opacus's that is left to numerics."""


@dataclass(frozen=True)
class ByOpacus:
    """epsilon by Opacus's two accountants: ``rdp`` is never below the truth, ``prv`` is near it."""

    rdp: float
    prv: float

    def agrees(self, epsilon: float) -> bool:
        """Whether ``epsilon``, our own number, can be true by both."""
        if inf in (epsilon, self.prv):
            return epsilon == self.prv
        most = TOLERANCE * epsilon + 2 * ERROR
        return abs(epsilon - self.prv) <= most and self.rdp >= epsilon * (1 - TOLERANCE)


def by_opacus(events: Sequence[Event], delta: float) -> ByOpacus:
    """epsilon of all events together at ``delta``; infinite where one has no noise, 0 for none.

    ``ValueError`` for an event that is no Gaussian sum, which Opacus cannot count.
    """
    from opacus.accountants import PRVAccountant, RDPAccountant

    check_delta(delta)
    history = [_entry(event) for event in events]
    if not history or any(sigma == 0 for sigma, _, _ in history):
        return ByOpacus(*((inf, inf) if history else (0.0, 0.0)))
    rdp, prv = RDPAccountant(), PRVAccountant()
    rdp.history = prv.history = history
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the best order being the last one: still a bound
        return ByOpacus(
            float(rdp.get_epsilon(delta)), float(prv.get_epsilon(delta, eps_error=ERROR))
        )


def _entry(event: Event) -> tuple[float, float, int]:
    """Noise multiplier, sampling rate and count, as Opacus writes them down."""
    from dp_accounting import GaussianDpEvent

    inner = undrawn(event.dp_event)
    if not isinstance(inner, GaussianDpEvent):
        raise ValueError(f"{event.dp_event} is no Gaussian sum, and Opacus counts no other")
    return float(inner.noise_multiplier), float(event.sampling_rate), event.count
