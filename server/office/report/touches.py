"""What a privacy report says in words: how data was used, how noise comes in, what else was done.

Each source of tasks says here how its records become the network's input, because a number that is
computed from many records (a mean, a deviation) would be one more release.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from metaward.client.desk import LEARNER
from metaward.privacy.report.inputs import BESIDE
from metaward.privacy.report.sections import Gap, Touch
from metaward.privacy.report.values import TouchName
from metaward.server.baselines import BASELINES, Contender
from metaward.sim import Sim

Covered = Literal["yes", "no", "not used"]


class Prepared(NamedTuple):
    """How a source's records are scaled, and what was done to them before they were opened."""

    scaled: tuple[Covered, str]
    before: tuple[Covered, str]


_GREY: tuple[Covered, str] = (
    "not used",
    "Grey values 0 to 255 become -1 to 1 by constants, not by statistics.",
)
_DRAWN: tuple[Covered, str] = (
    "not used",
    "Records are made by this program, from a seed; there is nothing to prepare.",
)

SOURCES: dict[str, Prepared] = {
    "ecg": Prepared(
        ("yes", "Each beat is scaled by its own mean and deviation; no record touches another."),
        ("no", "Beats were cut out of the recordings around the annotations beforehand."),
    ),
    "heart": Prepared(
        ("not used", "Features are scaled by reference values of clinical guidelines."),
        ("no", "Patients with missing values and three columns were left out beforehand."),
    ),
    "medmnist": Prepared(
        _GREY,
        ("no", "Images were cropped and resized beforehand, by the authors of MedMNIST."),
    ),
    "omniglot": Prepared(
        ("not used", "Grey values become 0 to 1 by a constant, not by statistics."),
        ("no", "Drawings were scaled down beforehand."),
    ),
    "phantom": Prepared(_GREY, _DRAWN),
    "sine": Prepared(("not used", "Values are used as they are; nothing is scaled."), _DRAWN),
}

_UNSAID = "The source does not say here what it does; ask whoever wrote it."
UNKNOWN = Prepared(("no", _UNSAID), ("no", _UNSAID))
"""For a source that is not in ``SOURCES``: not covered until somebody says what is so."""

_HOW = {
    "record": (
        "Whatever is summed over records (gradients, features, their second moments, Jacobian "
        "products), each record's vector is clipped to the norm C, and Gaussian noise is added to "
        "the sum before anything is done with it. What leaves is computed from these noisy sums "
        "alone."
    ),
    "patient": (
        "Whatever is summed over records (gradients, features, their second moments, Jacobian "
        "products), the vectors of each patient are added up and clipped to the norm C, and "
        "Gaussian noise is added to the sum before anything is done with it. What leaves is "
        "computed from these noisy sums alone."
    ),
    "task": (
        "The hospital works on each task freely, clips what each task gives to the norm C, and "
        "adds Gaussian noise to their sum; the noisy mean leaves."
    ),
    "hospital": (
        "Each hospital clips its whole update to the norm C; the server takes the uniform mean and "
        "adds Gaussian noise before theta changes."
    ),
    "none": "Updates leave as they are: nothing is clipped, no noise is added.",
}


def how(run: Sim) -> str:
    """Mechanism and learner, in words."""
    learner = str(LEARNER.plain(run.client.inner)["algorithm"])
    return f"{_HOW[run.privacy.unit]} Learner: {learner}."


def sampling(run: Sim) -> str:
    """How records come into a round."""
    if run.client.schedule == "passes":
        return (
            "Records are dealt into disjoint tasks, and all of them are used before any comes "
            "again. The schedule is public."
        )
    return "Tasks are drawn at random in every round; a record may come again at any time."


def touches(run: Sim) -> tuple[Touch, ...]:
    """Every way in which hospital data was used, and whether the promise covers it."""
    scaled, before = _prepared(run)
    used: dict[TouchName, tuple[Covered, str]] = {
        "training": _trained(run, _TRAINED),
        "query": _trained(run, _QUERIED),
        "evaluation metrics": (
            "no",
            "Evaluation-only hospitals send exact scores. Nothing in the run is chosen by them.",
        ),
        "normalisation statistics": scaled,
        "hyper-parameter tuning": (
            "no",
            "The run itself tunes nothing. Settings found in earlier runs on the same records are "
            "covered only as far as those runs were charged to the same ledgers.",
        ),
        "pre-processing": before,
        "public pre-training": (
            "not used",
            "The network starts from random weights, or from filters that no data has chosen.",
        ),
    }
    return tuple(Touch(name, *found) for name, found in used.items())


_TRAINED = {
    "record": "Every record's part in every sum is clipped and noised.",
    "patient": "Every patient's part in every sum is clipped and noised.",
    "task": "Every task's update is clipped and noised.",
    "hospital": "Every hospital's update is clipped, and noised by the server.",
}
_QUERIED = {
    "record": "Query records are charged as training records are.",
    "patient": "Query records are charged as training records are.",
    "task": "Query records are part of their task's update.",
    "hospital": "Query records are part of their hospital's update.",
}


def _trained(run: Sim, words: dict[str, str]) -> tuple[Covered, str]:
    if run.privacy.unit == "none":
        return "no", "Used without any protection."
    return "yes", words[run.privacy.unit]


def _prepared(run: Sim) -> Prepared:
    return SOURCES.get(source(run), UNKNOWN)


def source(run: Sim) -> str:
    """The name of the run's source of tasks."""
    return str(run.mapping()["client"]["tasks"]["source"])


def beside(run: Sim) -> tuple[Gap, ...]:
    """Baselines that were trained on the same records, which have accounts of their own or none."""
    every = [one for key in run.server.evaluation.baselines for one in BASELINES[key](run)]
    trained = [one for one in every if one.trained]
    if not trained:
        return ()
    words = (
        f"Trained beside the run on the same records, to compare: "
        f"{', '.join(one.name for one in trained)}. The figures above are of the run's own "
        "learner. A simulation keeps an account for each learner; in a deployment all are charged "
        "to the hospital's one ledger, or refused."
    )
    return (Gap(BESIDE, f"{words}{_unprotected(run, trained)}"),)


def _unprotected(run: Sim, trained: Sequence[Contender]) -> str:
    """Baselines without noise, where the run itself has some."""
    names = [one.name for one in trained if not one.private]
    if run.privacy.unit == "none" or not names:
        return ""
    return f" Without noise, hence without any bound, were the updates of {', '.join(names)}."
