"""A plan as people read it: what is known, what it costs, whether it can work, what to change."""

from __future__ import annotations

from metaward.privacy.report.numbers import show_loss
from metaward.server.office.plan.plan import Planned
from metaward.server.terminal import BAD, GOOD, WARN, Piece, line, table, warning

COLOURS = {"cannot work": BAD, "doubtful": WARN, "can work": GOOD}
CAN = (
    "The noise leaves room to learn. No promise: a clip norm C far below what records have loses "
    "signal that no epsilon brings back, and no plan sees it."
)
CANNOT = "All rounds together move theta by noise more than by anything learned."
HARDLY = "The signal is hardly longer than the noise, even at best."
NO_BODY = "The noise leaves room to learn, but a body that is not trained learns little."


def planned(plan: Planned) -> list[Piece]:
    """All that is printed."""
    notes = [f"note: {note}" for note in plan.notes]
    if plan.ratio is None:
        return [warning(plan.claim), _known(plan), *plan.notes]
    pieces = [_known(plan), plan.claim, _sums(plan), _cost(plan), _ratio(plan), _verdict(plan)]
    return [*pieces, *notes, *([_suggestions(plan)] if plan.suggestions else [])]


def _known(p: Planned) -> str:
    return (
        f"mechanism {p.mechanism}, unit {p.unit}\n"
        f"{p.hospitals} training hospitals, {p.hospitals_per_round} in a round; "
        f"{p.records} records each, in {p.tasks_per_pass} tasks of {p.records_per_task}, "
        f"{p.tasks_per_round} of them a round\n"
        f"{_times(p.rounds, 'round')}: a unit takes part {_times(p.participations, 'time')} "
        "at most; "
        f"{p.coordinates} of {p.parameters} coordinates are trained"
    )


def _times(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _sums(plan: Planned) -> Piece:
    columns = ("sums of", "a round, each hospital", "vectors in all", "of a unit", "C", "sigma")
    rows = [
        (
            one.kind,
            one.sums,
            one.vectors,
            f"{one.count} a participation",
            f"{one.clip_norm:g}",
            f"{one.noise_multiplier:.4g}",
        )
        for one in plan.sums
    ]
    return table(columns, rows)


def _cost(plan: Planned) -> str:
    mu = f"mu {show_loss(plan.mu)}, " if plan.mu is not None else ""
    return f"a unit spends at most: {mu}epsilon {show_loss(plan.epsilon)} at delta {plan.delta:g}"


def _ratio(plan: Planned) -> str:
    low, high = plan.limits
    return (
        f"signal-to-noise ratio: of a round at most {plan.ratio_of_a_round:.2g}, of the run at "
        f"most {plan.ratio:.2g} (below {low:g} it cannot work, below {high:g} it is doubtful)"
    )


def _verdict(plan: Planned) -> Piece:
    doubt = HARDLY if plan.ratio is None or plan.ratio < plan.limits[1] else NO_BODY
    meaning = {"cannot work": CANNOT, "doubtful": doubt, "can work": CAN}[plan.verdict]
    return line(f"{plan.verdict.upper()}. {meaning}", COLOURS[plan.verdict])


def _suggestions(plan: Planned) -> Piece:
    rows = [
        (s.words, s.type_this, f"{s.ratio:.2g}", line(s.verdict, COLOURS[s.verdict]))
        for s in plan.suggestions
    ]
    return table(("what to change", "type this", "ratio", "then"), rows)
