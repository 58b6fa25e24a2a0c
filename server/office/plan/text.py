"""A plan as people read it: what is known, what it costs, whether it can work, what to change."""

from __future__ import annotations

from metaward.privacy import MECHANISMS
from metaward.privacy.report.numbers import show_loss
from metaward.server.office.plan.plan import DressRehearsal, Left, Planned
from metaward.server.terminal import BAD, GOOD, WARN, Piece, line, table, warning

COLOURS = {"cannot work": BAD, "doubtful": WARN, "can work": GOOD}
CAN = (
    "The noise leaves room to learn. No promise: a clip norm C far below what records have loses "
    "signal that no epsilon brings back; --public FILE measures that on public records."
)
MEASURED = (
    "The noise leaves room to learn, and the table says what clipping leaves on the public "
    "records. No promise: --rehearse N carries the run out on them."
)
REHEARSED = {
    "can work": "So the rehearsal says; the private tasks may differ from the public ones.",
    "doubtful": "The rehearsal promises neither that it works nor that it does not.",
    "cannot work": "In the rehearsal privacy took most of what training adds.",
}
CANNOT = "All rounds together move theta by noise more than by anything learned."
HARDLY = "The signal is hardly longer than the noise, even at best."
NO_BODY = "The noise leaves room to learn, but a body that is not trained learns little."


def planned(plan: Planned) -> list[Piece]:
    """All that is printed."""
    notes = [f"note: {note}" for note in plan.notes]
    if plan.ratio is None:
        return [warning(plan.claim), _known(plan), *plan.notes]
    pieces = [_known(plan), plan.claim, _sums(plan), _cost(plan), _ratio(plan)]
    pieces += [*_public(plan), _verdict(plan)]
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


def _public(plan: Planned) -> list[Piece]:
    """What was found on public tasks."""
    pieces: list[Piece] = []
    if plan.public:
        columns = ("sums of", "norms: 10, 50, 90 %", "C", "longer", "left by C", "and by noise")
        pieces += ["on the public records:", table(columns, [_left(one) for one in plan.public])]
    pieces += [
        f"the best C there for {one.kind}: --set privacy.{_key(plan, one.kind)}={one.best:g}"
        for one in plan.public
        if one.best not in (None, one.clip_norm)
    ]
    if plan.rehearsal is not None:
        pieces.append(_rehearsal(plan.rehearsal))
    return pieces


def _left(one: Left) -> tuple[str, ...]:
    norms = ", ".join(f"{norm:.3g}" for norm in one.norms)
    shares = (f"{100 * share:.0f} %" for share in (one.longer, one.clipped, one.left))
    return one.kind, norms, f"{one.clip_norm:g}", *shares


def _key(plan: Planned, kind: str) -> str:
    """The option of the mechanism that sets a kind's clip norm."""
    own = f"clip_{kind}"
    return own if hasattr(MECHANISMS[plan.mechanism], own) else "clip_norm"


def _rehearsal(told: DressRehearsal) -> str:
    seeds = _times(told.seeds, "seed")
    scores = (
        f"rehearsed on the public tasks ({seeds}): {told.score} {told.untrained:.3f} untrained, "
        f"{told.private:.3f} private, {told.no_privacy:.3f} without privacy"
    )
    if told.share is None:
        return f"{scores}; training gains nothing there that could be lost"
    return f"{scores}; privacy leaves {100 * told.share:.0f} % of the gain"


def _verdict(plan: Planned) -> Piece:
    if plan.rehearsal is not None:
        meaning = REHEARSED[plan.verdict]
    else:
        doubt = HARDLY if plan.ratio is None or plan.ratio < plan.limits[1] else NO_BODY
        meaning = {
            "cannot work": CANNOT,
            "doubtful": doubt,
            "can work": MEASURED if plan.public else CAN,
        }[plan.verdict]
    return line(f"{plan.verdict.upper()}. {meaning}", COLOURS[plan.verdict])


def _suggestions(plan: Planned) -> Piece:
    rows = [
        (s.words, s.type_this, f"{s.ratio:.2g}", line(s.verdict, COLOURS[s.verdict]))
        for s in plan.suggestions
    ]
    return table(("what to change", "type this", "ratio", "then"), rows)
