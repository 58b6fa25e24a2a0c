"""The privacy report as one HTML page: no script, nothing loaded, prints to A4."""

from __future__ import annotations

import base64
import hashlib
import math
from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from metaward.privacy.report import chart as picture
from metaward.privacy.report import show
from metaward.privacy.report.facts import PrivacyReport
from metaward.privacy.report.glossary import GLOSSARY
from metaward.privacy.report.parts import STANDARD_DELTAS, Hospital, Refusal
from metaward.privacy.report.style import STYLE
from metaward.privacy.report.template import CHART, TEMPLATE
from metaward.privacy.report.verdict import Risk
from metaward.privacy.rounding import percent_up, rounded_up

MOST_ROWS = 15
SHORT_ROWS = 10
"""With more than ``MOST_ROWS`` hospitals, tables show ``SHORT_ROWS`` and an annex shows all."""

GAUGE = 100.0


@dataclass(frozen=True)
class Row:
    """A hospital and its risk; ``used`` is the share of its budget in percent."""

    hospital: Hospital
    risk: Risk

    @property
    def used(self) -> int | None:
        """Rounded up; None where there is no budget or no end to what was spent."""
        budget, spent = self.hospital.budget, self.hospital.spent.epsilon
        if budget is None or math.isinf(spent):
            return None
        return int(rounded_up(100 * spent / budget, 0))

    @property
    def epsilons(self) -> list[float]:
        """At the standard deltas."""
        found = {at.delta: at.epsilon for at in self.hospital.epsilons}
        return [found[delta] for delta in STANDARD_DELTAS]

    @property
    def urgency(self) -> tuple[bool, float]:
        """Faults first, then the most spent."""
        ledger = self.hospital.ledger
        faulty = ledger is not None and (bool(ledger.faults) or ledger.high_water == "went back")
        return (not (faulty or self.risk.over_budget), -self.hospital.spent.epsilon)


def page(report: PrivacyReport) -> str:
    """One self-contained HTML file. Its policy lets a browser use its own style sheet only."""
    digest = hashlib.sha256(STYLE.encode()).digest()
    return (
        _environment()
        .from_string(TEMPLATE)
        .render(
            r=report,
            v=view(report),
            glossary=GLOSSARY,
            style=Markup(STYLE),
            style_hash=base64.b64encode(digest).decode(),
        )
    )


def view(report: PrivacyReport) -> dict[str, Any]:
    """What the template shows beside the facts themselves."""
    pairs = zip(report.hospitals, report.risks, strict=True)
    rows = sorted((Row(*pair) for pair in pairs), key=lambda row: row.urgency)
    shown = rows if len(rows) <= MOST_ROWS else rows[:SHORT_ROWS]
    spent = [row.hospital.spent.epsilon for row in rows]
    lefts = [row.risk.left for row in rows if row.risk.left is not None]
    return {
        "rows": rows,
        "shown": shown,
        "median": median(spent),
        "least": min(spent),
        "least_left": min(lefts, default=None),
        "cut": "" if len(shown) == len(rows) else f" of the {len(shown)} hospitals shown above",
        "together": (1 + report.federation.advantage_together) / 2,
        "gauge": round(GAUGE * (2 * report.verdict.attack_accuracy - 1), 1),
        "chart": _chart(report),
        "refusals": _refusals(report),
        "deltas": STANDARD_DELTAS,
        **_sentences(report),
    }


def _sentences(report: PrivacyReport) -> dict[str, str]:
    unit = report.unit
    delta = show.show_small(report.guarantee.delta)
    caption = f"Epsilon at delta {delta}: this run, and all that was spent, against the budget"
    return {
        "together_who": unit.person if len(report.hospitals) > 1 else "",
        "counted": _counted(report),
        "unit": unit.counted,
        "units": unit.plural,
        "spent_caption": caption,
        "annex_caption": f"{caption}; all hospitals, the most urgent first",
        "budgets": _budgets(report),
        **_ledgers(report),
        "noise": _noise(report),
        "adaptive": _adaptive(report),
        "cross_check": _cross_check(report),
        "audit": _audit(report),
    }


def _counted(report: PrivacyReport) -> str:
    alone = [h.name for h in report.hospitals if h.counted_from == "run"]
    if not alone:
        return "What was spent is read from the hospitals' ledgers and covers all their runs."
    if len(alone) == len(report.hospitals):
        return "What was spent is counted for this run alone; earlier runs are not known here."
    return f"For {', '.join(alone)} earlier runs are not known here, for the others all count."


def _budgets(report: PrivacyReport) -> str:
    found = sorted({h.budget for h in report.hospitals if h.budget is not None})
    if not found:
        return "none"
    low, high = show.show_budget(found[0]), show.show_budget(found[-1])
    return low if low == high else f"{low} to {high}"


def _ledgers(report: PrivacyReport) -> dict[str, str]:
    found = [hospital.ledger for hospital in report.hospitals]
    states = ["none" if ledger is None else ledger.chain for ledger in found]
    words = {"broken": "broken", "not checked": "not checked", "none": "without one"}
    rest = [f"{states.count(s)} {text}" for s, text in words.items() if s in states]
    return {
        "verified": str(states.count("verified")),
        "ledgers": ", ".join(rest) or "every chain recomputed",
    }


def _refusals(report: PrivacyReport) -> list[tuple[str, Refusal]]:
    return [(h.name, refusal) for h in report.hospitals for refusal in h.refusals]


def _noise(report: PrivacyReport) -> str:
    return {
        None: "no noise is added",
        "operating system": "the operating system's entropy; it cannot be drawn again",
        "seeded": "a seed, in simulation only: whoever knows the seed can take the noise away",
    }[report.mechanism.noise_source]


def _adaptive(report: PrivacyReport) -> str:
    held = "yes: the account is a privacy filter and holds for what is chosen during the run"
    return held if report.accounting.adaptive else "no: it holds for what was fixed in advance"


def _cross_check(report: PrivacyReport) -> str:
    check = report.accounting.cross_check
    if check is None:
        return "not done"
    return (
        f"{check.method}, for {check.hospital}: {check.epsilon:.4f} against {check.reported:.4f} "
        f"({100 * check.relative_difference:+.2f} %)"
    )


def _audit(report: PrivacyReport) -> str:
    audit = report.evidence.audit
    if audit is None:
        return "not done"
    faults = "; ".join(audit.faults) or "none"
    return (
        f"{show.show_time(audit.at)}: the attack proved a loss of mu {audit.mu_lower:.3f} "
        f"(at {100 * audit.confidence:g} % confidence); claimed is {audit.mu_claimed:.3f}. "
        f"Faults in the noise's structure: {faults}."
    )


def _chart(report: PrivacyReport) -> Markup | None:
    found = picture.chart(report.hospitals)
    if found is None:
        return None
    text = (
        _environment()
        .from_string(CHART)
        .render(
            c=found,
            width=picture.WIDTH,
            height=picture.HEIGHT,
            left=picture.LEFT,
            right=picture.RIGHT,
            top=picture.TOP,
            bottom=picture.BOTTOM,
        )
    )
    return Markup(text)


@cache
def _environment() -> Environment:
    found = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found.filters |= {
        "loss": show.show_loss,
        "left": show.show_left,
        "budget": show.show_budget,
        "count": show.show_count,
        "number": show.show_number,
        "small": show.show_small,
        "time": show.show_time,
        "percent_up": lambda share: show.tight(percent_up(share)),
        "tight": show.tight,
        "first_upper": lambda text: text[:1].upper() + text[1:],
    }
    return found
