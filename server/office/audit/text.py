"""An audit as a privacy officer reads it: what was attacked, what came out, what it proves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from metaward.client.desk import LEARNER
from metaward.privacy.audit import AuditReport
from metaward.privacy.audit.verdict import checks
from metaward.privacy.report.numbers import show_loss
from metaward.server.terminal import BAD, GOOD, Piece, line, table
from metaward.sim import Sim

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
    rows = [
        (c.what, c.measured, c.wanted, line("FAULT", BAD) if c.code else line("ok", "green"))
        for c in checks(report)
    ]
    return table(("check", "measured", "should be", ""), rows)
