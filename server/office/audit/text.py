"""An audit as a privacy officer reads it: what was attacked, what came out, what it proves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from metaward.client.desk import LEARNER
from metaward.privacy.audit import AuditReport
from metaward.privacy.audit.verdict import LEVEL, MIXED, ROUNDING, SLACK, WHERE
from metaward.privacy.report.numbers import show_loss
from metaward.server.office.text import Parts, grid
from metaward.sim import Sim

NOTHING = (
    "none protects nothing, so there is nothing to attack; choose another with --set "
    "'privacy={mechanism: record}' (or patient, task, hospital) --set client.schedule=passes"
)
PROVES = (
    "The bound is what this attack could prove; the claim is what no attack can exceed, by the "
    "mechanism's proof. A bound near the claim says that the claim is not loose; one above it "
    "would say that the code is wrong. An audit finds mistakes; it cannot prove there are none."
)


def audited(found: AuditReport, run: Sim, times: int, kept: Sequence[Path]) -> Parts:
    """The whole page."""
    parts: Parts = [_attacked(found, run, times), _bound(found), _checks(found)]
    parts += [Text(f"FAULT ({f.code}): {f.text}", style="bold red") for f in found.faults]
    parts += [verdict(found), PROVES]
    return [*parts, *(str(path) for path in kept)]


def verdict(found: AuditReport) -> RenderableType:
    """One line, in colour."""
    if found.sound:
        return Text("SOUND. No check found a fault.", style="bold green")
    return Text(f"NOT SOUND. {len(found.faults)} faults.", style="bold red")


def _attacked(found: AuditReport, run: Sim, times: int) -> str:
    learner = str(LEARNER.plain(run.client.inner)["algorithm"])
    rounds = f"{found.rounds} of the {times} rounds" if times > found.rounds else "all rounds"
    sums = ", ".join(f"{kind} {sigma:.4g}" for kind, sigma in found.noise_multipliers.items())
    return (
        f"Attacked: mechanism {found.mechanism} with learner {learner}; {rounds} that a "
        f"{found.unit} takes part in, {found.lives} times over,\n"
        f"each time with {found.canaries} made-up units to be found, half of them present: "
        f"{found.sums} noisy sums. Noise multipliers: {sums}.\n"
        f"Noise: {found.noise_source}."
    )


def _bound(found: AuditReport) -> Table:
    table = grid("", "mu", f"epsilon at delta {found.delta:g}")
    table.add_row("claimed for these rounds", *_losses(found.claimed_mu, found.claimed_epsilon))
    confidence = f"proved by the attack (wrong once in {1 / (1 - found.confidence):,.0f} audits)"
    table.add_row(confidence, *_losses(found.mu_lower, found.epsilon_lower))
    table.add_row("share of the claim", f"{100 * found.tightness:.0f} %", "")
    table.add_row(
        "proved whatever shape the noise has",
        *_losses(found.mu_lower_any, found.epsilon_lower_any),
    )
    return table


def _losses(mu: float, epsilon: float) -> tuple[str, str]:
    return show_loss(mu), show_loss(epsilon)


def _checks(found: AuditReport) -> Table:
    table = grid("check", "measured", "should be", "")
    for name, measured, wanted, good in checks(found):
        mark = Text("ok", style="green") if good else Text("FAULT", style="bold red")
        table.add_row(name, measured, wanted, mark)
    return table


def checks(found: AuditReport) -> Iterator[tuple[str, str, str, bool]]:
    """(what, measured, wanted, whether it is so), as ``privacy.audit.verdict`` judges."""
    codes = {fault.code for fault in found.faults}
    for kind, norm in found.sensitivity.items():
        good = 1 - SLACK <= norm <= 1 + ROUNDING
        yield f"one unit moves a {kind} sum by", f"{norm:.4f} C", "1 C, no more", good
    for kind, norm in found.extreme.items():
        name = f"records of 1e30, infinity, NaN move a {kind} sum by"
        yield name, f"{norm:.4g} C", "at most 1 C", norm <= 1 + ROUNDING
    least = found.smallest_noise
    good = not codes & {"noise-too-small", "noise-too-large"}
    where = f"least noise, on {least.layer} of {least.kind} sums"
    yield where, f"{least.ratio:.4f} ({least.low:.3f} to {least.high:.3f})", "1", good
    for one in found.correlations:
        name = f"noise of {WHERE[one.between]} agrees by ({one.pairs:,} pairs)"
        yield name, f"{one.largest:.4f}", "chance", one.p >= LEVEL
    yield (
        "noise is Gaussian, p",
        f"{found.gaussian_p:.3g}",
        f"above {LEVEL:g}",
        (found.gaussian_p >= LEVEL),
    )
    if found.mixing is not None:
        good = found.mixing <= MIXED
        yield "other records move a record's output by", f"{found.mixing:.2g}", "nothing", good
