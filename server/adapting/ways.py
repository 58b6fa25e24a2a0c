"""The ways to a classifier that are set side by side: the run's learner, and what needs no run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metaward.client.inner import Algorithm, Setting
from metaward.client.tasks.base import IntArray
from metaward.privacy import Batch
from metaward.server import body
from metaward.server.adapting.noised import Opens
from metaward.server.adapting.records import Labelled
from metaward.server.baselines import Contender, centroid, own, scratch, untrained
from metaward.server.evaluations.finished import Finished

BEFORE = 1
"""The place of the learner before its steps among the ways."""
ITERATIONS = 1000
"""The most steps of the logistic model's solver."""


class Rival(NamedTuple):
    """A row of the report: ``outputs`` maps the rows of support and judging records to the judging
    ones' outputs (n, N), whose softmax are the probabilities."""

    name: str
    outputs: Callable[[IntArray, IntArray], Tensor]


@dataclass(frozen=True, eq=False)
class RecordBench:
    """A setting, and all records of the hospital as its networks take them."""

    setting: Setting
    x: Tensor
    y: Tensor

    def batch(self, rows: IntArray) -> Batch:
        """The records of these rows."""
        return Batch(self.x[rows], self.y[rows], rows)

    def way(
        self,
        name: str,
        learner: Algorithm,
        theta: Tensor,
        steps: int,
        opens: Opens | None = None,
    ) -> Rival:
        """The learner from ``theta``, adapted in so many steps.

        ``opens`` gives the session; None: it adapts in the open, which a learner of one's own that
        knows no sessions can, too.
        """

        def outputs(support: IntArray, judges: IntArray) -> Tensor:
            batch = self.batch(support)
            if opens is None:
                predictor = learner.adapt(self.setting, theta, batch, steps)
            else:
                session = opens(learner, self.setting, theta, batch, steps)
                predictor = learner.adapt(self.setting, theta, batch, steps, session)
            with torch.no_grad():
                found = predictor(self.x[judges])
            return torch.nan_to_num(found)  # steps that diverged leave a network that knows nothing

        return Rival(name, outputs)


def bench_of(setting: Setting, held: Labelled) -> RecordBench:
    """All records, through the fixed front once."""
    prepared = torch.from_numpy(setting.prepare(held.x.copy()))
    return RecordBench(setting, prepared, torch.from_numpy(held.y))


def ways_of(finished: Finished, bench: RecordBench, held: Labelled, steps: int) -> Iterator[Rival]:
    """The adapted learner first; then the same before its steps, and what it has to beat."""
    run, mine = finished.run, own(finished.run)
    theta = torch.from_numpy(finished.theta)
    yield bench.way(f"{mine.name}, adapted", mine.learner, theta, steps)
    yield bench.way(f"{mine.name}, before", mine.learner, theta, 0)
    for one in (*untrained(run), *scratch(run)):
        count = steps if one.learner.adapt_steps == mine.learner.adapt_steps else None
        longer = one.learner.adapt_steps
        yield bench.way(one.name, one.learner, start_of(finished, bench, one), count or longer)
    yield centroid_of(finished, held)
    yield logistic_of(held)


def start_of(finished: Finished, bench: RecordBench, one: Contender) -> Tensor:
    """Where a contender without training starts, as in the run's own final table."""
    run, setting = finished.run, bench.setting
    theta = np.asarray(one.learner.initial(setting, run.seed).numpy(), np.float32)
    if run.server.start is not None and not one.fresh and body.holds_body(one.learner, setting):
        stored = body.read(Path(finished.folder.start))
        theta = body.begun(stored, one.learner, setting, theta)
    return torch.from_numpy(theta)


def centroid_of(finished: Finished, held: Labelled) -> Rival:
    """Nearest class mean of the raw records."""
    (one,) = centroid(finished.run)
    assert one.network is not None
    spec = replace(finished.run.spec(), outputs=len(held.classes))
    bench = bench_of(Setting(one.network, spec), held)
    return bench.way(one.name, one.learner, torch.zeros(0), 1)


def logistic_of(held: Labelled) -> Rival:
    """Scikit-learn's logistic model of the raw records, each coordinate in units of the support's
    own deviation, with its usual penalty."""
    x = held.x.reshape(len(held.x), -1)

    def outputs(support: IntArray, judges: IntArray) -> Tensor:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=ITERATIONS))
        model.fit(x[support], held.y[support])
        with np.errstate(divide="ignore"):  # a probability of zero has the logarithm -inf
            return torch.from_numpy(model.predict_log_proba(x[judges]))

    return Rival("logistic model (scikit-learn)", outputs)
