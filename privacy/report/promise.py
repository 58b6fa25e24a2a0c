"""What is promised for a unit of protection, who sees what, and what is never covered."""

from __future__ import annotations

from metaward.privacy.report.sections import Gap, Guarantee, Observer
from metaward.privacy.units import Unit

NOT_COVERED = (
    Gap(
        "local use",
        "What a hospital does with its own records inside the hospital, a model adapted there "
        "included.",
    ),
    Gap(
        "other releases",
        "Anything else that was or will be published from the same records: papers, other "
        "projects, other software. Their losses add up with this one.",
    ),
    Gap("a hospital's presence", "That a hospital takes part at all is known to the others."),
    Gap(
        "evaluation-only hospitals",
        "Hospitals that only judge the model send scores of it on their records. These scores "
        "carry no noise, and no epsilon covers them.",
    ),
)
"""What no report may keep silent about."""


def guarantee(unit: Unit, delta: float) -> Guarantee:
    """The usual promise for a unit: who sees what, and against whom the promise holds."""
    promised = unit.protected
    held = promised and not unit.noise_at_server
    update = "noised" if held else "plain, not noised"
    observers = (
        Observer("The hospital's own staff and machines", "its records and its ledger", False),
        Observer("The server, with the agreed code", f"each hospital's {update} update", held),
        Observer("The other hospitals", "the shared model, every round", promised),
        Observer("Whoever gets the finished model", "the shared model at the end", promised),
        Observer("Somebody on the network", "encrypted messages, their sizes and times", promised),
    )
    return Guarantee(
        unit=unit.name,
        neighbours=unit.neighbours,
        delta=delta,
        cap_per_person=unit.cap_per_person,
        unprotected=unit.exposed,
        trust=unit.trust,
        observers=observers,
    )
