"""The privacy report as one HTML page: no script, nothing loaded, prints to A4."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from markupsafe import Markup

from metaward.privacy.report.chart import chart
from metaward.privacy.report.document import PrivacyReport
from metaward.privacy.report.sections import TrainingHospital
from metaward.privacy.report.templates import FOLDER, environment
from metaward.privacy.report.values import STANDARD_DELTAS
from metaward.privacy.report.verdict import Risk, unseen

PAGE, STYLE = "page.html.md", "page.css.md"


def page(report: PrivacyReport) -> str:
    """One self-contained HTML file. Its policy lets a browser use its own style sheet only."""
    style = (FOLDER / STYLE).read_text(encoding="utf-8")
    return (
        environment(escape=True)
        .get_template(PAGE)
        .render(
            report=report,
            rows=sorted(zip(report.hospitals, report.risks, strict=True), key=_urgency),
            deltas=STANDARD_DELTAS,
            let_in=let_in(report.hospitals),
            unseen=unseen(report),
            chart=chart(report.hospitals),
            style=Markup(style),
            style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        )
    )


def let_in(hospitals: Sequence[TrainingHospital]) -> dict[str, list[str]]:
    """Each bundle of code that ledgers name, and the hospitals whose gates let it in."""
    found: dict[str, list[str]] = {}
    for hospital in hospitals:
        for bundle in hospital.code:
            found.setdefault(bundle, []).append(hospital.name)
    return found


def _urgency(row: tuple[TrainingHospital, Risk]) -> tuple[bool, float]:
    """Hospitals with a fault come first, then those that spent most."""
    hospital, risk = row
    ledger = hospital.ledger
    faulty = ledger is not None and (bool(ledger.faults) or ledger.high_water == "went back")
    return (not (faulty or risk.over_budget), -hospital.spent.epsilon)
