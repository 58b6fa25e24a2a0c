"""The report of an adaptation for people and for programs, and the model's card."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any

from metaward.client.scores.classes import BINS
from metaward.client.tasks.kinds import Score
from metaward.server.adapting.adapt import AdaptedRun
from metaward.server.adapting.card import SECRET, with_range
from metaward.server.adapting.judge import MIDDLE, Row
from metaward.server.adapting.promise import NOT_COVERED, Pledge, budget_words, mechanism_words
from metaward.server.adapting.records import Labelled
from metaward.server.adapting.saved import MODEL

STAYS = (
    "Everything else stays at the hospital: scores on its records are exact, and no epsilon covers "
    "them."
)
AGAIN = "An earlier call of the same command had paid for it; this one cost nothing."
EACH = (
    "Each row with an epsilon has that epsilon for itself, and noise of its own in every split. "
    "None of the judged models leaves, so nothing is charged for them. Rows without an epsilon are "
    "exact and could not be published."
)


def plain_report(made: AdaptedRun, absent: dict[str, str]) -> dict[str, Any]:
    """What adapt.json holds; ``absent`` says of each file that is not there why."""
    held, found, wish = made.held, made.verdict, made.wish
    bins = {key: values.tolist() for key, values in found.reliability._asdict().items()}
    return {
        "run": made.about.origin,
        "shots": wish.shots or "all",
        "steps": wish.steps,
        "draws": wish.draws,
        "seed": wish.seed,
        "specificity": wish.specificity,
        "interval": f"percentiles {MIDDLE[0]:g} and {MIDDLE[1]:g} of the splits",
        "classes": dict(zip(held.classes, held.counts(), strict=True)),
        "patients": held.patient_count(),
        "mean_support": found.support,
        "mean_judges": found.judges,
        "fitted_to": len(made.rows),
        "rows": found.rows,
        "curves": made.curves,
        "reliability": {"bins": BINS, **bins},
        "confusion": found.confusion.tolist(),
        "privacy": plain_pledge(made.pledge),
        "absent": absent,
    }


def plain_pledge(pledge: Pledge | None) -> dict[str, Any] | None:
    """The pledge for programs, as JSON has it; None for a model that is not to be published."""
    if pledge is None:
        return None
    values = {f.name: getattr(pledge, f.name) for f in fields(pledge)}
    return values | {"unit": pledge.unit.name, "claim": pledge.claim, "not_covered": NOT_COVERED}


def cells(row: Row, scores: tuple[Score, ...]) -> list[str]:
    """A way's name, and the mean and interval of each score."""
    return [row.name, *(with_range(score, row.scores[score.name]) for score in scores)]


def gap_cells(row: Row, scores: tuple[Score, ...]) -> list[str]:
    """By how much the adapted learner is better than this way, with the interval."""
    assert row.gap is not None
    gaps = (row.gap[score.name] for score in scores)
    return [
        row.name,
        *(
            f"{s.signed(gap.mean)} [{s.signed(gap.low)}, {s.signed(gap.high)}]"
            for s, gap in zip(scores, gaps, strict=True)
        ),
    ]


def legend(made: AdaptedRun) -> Iterator[str]:
    """What the numbers mean, a sentence or two each."""
    found, wish = made.verdict, made.wish
    if made.pledge is not None:
        yield EACH
    size = f"{wish.shots} records of each class" if wish.shots else "all records but a fifth"
    yield (
        f"Each number is the mean over {wish.draws} random splits of this hospital's records, and "
        "in brackets the range in which 95 % of the splits lie (percentiles "
        f"{MIDDLE[0]:g} to {MIDDLE[1]:g}). The range says how much depends on which records are "
        "used here. It is no confidence interval of the mean, because splits share records, and "
        "it says nothing about another hospital."
    )
    yield (
        f"In a split a model is adapted to {size} ({found.support:.1f} records in the mean) and "
        f"judged on records of other patients ({found.judges:.1f}). No patient is on both sides. A "
        "prediction uses no other judging record."
    )
    yield from _of_scores(wish.specificity)


def _of_scores(specificity: float) -> Iterator[str]:
    yield (
        "AUROC, sensitivity and the balanced score are means over the classes, each against all "
        f"others. The sensitivity is the highest one at specificity {specificity:g} or more; its "
        "threshold is chosen on the judging records, so it is a little too good."
    )
    yield (
        "ECE compares the highest probability of a record with the share that is right in "
        f"{BINS} bins of equal width; the Brier score is the squared distance of the "
        "probabilities from the truth, 0 to 2. Of both, less is better. For nearest centroid, "
        "probabilities are the softmax of minus the distances, which nobody has calibrated."
    )
    yield (
        '"before" takes no gradient step; a learner that builds its head from class means has '
        "seen the support records even then."
    )


def markdown(made: AdaptedRun, absent: dict[str, str]) -> str:
    """The text of report.md."""
    lines = [
        f"# {made.finished.run.name}, adapted to {made.held.folder.resolve().name}",
        "",
        *_verdict(made),
        "![Reliability](reliability.png)",
        "",
        "![Confusion matrix](confusion.png)",
        "",
        *_records(made.held),
        "## The model that was written",
        "",
        written(made),
        "",
        *_privacy(made),
        *(f"- {name} is not there: {why}." for name, why in absent.items()),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _verdict(made: AdaptedRun) -> list[str]:
    labels, rows = [score.label for score in made.scores], made.verdict.rows
    return [
        *_table(["", *labels], [cells(row, made.scores) for row in rows]),
        f"By how much {rows[0].name} is better, in the same splits:",
        "",
        *_table(["than", *labels], [gap_cells(row, made.scores) for row in rows[1:]]),
        *(f"- {text}" for text in legend(made)),
        "",
    ]


def _records(held: Labelled) -> list[str]:
    counts = zip(held.classes, map(str, held.counts()), strict=True)
    left_out = f" Left out: {held.left_out}." if held.left_out else ""
    return [
        "## The records",
        "",
        *_table(["class", "records"], counts),
        f"{len(held.y)} records of {held.patient_count()} patients.{left_out}",
        "",
    ]


def _privacy(made: AdaptedRun) -> list[str]:
    """What the model gives away, and where it may go."""
    if made.pledge is None:
        return [SECRET, ""]
    return [
        "## Privacy",
        "",
        f"The folder `{MODEL}` may be published. {STAYS}",
        "",
        made.pledge.claim,
        "",
        budget_words(made.pledge),
        f"It is charged in entry {made.pledge.entry} of ledger {made.pledge.ledger}. {_paid(made)}",
        "",
        *(f"- {text}" for text in mechanism_words(made.pledge)),
        "",
        "Not covered:",
        "",
        *(f"- {text}" for text in NOT_COVERED),
        "",
    ]


def _paid(made: AdaptedRun) -> str:
    assert made.pledge is not None
    return AGAIN if made.pledge.again else "The same command again gives the same model."


def written(made: AdaptedRun) -> str:
    """To which records the model that is written was fitted."""
    if made.wish.shots:
        which = "the support of the first split; it has seen no record of another patient"
    else:
        which = "all there are; the scores above are those of models with about a fifth fewer"
    return f"It is fitted to {len(made.rows)} records, {which}; {made.wish.steps} steps."


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table in Markdown and an empty line after it."""
    cells = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return [*(f"| {' | '.join(map(_cell, row))} |" for row in cells), ""]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
