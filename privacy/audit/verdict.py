"""What an audit measured, as plain data; which of it is wrong, and the sentence that says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from metaward.privacy.session import Kind

LEVEL = 1e-6
"""How often a sound mechanism fails any one check."""

CONFIDENCE = 1 - LEVEL
"""Of the bound: a sound mechanism's is above the claim as seldom as any other check fails."""

SLACK = 2e-3
"""Noise is up to 0.1 % above its multiplier: it pays for the grid that it is rounded to."""

ROUNDING = 1e-5
"""Means are handed back in float32."""

MIXED = 1e-3
"""A network's float32 sums depend this little on the shape of the batch."""

Between = Literal["steps", "tasks", "rounds", "layers"]
WHERE: dict[Between, str] = {
    "steps": "two steps of one task",
    "tasks": "two tasks of one round",
    "rounds": "two rounds",
    "layers": "two layers",
}


@dataclass(frozen=True)
class LayerNoise:
    """Standard deviation of the noise on one layer over the claimed one; ``low`` to ``high`` holds
    the truth with probability 1 - ``AuditReport.level``."""

    kind: str
    layer: str
    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class Correlation:
    """The largest correlation of the noise in ``pairs`` pairs, and how likely one so large is."""

    between: Between
    pairs: int
    largest: float
    p: float


@dataclass(frozen=True)
class Check:
    """What was measured and what it should be; a fixed ``code`` where it is not, else ""."""

    what: str
    measured: str
    wanted: str
    code: str

    @property
    def text(self) -> str:
        """All of it as a sentence."""
        return f"{self.what} {self.measured}; it should be {self.wanted}"


@dataclass(frozen=True)
class AuditReport:
    """An audit of one mechanism as one run uses it.

    ``claimed_mu`` is what the charges of the played rounds add up to for one canary; ``mu_lower``
    its one-sided lower bound at ``confidence``, measured; ``mu_lower_any`` the looser one that
    assumes nothing about the noise. ``level`` is the probability that a sound mechanism fails any
    one check, 1 - ``confidence`` for the bound. ``epsilon`` values are at ``delta``.
    ``sensitivity`` is how far a canary moves a sum of each kind, over the clip norm (1: exactly as
    claimed); ``extreme`` the same for one record of 1e30 beside ones that are not finite, infinity
    where the mechanism stopped at them. ``mixing`` is how far one record's output moved when the
    others in the batch were replaced, None where no network was given.
    """

    unit: str
    mechanism: str
    delta: float
    canaries: int
    lives: int
    rounds: int
    sums: int
    claimed_mu: float
    mu_lower: float
    mu_lower_any: float
    claimed_epsilon: float
    epsilon_lower: float
    epsilon_lower_any: float
    noise_multipliers: Mapping[str, float]
    sensitivity: Mapping[Kind, float]
    extreme: Mapping[Kind, float]
    layers: tuple[LayerNoise, ...]
    correlations: tuple[Correlation, ...]
    gaussian_p: float
    mixing: float | None
    noise_source: str
    secret: bool
    confidence: float = CONFIDENCE
    level: float = LEVEL
    faults: tuple[Check, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether nothing was found wrong."""
        return not self.faults

    @property
    def tightness(self) -> float:
        """The measured bound over the claim; near 1 the claim is not loose."""
        return self.mu_lower / self.claimed_mu

    @property
    def smallest_noise(self) -> LayerNoise:
        """The layer with the least noise for its claim."""
        return min(self.layers, key=lambda layer: layer.ratio)


def checks(report: AuditReport) -> Iterator[Check]:
    """All checks. Where noise repeats itself, those that count on independence are left out."""
    yield from _units(report)
    repeated = list(_repeated(report))
    yield from repeated
    if not any(check.code for check in repeated):
        yield from _noise(report)


def _units(report: AuditReport) -> Iterator[Check]:
    """A unit moves a sum by the clip norm and no more; one that moves less shows nothing.

    Records that are not finite count as zero, and those of any finite size are clipped. No record
    touches another one's output.
    """
    for kind, norm in report.sensitivity.items():
        wanted, code = "1 C, no more", "" if norm <= 1 + ROUNDING else "sensitivity"
        if norm < 1 - SLACK:
            wanted, code = "1 C, or the attack proves nothing", "attack-too-weak"
        yield Check(f"one unit moves a {kind} sum by", f"{norm:.4f} C", wanted, code)
    for kind, norm in report.extreme.items():
        what = f"records of 1e30, infinity and NaN move a {kind} sum by"
        code = "" if norm <= 1 + ROUNDING else "not-finite"
        yield Check(what, f"{norm:.4g} C", "at most 1 C", code)
    if report.mixing is not None:
        what = "other records in the batch move a record's output by"
        code = "" if report.mixing <= MIXED else "records-mixed"
        yield Check(what, f"{report.mixing:.2g} of its size", "nothing", code)


def _repeated(report: AuditReport) -> Iterator[Check]:
    """Noise is drawn afresh for every sum and every coordinate.

    Layers are compared over many sums; where these repeat each other, they are no evidence.
    """
    of_sums = [one for one in report.correlations if one.between != "layers"]
    independent = all(one.p >= LEVEL for one in of_sums)
    for one in report.correlations if independent else of_sums:
        what = f"the noise of {WHERE[one.between]} has correlation"
        measured = f"{one.largest:.4f} (p = {one.p:.2g} in {one.pairs:,} pairs)"
        code = "" if one.p >= LEVEL else "noise-repeated"
        yield Check(what, measured, f"chance, p above {LEVEL:g}", code)


def _noise(report: AuditReport) -> Iterator[Check]:
    """The bound on mu is not above the claim; the noise is Gaussian and as large as is claimed.

    More noise would be as wrong a report. Of the layers without a fault only the one with the least
    noise is told.
    """
    low, claim, p = report.mu_lower, report.claimed_mu, report.gaussian_p
    wanted, code = f"at most the claim {claim:.3f}", "" if low <= claim else "bound"
    yield Check("the attack shows mu above", f"{low:.3f}", wanted, code)
    for layer in report.layers:
        code = "noise-too-large" if layer.low > 1 + SLACK else ""
        code = "noise-too-small" if layer.high < 1 else code
        if code or layer is report.smallest_noise:
            what = f"noise on layer {layer.layer} of {layer.kind} sums is"
            measured = f"{layer.ratio:.4f} of the claim ({layer.low:.3f} to {layer.high:.3f})"
            yield Check(what, measured, "1", code)
    what, code = "the noise is Gaussian (Kolmogorov-Smirnov) with", "noise-shape"
    yield Check(what, f"p = {p:.2g}", f"p above {LEVEL:g}", "" if p >= LEVEL else code)
