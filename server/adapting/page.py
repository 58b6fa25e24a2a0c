"""report.html of an adaptation: what it gains, class by class, and whether the model may leave.

One page without a script that loads nothing, made like that of a run (``server.page``).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from metaward.client.scores.classes import BINS
from metaward.privacy.report.templates import environment
from metaward.server.adapting.adapt import AdaptedRun
from metaward.server.adapting.card import SECRET, with_range
from metaward.server.adapting.promise import NOT_COVERED, budget_words, mechanism_words
from metaward.server.adapting.report import (
    AGAIN,
    STAYS,
    cells,
    gap_cells,
    legend,
    written,
)
from metaward.server.adapting.saved import MODEL
from metaward.server.folder import now
from metaward.server.page.plot import Plot, Series, over_sizes
from metaward.server.page.ways import Scale, Way, Ways
from metaward.server.page.write import HERE, STYLES

TEMPLATE = "adapted.html.md"
TINTS = 10
"""The steps of shading in the confusion matrix; the style sheet has as many."""
FEW = 12
"""The most classes whose confusion matrix is shown as a table; the picture has all."""


@dataclass(frozen=True)
class ClassRow:
    """A class: how many records it has, which share of those that judged was recognised, which
    share of the predictions of it was right (None: it was never predicted), and what it is taken
    for most often where it is not recognised."""

    name: str
    records: int
    recognised: float
    right: float | None
    mistaken: str


@dataclass(frozen=True)
class ShadedCell:
    """A cell of the confusion matrix: the share of the true class in per cent, and its shade."""

    percent: float
    tint: int
    own: bool


@dataclass(frozen=True)
class Bin:
    """A bin of probabilities in the reliability picture, in per cent of its sides; ``confidence``
    and ``share`` are the mean probability and the share of its ``count`` that is right."""

    left: float
    share: float
    confidence: float
    count: int


def page(made: AdaptedRun, absent: Mapping[str, str]) -> str:
    """The page as HTML; ``absent`` says of each file that is not there why."""
    style = "\n".join(one.read_text(encoding="utf-8") for one in (*STYLES, HERE / "adapted.css.md"))
    return (
        environment(HERE, escape=True)
        .get_template(TEMPLATE)
        .render(
            **_told(made),
            **_shown(made),
            absent=absent,
            style=Markup(style),
            style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        )
    )


def _told(made: AdaptedRun) -> dict[str, Any]:
    """What is said in words."""
    pledge = made.pledge
    return {
        "run": made.finished.run.name,
        "run_id": made.about.origin.run,
        "run_claim": made.about.origin.privacy,
        "ward": made.held.folder.resolve().name,
        "held": made.held,
        "wish": made.wish,
        "made": now(),
        "pledge": pledge,
        "claim": pledge.claim if pledge else SECRET,
        "budget": budget_words(pledge) if pledge else "",
        "mechanism": [*mechanism_words(pledge)] if pledge else [],
        "not_covered": NOT_COVERED,
        "stays": STAYS,
        "again": AGAIN,
        "model": MODEL,
        "legend": [*legend(made)],
        "written": written(made),
    }


def _shown(made: AdaptedRun) -> dict[str, Any]:
    """What is shown in numbers."""
    verdict, scores = made.verdict, made.scores
    return {
        "scores": scores,
        "rows": [cells(row, scores) for row in verdict.rows],
        "gaps": [gap_cells(row, scores) for row in verdict.rows[1:]],
        "best": verdict.rows[0],
        "main": scores[0],
        "with_range": with_range,
        "verdict": verdict,
        "ways": ways_of_rows(made),
        "classes": class_rows(made),
        "matrix": matrix(made) if len(made.held.classes) <= FEW else [],
        "bins": bins(made),
        "curve": curve_plot(made),
    }


def ways_of_rows(made: AdaptedRun) -> Ways:
    """The first score of each way with its range; the first one also from before its steps."""
    score, rows = made.scores[0], made.verdict.rows
    found = [row.scores[score.name] for row in rows]
    scale = Scale.over(score, (v for one in found for v in (one.mean, one.low, one.high)))
    before = next(one for row, one in zip(rows, found, strict=True) if row.name == made.before)
    ways = [
        Way(
            learner=row.name,
            before=score.text(before.mean) if place == 0 else "",
            after=score.text(one.mean),
            start=scale.place(before.mean) if place == 0 else None,
            end=scale.place(one.mean),
            left=scale.place(one.low),
            right=scale.place(one.high),
        )
        for place, (row, one) in enumerate(zip(rows, found, strict=True))
    ]
    return scale.named("this hospital", ways)


def class_rows(made: AdaptedRun) -> list[ClassRow]:
    """Each class by the pooled predictions of all splits."""
    found, names = made.verdict.confusion, made.held.classes
    counts, rows = made.held.counts(), []
    for k, name in enumerate(names):
        wrong = found[k].copy()
        wrong[k] = 0
        taken, times = names[int(wrong.argmax())], int(wrong.max())
        share = 100 * times / found[k].sum()
        predicted = found[:, k].sum()
        rows.append(
            ClassRow(
                name=name,
                records=counts[k],
                recognised=100 * found[k, k] / found[k].sum(),
                right=100 * found[k, k] / predicted if predicted else None,
                mistaken=f"{taken} ({share:.0f} %)" if times else "",
            )
        )
    return rows


def matrix(made: AdaptedRun) -> list[tuple[str, list[ShadedCell]]]:
    """The confusion matrix, a row for each true class."""
    found = made.verdict.confusion
    share = 100 * found / found.sum(axis=1, keepdims=True)
    return [
        (name, [_cell(p, k == j) for j, p in enumerate(share[k].tolist())])
        for k, name in enumerate(made.held.classes)
    ]


def _cell(percent: float, own: bool) -> ShadedCell:
    return ShadedCell(percent, min(TINTS - 1, int(percent * TINTS / 100)), own)


def bins(made: AdaptedRun) -> list[Bin]:
    """The bins of the reliability picture that hold a prediction."""
    found = made.verdict.reliability
    counts: list[int] = found.counts.tolist()
    return [
        Bin(
            left=round(100 * k / BINS, 2),
            share=round(100 * float(found.right[k]), 2),
            confidence=round(100 * float(found.confidence[k]), 2),
            count=count,
        )
        for k, count in enumerate(counts)
        if count
    ]


def curve_plot(made: AdaptedRun) -> Plot | None:
    """The score over shots, on a scale of steps; None where there is no curve."""
    score = made.scores[0]
    lines = [
        Series(
            one.name,
            one.shots,
            [score.scale * s.mean for s in one.spreads],
            [score.scale * s.low for s in one.spreads],
            [score.scale * s.high for s in one.spreads],
        )
        for one in made.curves
    ]
    title = "Score over the records of each class"
    return over_sizes(title, score.label, lines, score.digits, "records of each class")
