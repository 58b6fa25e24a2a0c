"""An audit as a privacy officer reads it: what was attacked, what came out, what it proves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from metaward.client.desk import LEARNER
from metaward.privacy.audit import AuditReport
from metaward.privacy.audit.verdict import LEVEL, MIXED, ROUNDING, SLACK, WHERE
from metaward.privacy.report.numbers import show_loss
from metaward.server.terminal import BAD, GOOD, Piece, line, table
from metaward.sim import Sim

NOTHING = (
    "none protects nothing, so there is nothing to attack; choose another with --set "
    "'privacy={{mechanism: sums, unit: record}}' --set client.schedule=passes ({choices})"
)
PROVES = (
    "The bound is what this attack could prove; the claim is what no attack can exceed, by the "
    "mechanism's proof. A bound near the claim says that the claim is not loose; one above it "
    "would say that the code is wrong. An audit finds mistakes; it cannot prove there are none."
)


def audited(report: AuditReport, run: Sim, times: int, kept: Sequence[Path]) -> list[Piece]:
    """The whole page."""
    faults = [line(f"FAULT ({fault.code}): {fault.text}", BAD) for fault in report.faults]
    pieces = [_attacked(report, run, times), _bound(report), _checks(report), *faults]
    return [*pieces, _verdict(report), PROVES, *map(str, kept)]


def _verdict(report: AuditReport) -> Piece:
    if report.sound:
        return line("SOUND. No check found a fault.", GOOD)
    return line(f"NOT SOUND. {len(report.faults)} faults.", BAD)


def _attacked(report: AuditReport, run: Sim, times: int) -> str:
    learner = str(LEARNER.plain(run.client.inner)["algorithm"])
    rounds = f"{report.rounds} of the {times} rounds" if times > report.rounds else "all rounds"
    sums = ", ".join(f"{kind} {sigma:.4g}" for kind, sigma in report.noise_multipliers.items())
    return (
        f"Attacked: mechanism {report.mechanism}, unit {report.unit}, with learner {learner};\n"
        f"{rounds} that a unit takes part in, {report.lives} times over,\n"
        f"each time with {report.canaries} made-up units to be found, half of them present: "
        f"{report.sums} noisy sums. Noise multipliers: {sums}.\n"
        f"Noise: {report.noise_source}."
    )


def _bound(report: AuditReport) -> Piece:
    wrong = f"proved by the attack (wrong once in {1 / (1 - report.confidence):,.0f} audits)"
    losses = {
        "claimed for these rounds": (report.claimed_mu, report.claimed_epsilon),
        wrong: (report.mu_lower, report.epsilon_lower),
        "proved whatever shape the noise has": (report.mu_lower_any, report.epsilon_lower_any),
    }
    rows = [(name, show_loss(mu), show_loss(epsilon)) for name, (mu, epsilon) in losses.items()]
    rows.insert(2, ("share of the claim", f"{100 * report.tightness:.0f} %", ""))
    return table(("", "mu", f"epsilon at delta {report.delta:g}"), rows)


def _checks(report: AuditReport) -> Piece:
    marks = {True: line("ok", "green"), False: line("FAULT", BAD)}
    rows = [
        (name, measured, wanted, marks[good]) for name, measured, wanted, good in checks(report)
    ]
    return table(("check", "measured", "should be", ""), rows)


def checks(report: AuditReport) -> Iterator[tuple[str, str, str, bool]]:
    """(what, measured, wanted, whether it is so), as ``privacy.audit.verdict`` judges."""
    codes = {fault.code for fault in report.faults}
    for kind, norm in report.sensitivity.items():
        good = 1 - SLACK <= norm <= 1 + ROUNDING
        yield f"one unit moves a {kind} sum by", f"{norm:.4f} C", "1 C, no more", good
    for kind, norm in report.extreme.items():
        name = f"records of 1e30, infinity, NaN move a {kind} sum by"
        yield name, f"{norm:.4g} C", "at most 1 C", norm <= 1 + ROUNDING
    least = report.smallest_noise
    good = not codes & {"noise-too-small", "noise-too-large"}
    where = f"least noise, on {least.layer} of {least.kind} sums"
    yield where, f"{least.ratio:.4f} ({least.low:.3f} to {least.high:.3f})", "1", good
    for one in report.correlations:
        name = f"noise of {WHERE[one.between]} agrees by ({one.pairs:,} pairs)"
        yield name, f"{one.largest:.4f}", "chance", one.p >= LEVEL
    yield (
        "noise is Gaussian, p",
        f"{report.gaussian_p:.3g}",
        f"above {LEVEL:g}",
        (report.gaussian_p >= LEVEL),
    )
    if report.mixing is not None:
        good = report.mixing <= MIXED
        yield "other records move a record's output by", f"{report.mixing:.2g}", "nothing", good
