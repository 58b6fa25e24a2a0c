"""Adapting a finished run to a new hospital's records, from the question to the files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metaward.client.desk import NETWORK
from metaward.client.inner.fitted import Fitted
from metaward.client.models import Portable
from metaward.client.tasks.folder import OwnFiles
from metaward.client.tasks.kinds import Score
from metaward.client.work import one_thread
from metaward.errors import InputError
from metaward.options import ConfigError
from metaward.server.adapting.judge import SideBySide, judge
from metaward.server.adapting.model import Model, setting_for
from metaward.server.adapting.records import Labelled, form_of, read_labelled
from metaward.server.adapting.saved import Described, ModelOrigin
from metaward.server.adapting.scores import scores_of
from metaward.server.adapting.splits import PatientSplit, final_support, split
from metaward.server.adapting.ways import RecordBench, bench_of, ways_of
from metaward.server.baselines import claim
from metaward.server.evaluations.finished import Finished
from metaward.sim import Sim


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
    """What an adaptation gave: the ``model`` that is written, fitted to the records ``rows``, what
    files say about it, and the ``verdict`` on the way in which it was made."""

    finished: Finished
    held: Labelled
    wish: Wish
    scores: tuple[Score, ...]
    verdict: SideBySide
    rows: np.ndarray
    model: Model
    module: Portable
    about: Described


def adapt_run(finished: Finished, folder: Path, wish: Wish) -> AdaptedRun:
    """Judge the adaptation on splits of the folder's records, and fit the model that is written.

    ``ConfigError`` where the run's tasks have no classes; ``InputError`` where the records do not
    suit, or the steps diverge. The model is fitted before anything is judged, so that a learner
    that gives no network is refused at once.
    """
    run = finished.run
    if not run.client.tasks.spec().kind.classes:
        text = "its tasks have no classes, which metaward adapt needs; use mw.open(...).adapt(x, y)"
        raise ConfigError([text], str(finished.folder.path))
    held = read_labelled(run, folder)
    bench = bench_of(setting_for(run, len(held.classes)), held)
    splits = splits_of(held, wish)
    rows = final_support(held, wish.shots, splits[0])
    model = _model(finished, bench, held, rows, wish.steps)
    module = model.module()
    scores = scores_of(run.spec().kind, wish.specificity)
    ways = list(ways_of(finished, bench, held, wish.steps))
    verdict = judge(held, splits, ways, scores)
    mixed = isinstance(model.predictor, Fitted) and model.predictor.mix is not None
    about = described(finished, held, mixed)
    return AdaptedRun(finished, held, wish, scores, verdict, rows, model, module, about)


def splits_of(held: Labelled, wish: Wish) -> list[PatientSplit]:
    """The splits; split k is the same whatever the number of splits."""
    return [
        split(held, wish.shots, np.random.default_rng([wish.seed, k])) for k in range(wish.draws)
    ]


def described(finished: Finished, held: Labelled, mixed: bool) -> Described:
    """What the files of a model say about it."""
    run, folder = finished.run, finished.folder
    words = _preparation(run)
    network: dict[str, Any] = NETWORK.plain(run.client.model)
    origin = ModelOrigin(folder.id, run.name, claim(run))
    return Described(held.classes, form_of(run), words, network, mixed, origin)


def _preparation(run: Sim) -> str:
    """How the hospital's records are prepared, and the run's own where that is another source."""
    here, there = OwnFiles.preparation.scaling.words, run.client.tasks.preparation.scaling.words
    return here if here == there else f"{here} The run's own records: {there}"


def _model(
    finished: Finished, bench: RecordBench, held: Labelled, rows: np.ndarray, steps: int
) -> Model:
    run = finished.run
    theta = torch.from_numpy(finished.theta)
    with one_thread():
        predictor = run.client.inner.adapt(bench.setting, theta, bench.batch(rows), steps)
        with torch.no_grad():
            sound = bool(torch.isfinite(predictor(bench.x[rows])).all())
    if not sound:
        raise InputError(
            f"{steps} steps from this run's theta diverge on these records; lower --steps"
        )
    shape = run.client.tasks.spec().input_shape
    return Model(np.array(held.classes), shape, run.client.model, bench.setting, predictor)
