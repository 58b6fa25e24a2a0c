"""Five privacy reports, from a simulation to a troubled one; what tests and pictures show."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from math import exp, inf

from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr

from metaward.privacy import UNITS
from metaward.privacy.report import promise
from metaward.privacy.report.document import PrivacyReport, concluded
from metaward.privacy.report.inputs import ReportInputs
from metaward.privacy.report.sections import (
    Accounting,
    AtDelta,
    Audit,
    CrossCheck,
    Evidence,
    LedgerState,
    Library,
    MechanismSummary,
    NoisySum,
    RefusalCount,
    ReportedRun,
    SpendingPoint,
    Touch,
    TrainingHospital,
)
from metaward.privacy.report.values import STANDARD_DELTAS, TOUCHES

DELTA = 1e-5
HOSTILE = "<script>alert(1)</script>\"'& </td><img src=x onerror=alert(2)>"
START = datetime(2026, 3, 2, 8, 15, tzinfo=UTC)


@cache
def epsilon(mu: float, delta: float = DELTA) -> float:
    """Exact epsilon of mu-GDP at delta, by root finding."""

    def excess(eps: float) -> float:
        tail = exp(min(eps + log_ndtr(-mu / 2 - eps / mu), 0))
        return float(ndtr(mu / 2 - eps / mu) - tail - delta)

    return float(brentq(excess, 0, 200)) if excess(0) > 0 else 0.0


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def time(days: float) -> str:
    return f"{START + timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"


def history(mu: float, runs: Sequence[tuple[str, float, int]]) -> tuple[SpendingPoint, ...]:
    """Equal charges over ``runs`` (name, day, rounds) that come to ``mu`` at the end."""
    rounds = [(run, day + i / 48, i + 1) for run, day, n in runs for i in range(n)]
    return tuple(
        SpendingPoint(time(day), run, number, epsilon(mu * ((i + 1) / len(rounds)) ** 0.5))
        for i, (run, day, number) in enumerate(rounds)
    )


def ledger(name: str) -> LedgerState:
    return LedgerState(
        sha(name)[:12], 4 * len(name), sha(f"head of {name}"), "verified", (), "held"
    )


def hospital(
    name: str, mu: float, units: int = 300, runs: Sequence[tuple[str, float, int]] = ()
) -> TrainingHospital:
    runs = runs or (("pilot", 0, 6), ("phantom", 9, 12))
    return TrainingHospital(
        name=name,
        units=units,
        participations=runs[-1][2],
        counted_from="ledger",
        mu=mu,
        spent=AtDelta(DELTA, epsilon(mu)),
        this_run=epsilon(mu * 0.8),
        epsilons=tuple(AtDelta(delta, epsilon(mu, delta)) for delta in STANDARD_DELTAS),
        budget=8.0,
        ledger=ledger(name),
        refusals=(),
        history=history(mu, runs),
        code=(),
    )


COVERED = {
    "training": ("yes", "Every gradient of a record is clipped and noised."),
    "query": ("yes", "Query records count as training records and pay for their own noise."),
    "evaluation metrics": ("no", "Evaluation-only hospitals send scores without noise."),
    "normalisation statistics": ("not used", "Pixels are scaled by constants, not by statistics."),
    "hyper-parameter tuning": ("not used", "Settings were chosen on phantom hospitals."),
    "pre-processing": ("no", "Images were cropped inside the hospital; nothing left it."),
    "public pre-training": ("not used", "The network started from random weights."),
}


def touches() -> tuple[Touch, ...]:
    return tuple(Touch(name, *COVERED[name]) for name in TOUCHES)  # type: ignore[arg-type]


RUN = ReportedRun(
    name="phantom",
    id="2026-03-11-phantom-7",
    seed=7,
    setting="simulation",
    status="finished",
    started=time(9),
    finished=time(9.3),
    rounds=12,
    rounds_planned=12,
    evaluation_hospitals=6,
    signed_answers=None,
)
MECHANISM = MechanismSummary(
    name="sums",
    words=(
        "DP-Reptile: in every inner step each record's gradient is clipped and Gaussian noise is "
        "added to their sum; only the mean of the adapted vectors leaves."
    ),
    sums=(NoisySum("support", 1.0, 9.4, 45.0, 5),),
    inner_steps=5,
    participations=12,
    sampling_rate=1.0,
    sampling="Every record stands in one task of each pass; the schedule is public.",
    amplification=None,
    noise_source="seeded",
    floating_point="Clipped sum and noise are rounded to one power-of-two grid before they meet.",
)
ACCOUNTING = Accounting(
    method="Gaussian differential privacy, closed form",
    libraries=(Library("metaward", "0.2.0"), Library("dp-accounting", "0.6.0")),
    error="exact",
    adaptive=True,
    cross_check=None,
)
AUDIT = Audit(time(9.4), 1.21, 1.42, 0.95, ())
EVIDENCE = Evidence(AUDIT, sha("config"), "metaward 0.2.0 (5414fa4)", ())


REAL = replace(MECHANISM, noise_source="operating system")
"""The mechanism of a deployment."""


def crossed(one: TrainingHospital) -> Accounting:
    """The account of ``one`` done again, 0.07 % higher."""
    eps = one.spent.epsilon
    return replace(ACCOUNTING, cross_check=CrossCheck.of("PLD", one.name, eps, 1.0007 * eps))


def report(unit: str = "record", cap: int | None = 1, **parts: object) -> PrivacyReport:
    given: dict[str, object] = {
        "schema_version": 1,
        "run": RUN,
        "guarantee": replace(promise.guarantee(UNITS[unit], DELTA), cap_per_person=cap),
        "mechanism": MECHANISM,
        "accounting": ACCOUNTING,
        "touches": touches(),
        "evidence": EVIDENCE,
        "not_covered": promise.NOT_COVERED,
    }
    return concluded(ReportInputs(**{**given, **parts}))  # type: ignore[arg-type]


def simulation() -> PrivacyReport:
    """Twelve phantom hospitals, record level, seeded noise."""
    mus = [0.75 + 0.05 * i for i in range(12)]
    found = [hospital(f"phantom-{i:02}", mu) for i, mu in enumerate(mus, 1)]
    return report(hospitals=tuple(found), accounting=crossed(found[-1]))


def unprotected() -> PrivacyReport:
    """No mechanism: nothing is protected."""
    bare = [
        replace(
            hospital(f"phantom-{i:02}", 1.0),
            mu=inf,
            spent=AtDelta(DELTA, inf),
            this_run=inf,
            epsilons=tuple(AtDelta(delta, inf) for delta in STANDARD_DELTAS),
            budget=None,
            ledger=None,
            history=(),
        )
        for i in range(1, 13)
    ]
    mechanism = replace(
        MECHANISM,
        name="none",
        words="Updates leave as they are.",
        sums=(),
        noise_source=None,
        floating_point=None,
    )
    accounting = replace(ACCOUNTING, method="none: there is nothing to count")
    return report(
        "none",
        None,
        hospitals=tuple(bare),
        mechanism=mechanism,
        accounting=accounting,
        touches=tuple(
            replace(touch, covered="no", words="Used without any protection.")
            if touch.covered == "yes"
            else touch
            for touch in touches()
        ),
        evidence=replace(EVIDENCE, audit=None),
    )


def troubled() -> PrivacyReport:
    """Over budget, a broken chain, a ledger that went back, refusals, a hostile name."""
    runs = (("pilot", 0, 6), ("ward study", 9, 11))
    good = [hospital(name, 1.1, 1800, runs) for name in ("St. Anna Hospital", HOSTILE)]
    over = hospital("Universitätsklinikum am Nordufer", 1.9, 2400, runs)
    name = "Hôpital de la Rivière"
    chain = "entry 41: its hash is not the one that entry 42 names"
    broken = replace(ledger(name), chain="broken", faults=(chain,), high_water="went back")
    refusing = replace(
        hospital("County General", 0.3, 90, (("pilot", 0, 2), ("ward study", 9, 1))),
        participations=1,
        refusals=(RefusalCount("budget-spent", 9), RefusalCount("policy-steps", 2)),
    )
    found = (*good, over, replace(hospital(name, 1.2, 700, runs), ledger=broken), refusing)
    return report(
        "patient",
        1,
        run=replace(DEPLOYED, rounds=11, status="stopped", name="ward study"),
        hospitals=found,
        mechanism=replace(MECHANISM, noise_source="operating system"),
        evidence=replace(EVIDENCE, audit=replace(AUDIT, mu_lower=1.6)),
    )


def many() -> PrivacyReport:
    """Two hundred hospitals."""
    found = [
        hospital(f"clinic-{i:03}", 0.4 + (i * 37 % 200) / 180, 60 + i * 53 % 900)
        for i in range(1, 201)
    ]
    return report(hospitals=tuple(found))


DEPLOYED = replace(
    RUN,
    name="ecg-two-sites",
    id="8121750031882",
    seed=None,
    setting="deployment",
    evaluation_hospitals=1,
    signed_answers=None,
)


def deployment() -> PrivacyReport:
    """Two hospitals, noise from the operating system, four runs over a year, no audit yet."""
    runs = (("pilot", 0, 4), ("spring", 60, 8), ("summer", 170, 8), ("ecg-two-sites", 300, 10))
    found = (
        hospital("St. Anna Hospital", 0.719, 5200, runs),
        hospital("Universitätsklinikum am Nordufer", 1.05, 11840, runs),
    )
    run = replace(DEPLOYED, started=time(300), finished=time(300.3), rounds=10, rounds_planned=10)
    return report(
        "patient",
        1,
        run=run,
        hospitals=found,
        mechanism=replace(MECHANISM, noise_source="operating system"),
        accounting=crossed(found[0]),
        evidence=replace(EVIDENCE, audit=None),
    )


EXAMPLES: Mapping[str, Callable[[], PrivacyReport]] = {
    "simulation": simulation,
    "unprotected": unprotected,
    "troubled": troubled,
    "many": many,
    "deployment": deployment,
}
