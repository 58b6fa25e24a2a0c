"""The privacy report as one HTML page: no script, nothing loaded, prints to A4.

The page and its style sheet are files beside this one. They end in ``.md`` because Flower's app
bundles carry no .html and no .css, and the page must also be made inside a bundle.
"""

from __future__ import annotations

import base64
import hashlib
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from metaward.privacy.report import numbers
from metaward.privacy.report.chart import chart
from metaward.privacy.report.document import PrivacyReport
from metaward.privacy.report.hospitals import TrainingHospital
from metaward.privacy.report.values import STANDARD_DELTAS
from metaward.privacy.report.verdict import Risk
from metaward.privacy.rounding import percent_up, rounded_up

FOLDER = Path(__file__).parent
PAGE, STYLE = "page.html.md", "page.css.md"
MOST_ROWS = 15
SHORT_ROWS = 10
"""With more than ``MOST_ROWS`` hospitals, tables show ``SHORT_ROWS`` and an annex shows all."""


@dataclass(frozen=True)
class HospitalRow:
    """A hospital and its risk."""

    hospital: TrainingHospital
    risk: Risk

    @property
    def used(self) -> int | None:
        """The share of its budget in percent, rounded up; None where either has no end."""
        budget, spent = self.hospital.budget, self.hospital.spent.epsilon
        if budget is None or math.isinf(spent):
            return None
        return int(rounded_up(100 * spent / budget, 0))

    @property
    def urgency(self) -> tuple[bool, float]:
        """Faults first, then the most spent."""
        ledger = self.hospital.ledger
        faulty = ledger is not None and (bool(ledger.faults) or ledger.high_water == "went back")
        return (not (faulty or self.risk.over_budget), -self.hospital.spent.epsilon)


def page(report: PrivacyReport) -> str:
    """One self-contained HTML file. Its policy lets a browser use its own style sheet only."""
    style = (FOLDER / STYLE).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    template = _environment().get_template(PAGE)
    return template.render(style=Markup(style), style_hash=digest, **view(report))


def view(report: PrivacyReport) -> dict[str, Any]:
    """What the template shows: the report, and what is counted from it for the eye."""
    pairs = zip(report.hospitals, report.risks, strict=True)
    rows = sorted((HospitalRow(*pair) for pair in pairs), key=lambda row: row.urgency)
    spent = [row.hospital.spent.epsilon for row in rows]
    lefts = [row.risk.left for row in rows if row.risk.left is not None]
    ledgers = [hospital.ledger for hospital in report.hospitals]
    return {
        "report": report,
        "rows": rows,
        "shown": rows if len(rows) <= MOST_ROWS else rows[:SHORT_ROWS],
        "median": median(spent),
        "least": min(spent),
        "least_left": min(lefts, default=None),
        "budgets": sorted({h.budget for h in report.hospitals if h.budget is not None}),
        "chains": ["none" if ledger is None else ledger.chain for ledger in ledgers],
        "counted_alone": [h.name for h in report.hospitals if h.counted_from == "run"],
        "chart": chart(report.hospitals),
        "deltas": STANDARD_DELTAS,
        "unit": report.unit,
        "together_who": report.unit.person if len(report.hospitals) > 1 else "",
    }


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = {name: f for name, f in vars(numbers).items() if name.startswith("show_")}
    environment.filters |= shown | {
        "percent": lambda share: numbers.tight(percent_up(share)),
        "tight": numbers.tight,
        "first_upper": lambda text: text[:1].upper() + text[1:],
    }
    return environment
