"""What an adapted model that may be published promises to the records behind it, and what not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from metaward.privacy.accounting import enforced_epsilon, gdp
from metaward.privacy.description import SumDescription
from metaward.privacy.event import Budget, Events
from metaward.privacy.ledger import History
from metaward.privacy.mechanisms.base import Protected
from metaward.privacy.noise import SystemNoise
from metaward.privacy.price import events
from metaward.privacy.report.numbers import show_left, show_loss, show_small
from metaward.privacy.rounding import percent_up
from metaward.privacy.units import Unit
from metaward.server.adapting.publish import Paid, Publication
from metaward.server.adapting.saved import MODEL

CONTENT = "content"
"""The kind of key by which a ledger knows a record's content."""
NOT_COVERED = (
    "Scores on this hospital's own records. They are exact, so none is in this folder. Those of "
    "the local report stay at the hospital, or are released as what they are: covered by no "
    "epsilon.",
    "A choice that was made by such scores, or by a look at the records: of steps, shots, clip "
    "norms or epsilon, of a temperature for the probabilities, of a threshold, or of whether to "
    "publish. What is published then depends on the records in a way that the noise does not "
    "cover; choose on public records.",
    "Predictions of the model for the records themselves: each shows the record it is made of.",
    "Other releases from the same records, but for those that the hospital's ledger counts.",
    "The hospitals of the run: what was learned from them is promised to them by the run alone.",
)
"""What no card of a published model may keep silent about."""


@dataclass(frozen=True)
class Pledge:
    """The promise for one ``unit`` at ``delta``: what this model costs it (``epsilon``), what the
    unit that has spent most has spent in all (``spent``), and what of the ``cap`` is ``left``.

    ``unit`` and ``exposed`` are of ``privacy.units``. ``total`` counts by names alone, because what
    a content has spent depends on the records. ``again``: an earlier call has paid for the model.
    """

    unit: Unit
    epsilon: float
    delta: float
    right: float
    sums: tuple[SumDescription, ...]
    trained: tuple[str, ...]
    steps: int
    spent: float
    cap: Budget
    left: float
    entry: int
    ledger: str
    again: bool

    @property
    def claim(self) -> str:
        """The promise in one sentence."""
        unit, right = self.unit, percent_up(self.right)
        return (
            f"{unit.name.capitalize()}-level differential privacy, epsilon at most "
            f"{show_loss(self.epsilon)} at delta {show_small(self.delta)}: whoever sees all that "
            f"is in the folder {MODEL}, knows every other record, and guesses whether "
            f"{unit.guarded} was used is right at most {right} of the time (50 % is a coin)."
        )

    @property
    def exposed(self) -> tuple[str, ...]:
        """What counts as public."""
        return self.unit.exposed


def pledge(asked: Publication, paid: Paid) -> Pledge:
    """The promise of a model that was paid for, with what its ledger says now."""
    mechanism, terms = asked.terms.mechanism, asked.terms
    mine = _events(paid, mechanism)
    cap = (terms.policy.budget() if terms.policy else None) or mechanism.budget
    total = spent_by_name(terms.ledger.history(), cap.delta)
    return Pledge(
        unit=mechanism.unit,
        epsilon=enforced_epsilon(mine, mechanism.delta),
        delta=mechanism.delta,
        right=gdp.attack_accuracy(gdp.mu(mine)),
        sums=paid.price.description.sums,
        trained=mechanism.train,
        steps=asked.adaptation.steps,
        spent=total,
        cap=cap,
        left=max(0.0, cap.epsilon - total),
        entry=paid.entry.sequence,
        ledger=terms.ledger.id,
        again=paid.again,
    )


def _events(paid: Paid, mechanism: Protected) -> Events:
    """What the costliest unit pays for this model."""
    each = (events(one, paid.price.noise, mechanism.sampling_rate) for one in paid.price.profiles)
    return max(each, key=gdp.mu)


def spent_by_name(history: History, delta: float) -> float:
    """The largest epsilon that any unit has spent, by its name and not by its content."""
    names, totals = history.names(), history.totals()
    own = {e for unit, e in totals.items() if not names[unit].startswith(f"{CONTENT}:")}
    return max((enforced_epsilon(one, delta) for one in own), default=0.0)


def mechanism_words(made: Pledge) -> Iterator[str]:
    """How the records are protected, a sentence for each kind of sum, and who drew the noise."""
    who = made.unit.name
    for one in made.sums:
        times = "one sum" if one.sums == 1 else f"{one.sums} sums"
        what, records = _SUMMED.get(one.kind, one.kind), one.vectors // one.sums
        yield (
            f"{what.capitalize()}: {times} over {records} records, each {who}'s part clipped "
            f"to the norm {one.clip_norm:g}, noise multiplier {one.noise_multiplier:.4g}."
        )
    yield f"Noise: {SystemNoise.name}; sums are exact, on one grid with the noise."


_SUMMED = {
    "support": "gradients in the steps of adaptation",
    "features": "features, by class",
    "centre": "features, for their common mean",
}


def budget_words(made: Pledge) -> str:
    """What is spent and left, in one sentence."""
    who, cap = made.unit.name, made.cap
    return (
        f"This model costs a {who} epsilon {show_loss(made.epsilon)} at delta "
        f"{show_small(made.delta)}. With all that the hospital's ledger holds, the {who} that has "
        f"spent most has spent {show_loss(made.spent)} of {cap.epsilon:g} at delta "
        f"{show_small(cap.delta)}; {show_left(made.left)} is left."
    )
