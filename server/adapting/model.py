"""A network adapted to a hospital's labelled records, for ``Result.adapt`` and `metaward adapt`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from metaward.client.inner import Setting
from metaward.client.inner.fitted import Fitted
from metaward.client.inner.setting import Predictor
from metaward.client.models import Architecture, Portable
from metaward.client.tasks.base import TaskSpec
from metaward.client.work import one_thread
from metaward.errors import InputError
from metaward.privacy import Batch
from metaward.sim import Sim

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Model:
    """A network adapted to a few labelled records.

    ``classes`` (N,) are its labels, in the order of its outputs; None for regression.
    ``predictor`` takes records as ``prepare`` gives them.
    """

    classes: NDArray[Any] | None
    input_shape: tuple[int, ...]
    architecture: Architecture
    setting: Setting
    predictor: Predictor

    def predict(self, x: ArrayLike) -> NDArray[Any]:
        """The label of each record.

        Args:
            x: records (n, *input_shape), prepared like those that the model was adapted to.

        Returns:
            Labels (n,), as they were given to ``adapt``; targets (n, targets) float32 for
            regression.

        Raises:
            InputError: ``x`` has another shape or holds values that are not finite.
        """
        outputs = self.outputs(x)
        return outputs if self.classes is None else self.classes[outputs.argmax(axis=1)]

    def outputs(self, x: ArrayLike) -> NDArray[np.float32]:
        """The network's outputs (n, N), the larger the likelier a class; or the targets.

        Args:
            x: as for ``predict``.
        """
        records = self.setting.prepare(records_of(x, self.input_shape))
        with torch.no_grad(), one_thread():
            return np.asarray(self.predictor(torch.from_numpy(records)).numpy(), np.float32)

    def module(self) -> Portable:
        """The model as a ``torch.nn.Module`` from records (n, *input_shape) to outputs (n, N).

        It has the network's fixed front in it, and no parameter that requires a gradient.

        Raises:
            InputError: what the learner gave is no network, such as a learner of one's own that
                returns a plain function.
        """
        if not isinstance(self.predictor, Fitted):
            raise InputError(
                "this learner's predictor is no network, so it cannot be written as one; a learner "
                "of your own returns metaward.client.inner.fitted.Fitted from adapt"
            )
        return self.predictor.portable(self.architecture, self.input_shape)


def adapted(run: Sim, theta: Vector, x: ArrayLike, y: ArrayLike, steps: int | None) -> Model:
    """The run's learner fitted to labelled records, from ``theta`` (dim,); see ``Result.adapt``."""
    learner, spec = run.client.inner, run.spec()
    records = records_of(x, spec.input_shape)
    classes, labels = _labels(spec, y, len(records))
    setting = setting_for(run, spec.outputs if classes is None else len(classes))
    prepared = torch.from_numpy(setting.prepare(records))
    count = learner.adapt_steps if steps is None else steps
    with one_thread():
        support = Batch(prepared, torch.from_numpy(labels), np.arange(len(records)))
        predictor = learner.adapt(setting, torch.from_numpy(theta), support, count)
    return Model(classes, spec.input_shape, run.client.model, setting, predictor)


def setting_for(run: Sim, outputs: int) -> Setting:
    """The setting for this number of classes; ``InputError`` if the run's theta does not fit it."""
    model, learner, spec = run.client.model, run.client.inner, run.spec()
    usual = Setting(model, spec)
    if outputs == spec.outputs:
        return usual
    fitting = Setting(model, replace(spec, outputs=outputs))
    if outputs < 2 or _shared(run, usual) != _shared(run, fitting):
        raise InputError(
            f"y: {outputs} different labels; this run's tasks have {spec.outputs} classes, and "
            f"{type(learner).__name__} shares a head for just these"
        )
    return fitting


def _shared(run: Sim, setting: Setting) -> Sequence[Any]:
    return [one for one in run.client.inner.layers(setting) if not one.local]


def records_of(x: ArrayLike, input_shape: tuple[int, ...]) -> Vector:
    """Records (n, *input_shape) float32; ``InputError`` for another shape or what is not finite."""
    records = np.array(x, np.float32)
    if records.shape[1:] != input_shape or len(records) == 0:
        text = (
            f"x has shape {records.shape}; give (n, {', '.join(map(str, input_shape))}), n from 1"
        )
        raise InputError(text)
    if not np.isfinite(records).all():
        raise InputError("x holds values that are not finite; fill or leave out what is missing")
    return records


def _labels(spec: TaskSpec, y: ArrayLike, n: int) -> tuple[NDArray[Any] | None, NDArray[Any]]:
    """The classes (None for targets), and the labels in the form that learners take."""
    given = np.array(y)
    if len(given) != n:
        raise InputError(f"y holds {len(given)} labels for {n} records")
    if not spec.kind.classes:
        return None, _targets(given, spec.outputs)
    if given.ndim != 1:
        raise InputError(f"y has shape {given.shape}; give labels (n,)")
    classes, labels = np.unique(given, return_inverse=True)
    if spec.canonical:
        known = np.arange(spec.outputs)
        if not np.isin(classes, known).all():
            raise InputError(f"y holds {classes.tolist()}; labels are 0 to {spec.outputs - 1}")
        classes, labels = known, given
    return classes, labels.astype(np.int64)


def _targets(given: NDArray[Any], outputs: int) -> Vector:
    targets = given.astype(np.float32).reshape(len(given), -1)
    if targets.shape[1] != outputs or not np.isfinite(targets).all():
        raise InputError(f"y has shape {given.shape}; give finite targets (n, {outputs})")
    return targets
