"""Adapting a finished run to a new hospital's records, from the question to the files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metaward.client.models import Portable
from metaward.client.tasks.kinds import Score
from metaward.options import ConfigError
from metaward.server.adapting.curve import Curve, curves
from metaward.server.adapting.fit import published, secret
from metaward.server.adapting.judge import SideBySide, judge
from metaward.server.adapting.model import setting_for
from metaward.server.adapting.private_ways import BEFORE as PRIVATE_BEFORE
from metaward.server.adapting.private_ways import PrivateWays
from metaward.server.adapting.promise import Pledge
from metaward.server.adapting.records import Labelled, read_labelled
from metaward.server.adapting.saved import Described
from metaward.server.adapting.scores import scores_of
from metaward.server.adapting.splits import PatientSplit, final_support, split
from metaward.server.adapting.terms import Terms
from metaward.server.adapting.ways import BEFORE, bench_of, ways_of
from metaward.server.evaluations.finished import Finished


@dataclass(frozen=True)
class Wish:
    """How a hospital adapts: ``shots`` records of each class (None: all of its records), so many
    ``steps``, and ``draws`` splits from ``seed`` to judge by, at a ``specificity``."""

    shots: int | None
    steps: int
    draws: int = 20
    seed: int = 0
    specificity: float = 0.9

    def __post_init__(self) -> None:
        for right, option, value, allowed in (
            (self.shots is None or self.shots >= 1, "shots", self.shots, "1 or more, or all"),
            (0 <= self.steps <= 1000, "steps", self.steps, "0 to 1000"),
            (2 <= self.draws <= 1000, "draws", self.draws, "2 to 1000"),
            (self.seed >= 0, "seed", self.seed, "0 or more"),
            (0 < self.specificity < 1, "specificity", self.specificity, "above 0 and below 1"),
        ):
            if not right:
                raise ConfigError([f"{value} is refused: allowed is {allowed}"], f"--{option}")


@dataclass(frozen=True, eq=False)
class AdaptedRun:
    """What an adaptation gave: the ``module`` that is written, fitted to the records ``rows``, and
    as ``stored`` bytes; what files say about it; the ``verdict`` on the way in which it was made;
    ``curves`` of its score over shots; and the ``pledge`` of a model that may be published, None
    for one that is as secret as records. ``before`` is the row without gradient steps.
    """

    finished: Finished
    held: Labelled
    wish: Wish
    scores: tuple[Score, ...]
    verdict: SideBySide
    rows: np.ndarray
    module: Portable
    stored: bytes
    about: Described
    pledge: Pledge | None = None
    curves: tuple[Curve, ...] = ()
    before: str = ""


def adapt_run(
    finished: Finished, folder: Path, wish: Wish, terms: Terms | None = None
) -> AdaptedRun:
    """Judge the adaptation on splits of the folder's records, and fit the model that is written:
    one that may be published where there are ``terms`` for that.

    ``ConfigError`` where the run's tasks have no classes; ``InputError`` where the records do not
    suit, or the steps diverge; ``PolicyError`` and ``LedgerError`` where the terms are refused. The
    model is fitted before anything is judged, so that a learner that gives no network is refused at
    once.
    """
    run = finished.run
    if not run.spec().kind.classes:
        text = "its tasks have no classes, which metaward adapt needs; use mw.open(...).adapt(x, y)"
        raise ConfigError([text], str(finished.folder.path))
    held = read_labelled(run, folder)
    bench = bench_of(setting_for(run, len(held.classes)), held)
    splits = splits_of(held, wish)
    rows = final_support(held, wish.shots, splits[0])
    scores = scores_of(run.spec().kind, wish.specificity)
    if terms is None:
        fitted = secret(finished, bench, held, rows, wish.steps)
        ways = list(ways_of(finished, bench, held, wish.steps))
    else:
        fitted = published(finished, bench, held, rows, wish.steps, terms)
        private = PrivateWays(finished, bench, held, terms.mechanism, wish.seed)
        ways = list(private.of(wish.steps))
    verdict = judge(held, splits, ways, scores)
    found = curves(held, ways, scores[0], wish.draws, wish.seed)
    start = ways[BEFORE if terms is None else PRIVATE_BEFORE].name
    return AdaptedRun(finished, held, wish, scores, verdict, rows, *fitted, found, start)


def splits_of(held: Labelled, wish: Wish) -> list[PatientSplit]:
    """The splits; split k is the same whatever the number of splits."""
    return [
        split(held, wish.shots, np.random.default_rng([wish.seed, k])) for k in range(wish.draws)
    ]
