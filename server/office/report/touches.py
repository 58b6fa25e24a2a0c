"""What a privacy report says in words: how data was used, and what else was trained on it.

How records become the network's input is said by their source itself (``preparation``).
"""

from __future__ import annotations

from typing import Literal

from metaward.client.tasks.preparation import Covered
from metaward.privacy.report.inputs import BESIDE
from metaward.privacy.report.sections import Gap, Touch
from metaward.privacy.report.values import TouchName
from metaward.server.baselines import opponents
from metaward.server.body import StoredBody
from metaward.sim import Sim

JUDGED_BY_VALIDATION = (
    "Those set aside for validation judge the result, and the unseen ones give no scores. What is "
    "chosen by these scores, in the run or among several runs, depends on their records, and no "
    "epsilon covers that."
)
CHOSEN_BY: dict[Literal["last", "best"], tuple[str, str]] = {
    "last": ("Nothing in the run is chosen by them.", "The run itself tunes nothing."),
    "best": (
        "Those set aside for validation choose the round whose theta is the result, so the result "
        "depends on their records, and no epsilon covers that. Nothing is chosen by those that "
        "judge the result.",
        "The run tunes how many rounds it takes, by the exact scores of hospitals that are set "
        "aside for validation and do not train, and nothing else.",
    ),
}
"""What evaluation metrics choose, and what is tuned, by ``server.evaluation.keep``."""


def sampling(run: Sim) -> str:
    """How records come into a round."""
    if run.client.schedule == "passes":
        return (
            "Records are dealt into disjoint tasks, and all of them are used before any comes "
            "again. The schedule is public."
        )
    return "Tasks are drawn at random in every round; a record may come again at any time."


def touches(run: Sim, start: StoredBody | None) -> tuple[Touch, ...]:
    """Every way in which hospital data was used, and whether the promise covers it; ``start`` is
    the body that the run started from, if it did and the file is at hand."""
    scaling, beforehand, _ = run.client.tasks.preparation
    treatment = run.privacy.treatment
    covered: Covered = "yes" if run.privacy.unit.protected else "no"
    chosen, tuned = CHOSEN_BY[run.server.evaluation.keep]
    if run.server.evaluation.judges == "validation":
        chosen = JUDGED_BY_VALIDATION
    used: dict[TouchName, tuple[Covered, str]] = {
        "training": (covered, treatment.training),
        "query": (covered, treatment.query),
        "evaluation metrics": ("no", f"Evaluation-only hospitals send exact scores. {chosen}"),
        "normalisation statistics": scaling,
        "hyper-parameter tuning": (
            "no",
            f"{tuned} Settings found in earlier runs on the same records are "
            "covered only as far as those runs were charged to the same ledgers.",
        ),
        "pre-processing": beforehand,
        "public pre-training": started(run, start),
    }
    return tuple(Touch(name, *found) for name, found in used.items())


def started(run: Sim, start: StoredBody | None) -> tuple[Covered, str]:
    """Where the network starts, and whether records behind that are covered."""
    if run.server.start is None:
        text = "The network starts from random weights, or from filters that no data has chosen."
        return "not used", text
    if start is None:
        return "no", "The server starts from a file, which is not at hand for this report."
    words = start.origin.words(start.sha256)
    if start.origin.made_up:
        return "not used", words
    return "no", f"{words} That these records may be used is the run's own claim."


def beside(run: Sim) -> tuple[Gap, ...]:
    """Baselines that were trained on the same records, which have accounts of their own or none."""
    trained = [one for one in opponents(run) if one.trained]
    if not trained:
        return ()
    words = (
        f"Trained beside the run on the same records, to compare: "
        f"{', '.join(one.name for one in trained)}. The figures above are of the run's own "
        "learner. A simulation keeps an account for each learner; in a deployment all are charged "
        "to the hospital's one ledger, or refused."
    )
    bare = ", ".join(one.name for one in trained if not one.private)
    if bare and run.privacy.unit.protected:
        words += f" Without noise, hence without any bound, were the updates of {bare}."
    return (Gap(BESIDE, words),)
