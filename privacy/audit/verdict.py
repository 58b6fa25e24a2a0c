"""Which measurements are faults, and the sentence that says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from metaward.privacy.audit.report import Correlation, Fault, LayerNoise, Measured
from metaward.privacy.session import Kind

LEVEL = 1e-6
"""How often a sound mechanism fails any one check."""

SLACK = 2e-3
"""Noise is up to 0.1 % above its multiplier: it pays for the grid that it is rounded to."""

ROUNDING = 1e-5
"""Means are handed back in float32."""

MIXED = 1e-3
"""A network's float32 sums depend this little on the shape of the batch."""

WHERE = {
    "steps": "two steps of one task",
    "tasks": "two tasks of one round",
    "rounds": "two rounds",
    "layers": "two layers",
}


def faults(claim: float, low: float, measured: Measured) -> Iterator[Fault]:
    """What is wrong; ``low`` is the lower bound on mu that is wrong only once in 1 / LEVEL audits.

    Where noise repeats itself, checks that count on independence are left out.
    """
    yield from _sensitivity(measured.sensitivity)
    yield from _extremes(measured.extreme)
    mixing = measured.mixing
    if mixing is not None and not mixing <= MIXED:
        text = f"other records in the batch move a record's output by {mixing:.3g} of its size"
        yield Fault("records-mixed", text)
    again = list(_repeated(measured.correlations))
    yield from again
    if again:
        return
    if low > claim:
        yield Fault("bound", f"the attack shows mu above {low:.3f}; {claim:.3f} is claimed")
    yield from _noise(measured.layers)
    if measured.gaussian_p < LEVEL:
        text = f"the noise is not Gaussian (Kolmogorov-Smirnov, p = {measured.gaussian_p:.1e})"
        yield Fault("noise-shape", text)


def _sensitivity(moved: Mapping[Kind, float]) -> Iterator[Fault]:
    """A unit must move a sum by the clip norm and no more; one that moves less shows nothing."""
    for kind, norm in moved.items():
        if norm < 1 - SLACK:
            text = f"the attack moves a {kind} sum by {norm:.3f} clip norms only: it proves nothing"
            yield Fault("attack-too-weak", text)
        if not norm <= 1 + ROUNDING:
            text = f"one unit moves a {kind} sum by {norm:.3f} clip norms; 1 is claimed"
            yield Fault("sensitivity", text)


def _extremes(found: Mapping[Kind, float]) -> Iterator[Fault]:
    """Records that are not finite count as zero, and those of any finite size are clipped."""
    for kind, norm in found.items():
        if not norm <= 1 + ROUNDING:
            text = f"records of 1e30, infinity and NaN move a {kind} sum by {norm:.3g} clip norms"
            yield Fault("not-finite", text)


def _noise(layers: Sequence[LayerNoise]) -> Iterator[Fault]:
    """Every layer has the noise that is claimed; more would be as wrong a report."""
    for layer in layers:
        where = f"noise on layer {layer.layer} of {layer.kind} sums"
        if layer.high < 1:
            text = f"{where} is {layer.ratio:.3f} of what is claimed, at most {layer.high:.3f}"
            yield Fault("noise-too-small", text)
        elif layer.low > 1 + SLACK:
            text = f"{where} is {layer.ratio:.3f} of what is claimed, at least {layer.low:.3f}"
            yield Fault("noise-too-large", text)


def _repeated(found: Sequence[Correlation]) -> Iterator[Fault]:
    """Noise is drawn afresh for every sum and every coordinate.

    Layers are compared over many sums; where these repeat each other, they are no evidence.
    """
    wrong = [one for one in found if one.p < LEVEL]
    for one in [w for w in wrong if w.between != "layers"] or wrong:
        text = f"the noise of {WHERE[one.between]} has correlation {one.largest:.3f}"
        yield Fault("noise-repeated", text)
