"""The card of an adapted model: what it is for, what it was fitted to, and what it gives away."""

from __future__ import annotations

from collections.abc import Iterator

from metaward.client.tasks.kinds import Score
from metaward.server.adapting.adapt import AdaptedRun
from metaward.server.adapting.judge import Spread
from metaward.server.adapting.promise import (
    NOT_COVERED,
    Pledge,
    budget_words,
    mechanism_words,
)

SECRET = (
    "The model was fitted to this hospital's records without any protection. It can give away "
    "something about them: handle it like the records themselves, and share it only where these "
    "may be shared. Nothing was sent anywhere."
)


def card(made: AdaptedRun) -> str:
    """The text of model-card.md; of a model that may be published it says nothing that a record
    has touched without noise."""
    title = f"# Model card: {made.about.origin.name}, adapted to {_place(made)}"
    lines = [title, "", *(f"- {point}" for point in _points(made))]
    if made.pledge is not None:
        lines += ["", *_promise(made.pledge)]
    return "\n".join([*lines, ""])


def _place(made: AdaptedRun) -> str:
    return made.held.folder.resolve().name


def _points(made: AdaptedRun) -> Iterator[str]:
    about, origin = made.about, made.about.origin
    shape, classes = ", ".join(map(str, about.input_shape)), ", ".join(about.classes)
    yield f"Tells apart: {classes}."
    yield f"Input: records ({shape}) float32. {about.preparation}"
    yield (
        "Output: a number for each class, in the order above; their softmax are the probabilities."
    )
    yield (
        f"Comes from: run {origin.run} ({origin.name}). What it claims about its own hospitals: "
        f"{origin.privacy}"
    )
    yield f"Fitted to: {len(made.rows)} records of this hospital, in {made.wish.steps} steps."
    yield from _judged(made)
    yield "Not judged: at any other hospital, on other devices, or later in time."
    yield "Not meant for: decisions about a patient; it is no medical device."
    if made.pledge is None:
        yield f"Privacy: {SECRET}"


def _judged(made: AdaptedRun) -> Iterator[str]:
    if made.pledge is not None:
        yield "Judged: by the hospital alone; scores on its records are exact and stay there."
        return
    first = made.verdict.rows[0]
    scores = (f"{s.label} {with_range(s, first.scores[s.name])}" for s in made.scores)
    yield (
        f"Judged on {made.wish.draws} splits of this hospital's records, in the mean and the range "
        f"of 95 % of the splits: {'; '.join(scores)}."
    )


def _promise(pledge: Pledge) -> Iterator[str]:
    """What is promised, how, what it cost, and what is not covered."""
    yield from ("## Privacy", "", f"{pledge.claim} {pledge.unit.neighbours}", "")
    yield from (budget_words(pledge), "")
    yield from (f"- {text}" for text in mechanism_words(pledge))
    trained = ", ".join(pledge.trained)
    yield f"- Gradients train: {trained}. All else of the network is the run's own."
    yield from ("", "Known to everybody, hence protected by nothing:", "")
    yield from (f"- {text}" for text in pledge.exposed)
    yield from ("", "Not covered:", "")
    yield from (f"- {text}" for text in NOT_COVERED)


def with_range(score: Score, spread: Spread) -> str:
    """A score's mean and, in brackets, its range."""
    return f"{score.text(spread.mean)} [{score.text(spread.low)}, {score.text(spread.high)}]"
