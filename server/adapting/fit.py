"""The model that an adaptation writes: as secret as the records, or one that may be published."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from metaward.client.adaptation import Adaptation
from metaward.client.desk import NETWORK
from metaward.client.inner.fitted import Fitted
from metaward.client.models import Portable
from metaward.client.tasks.folder import OwnFiles
from metaward.client.work import one_thread
from metaward.errors import InputError
from metaward.server.adapting.model import Model
from metaward.server.adapting.promise import Pledge, pledge
from metaward.server.adapting.publish import Publication, paid_for
from metaward.server.adapting.records import Labelled, form_of
from metaward.server.adapting.saved import Described, ModelOrigin, module_in, tensors_of
from metaward.server.adapting.terms import Terms
from metaward.server.adapting.ways import RecordBench
from metaward.server.baselines import claim
from metaward.server.evaluations.finished import Finished
from metaward.sim import Sim


class FittedModel(NamedTuple):
    """A model that is to be written: the module, its file's bytes, what it says about itself, and
    its pledge where it may be published."""

    module: Portable
    stored: bytes
    about: Described
    pledge: Pledge | None = None


def secret(
    finished: Finished, bench: RecordBench, held: Labelled, rows: np.ndarray, steps: int
) -> FittedModel:
    """The run's learner fitted to these records, without any protection."""
    run, theta = finished.run, torch.from_numpy(finished.theta)
    with one_thread():
        predictor = run.client.inner.adapt(bench.setting, theta, bench.batch(rows), steps)
        with torch.no_grad():
            sound = bool(torch.isfinite(predictor(bench.x[rows])).all())
    if not sound:
        raise InputError(
            f"{steps} steps from this run's theta diverge on these records; lower --steps"
        )
    shape = run.spec().input_shape
    model = Model(np.array(held.classes), shape, run.client.model, bench.setting, predictor)
    module = model.module()
    mixed = isinstance(predictor, Fitted) and predictor.mix is not None
    about = described(finished, held, mixed)
    return FittedModel(module, tensors_of(module, about), about)


def published(
    finished: Finished,
    bench: RecordBench,
    held: Labelled,
    rows: np.ndarray,
    steps: int,
    terms: Terms,
) -> FittedModel:
    """The run's learner fitted to these records on terms that let the model be published.

    ``InputError`` where the noise made it useless; that is told by its tensors, never by what it
    makes of a record.
    """
    run, about = finished.run, described(finished, held, mixed=False)
    learner, theta = run.client.inner, torch.from_numpy(finished.theta)
    task = Adaptation(terms.mechanism, learner, bench.setting, theta, steps)
    asked = Publication(finished, held, terms, task, bench.batch(rows))
    asked.check()
    shape = run.spec().input_shape

    def written(predictor: Fitted) -> bytes:
        told = described(finished, held, predictor.mix is not None)
        return tensors_of(predictor.portable(run.client.model, shape), told)

    paid = paid_for(asked, written)
    module, told = module_in(paid.stored, about)
    if not all(bool(torch.isfinite(one).all()) for one in module.state_dict().values()):
        raise InputError(
            f"{steps} noisy steps from this run's theta diverge, and were charged; a new try, with "
            "fewer --steps is charged, too"
        )
    return FittedModel(module, paid.stored, told, pledge(asked, paid))


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
