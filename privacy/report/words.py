"""Standing texts of a report: what a unit's promise means, who sees what, what is never covered."""

from __future__ import annotations

from metaward.privacy.report.inputs import GAPS
from metaward.privacy.report.sections import Gap, Guarantee, Observer
from metaward.privacy.report.values import Unit

_ZEROED = "Compared are two runs: one as it was, one in which {} had been left empty."
NEIGHBOURS: dict[Unit, str] = {
    "none": "Nothing is compared, because nothing is promised.",
    "record": _ZEROED.format("the place of one record"),
    "patient": _ZEROED.format("the places of all records of one patient"),
    "task": _ZEROED.format("the place of one whole task (a small training problem)"),
    "hospital": _ZEROED.format("the whole update of one hospital"),
}

_PUBLIC = (
    "How many records, tasks and rounds there are.",
    "Which labels a hospital holds and how many records of each.",
    "When and how often a hospital answers, and how long it takes.",
)
UNPROTECTED: dict[Unit, tuple[str, ...]] = {
    "none": ("Everything that was computed from the records.",),
    "record": (*_PUBLIC, "What all records of a person have in common, if the person has several."),
    "patient": (*_PUBLIC, "How many records each patient has."),
    "task": (*_PUBLIC, "What many tasks have in common, if one person stands in several."),
    "hospital": ("Who takes part in which round.", "The weights of the hospitals: all the same."),
}

_CODE = (
    "So is whoever ships the program: a hospital runs the code that the server sends, and nothing "
    "on this page holds against code that was changed."
)
_AT_HOSPITAL = (
    "The noise is added at the hospital, before anything leaves, so nobody outside has to be "
    "trusted with what arrives there. The hospital's own machines and staff are trusted. " + _CODE
)
TRUST: dict[Unit, str] = {
    "none": "Everybody who sees an update has to be trusted.",
    "record": _AT_HOSPITAL,
    "patient": _AT_HOSPITAL,
    "task": _AT_HOSPITAL,
    "hospital": (
        "The server has to be trusted: it sees each update as it is and adds the noise to their "
        "mean. The promise holds against everybody who sees what the server hands out. " + _CODE
    ),
}

NOT_COVERED = tuple(
    Gap(name, words)
    for name, words in zip(
        GAPS,
        (
            "What a hospital does with its own records inside the hospital, a model adapted there "
            "included.",
            "Anything else that was or will be published from the same records: papers, other "
            "projects, other software. Their losses add up with this one.",
            "That a hospital takes part at all is known to the others.",
            "Hospitals that only judge the model send scores of it on their "
            "records. These scores carry no noise, and no epsilon covers them.",
        ),
        strict=True,
    )
)


def observers(unit: Unit) -> tuple[Observer, ...]:
    """Who sees what in the usual arrangement, and against whom the promise holds."""
    held = unit in ("record", "patient", "task")
    update = "noised" if held else "plain, not noised"
    promised = unit != "none"
    return (
        Observer("The hospital's own staff and machines", "its records and its ledger", False),
        Observer("The server, with the agreed code", f"each hospital's {update} update", held),
        Observer("The other hospitals", "the shared model, every round", promised),
        Observer("Whoever gets the finished model", "the shared model at the end", promised),
        Observer("Somebody on the network", "encrypted messages, their sizes and times", promised),
    )


def guarantee(unit: Unit, delta: float, cap_per_person: int | None) -> Guarantee:
    """The usual promise for a unit, ready to go into a report."""
    return Guarantee(
        unit=unit,
        neighbours=NEIGHBOURS[unit],
        delta=delta,
        cap_per_person=cap_per_person,
        unprotected=UNPROTECTED[unit],
        trust=TRUST[unit],
        observers=observers(unit),
    )
