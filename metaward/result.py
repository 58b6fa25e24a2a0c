"""The result of a run, as plain tables and as a model that adapts to a hospital's records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors.numpy import load_file
from torch import Tensor

from metaward.client.inner import Setting
from metaward.client.inner.setting import Predictor
from metaward.client.tasks.base import TaskSpec
from metaward.client.work import one_thread
from metaward.errors import InputError
from metaward.privacy import Batch
from metaward.server.evaluations.evaluate import JOBS, checked, evaluated, free_place
from metaward.server.evaluations.exam import EPISODES, JudgingRole, exam_of
from metaward.server.evaluations.finished import open_finished
from metaward.server.folder import Folder
from metaward.sim import Sim


@dataclass(frozen=True)
class Model:
    """A network adapted to a few labelled records.

    ``classes`` (N,) are its labels, in the order of its outputs; None for regression.
    """

    classes: NDArray[Any] | None
    input_shape: tuple[int, ...]
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
        records = torch.from_numpy(_records(x, self.input_shape))
        with torch.no_grad(), one_thread():
            return np.asarray(self.predictor(records).numpy(), np.float32)


class Result:
    """A finished, failed or interrupted run in its result folder; files are read on use."""

    def __init__(self, path: Path) -> None:
        """``path``: the result folder."""
        self.path = path
        self._folder = Folder(path)

    def __repr__(self) -> str:
        return f"Result({str(self.path)!r}, {self.status})"

    @property
    def status(self) -> str:
        """ "finished", "running", "failed", "interrupted", or "absent" before it began."""
        return self._folder.status()[0]

    @cached_property
    def run(self) -> Sim:
        """The configuration, every default filled in; ``ConfigError`` where it names a part that is
        not registered here."""
        return self._folder.config()

    @property
    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """The final table of each score of the kind of task: its name -> rows as in ``table``."""
        return {one["metric"]: one["rows"] for one in self._saved()["tables"]}

    @property
    def table(self) -> list[dict[str, Any]]:
        """The final table of the first score, a dict for each learner, the run's own first.

        ``learner``, ``steps`` of adaptation, mean score over the unseen hospitals ``before`` and
        ``after`` it, ``low`` and ``high`` (95 % interval of ``after`` over tasks), ``worst`` and
        ``worst_hospital``, ``hospitals`` (name -> score) and ``hospitals_before``, and ``gap`` with
        ``gap_low`` and ``gap_high``: how much better the first learner is. Accuracies are in
        [0, 1].

        ``InputError`` where the run is not finished.
        """
        return next(iter(self.tables.values()))

    @property
    def kept(self) -> dict[str, Any]:
        """The round whose theta is the result of the run's own learner.

        ``learner``, ``round``, ``reached`` (rounds that were done) of ``planned`` ones, and
        ``scores``: those of the hospitals for validation if they have chosen the round, else None.

        ``InputError`` where the run is not finished.
        """
        kept: dict[str, Any] = self._saved()["kept"][0]
        return kept

    @property
    def rounds(self) -> list[dict[str, Any]]:
        """The rows of metrics of the run's own learner, in order, as ``observe`` gets them."""
        return list(self._folder.rows())

    @property
    def theta(self) -> NDArray[np.float32]:
        """The shared initialisation (dim,); ``InputError`` where the run is not finished."""
        self._saved()
        theta: NDArray[np.float32] = load_file(self.path / "theta.safetensors")["theta"]
        return theta

    def adapt(self, x: ArrayLike, y: ArrayLike, steps: int | None = None) -> Model:
        """Adapt the shared initialisation to a hospital's own records; nothing is sent anywhere.

        Args:
            x: records (n, *input_shape), prepared like the run's own (for example, grey values of
                images from -1 to 1).
            y: their labels (n,), of any type, with as many different ones as the run's tasks have
                classes (or any number from 2 on, if the learner shares no head). Where labels mean
                the same in all tasks, they are the classes' numbers from 0 on. For regression,
                targets (n, targets).
            steps: adaptation steps; None: the learner's ``adapt_steps``; 0: none.

        Raises:
            InputError: arrays that do not fit the run's tasks, or a run that is not finished.
        """
        learner, spec = self.run.client.inner, self.run.client.tasks.spec()
        records = _records(x, spec.input_shape)
        classes, labels = _labels(spec, y, len(records))
        setting = self._setting(spec, classes)

        def prepared(x: NDArray[np.float32]) -> Tensor:
            return torch.from_numpy(setting.prepare(x))

        count = learner.adapt_steps if steps is None else steps
        with one_thread():
            support = Batch(prepared(records), torch.from_numpy(labels), np.arange(len(records)))
            predictor = learner.adapt(setting, torch.from_numpy(self.theta), support, count)
        return Model(classes, spec.input_shape, lambda x: predictor(prepared(x.numpy())))

    def evaluate(
        self,
        *,
        episodes: int = EPISODES,
        shots: Sequence[int] | None = None,
        steps: Sequence[int] | None = None,
        queries: int | None = None,
        hospitals: JudgingRole = "unseen",
        baselines: Sequence[str] | None = None,
        out: str | Path | None = None,
        jobs: int = JOBS,
        seed: int = 0,
        overrides: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Judge the run again in detail, and return what evaluation.json holds.

        Args:
            episodes: at all hospitals together, spread evenly, for each number of shots.
            shots: support records of each class; None: 1, 5, 10, 20 and the run's own.
            steps: adaptation steps; None: 0, 5, 20 and the run's own.
            queries: query records of each class; None: as the run.
            hospitals: "unseen" or "validation"; those that trained never judge.
            baselines: their names; None: all that need no training, or were trained.
            out: a new folder for tables and pictures; None: one under ``evaluations``.
            jobs: processes that share the hospitals; they change no number.
            seed: which episodes; 0 begins with those of the final table.
            overrides: texts "client.inner.lr=0.1" on how learners adapt.

        Raises:
            ConfigError: the run is not finished, or a wish cannot be met.
            FolderTakenError: ``out`` holds something.
        """
        finished = open_finished(self.path)
        exam = exam_of(
            finished,
            role=hospitals,
            episodes=episodes,
            shots=shots,
            steps=steps,
            queries=queries,
            baselines=baselines,
            seed=seed,
            settings=overrides,
        )
        place = Path(out) if out else free_place(self.path, exam)
        fits = checked(exam, place, jobs)
        return evaluated(finished, exam, fits, place, jobs, lambda row: None).plain()

    def _setting(self, spec: TaskSpec, classes: Sequence[Any] | NDArray[Any] | None) -> Setting:
        """The setting for this number of classes; ``InputError`` if theta does not fit it."""
        model, learner = self.run.client.model, self.run.client.inner
        usual = Setting(model, spec)
        if classes is None or len(classes) == spec.outputs:
            return usual
        fitting = Setting(model, replace(spec, outputs=len(classes)))
        shared = [[one for one in learner.layers(s) if not one.local] for s in (usual, fitting)]
        if len(classes) < 2 or shared[0] != shared[1]:
            raise InputError(
                f"y: {len(classes)} different labels; this run's tasks have {spec.outputs} classes"
            )
        return fitting

    def _saved(self) -> dict[str, Any]:
        path = self.path / "result.json"
        if not path.is_file():
            raise InputError(f"{self.path}: the run is {self.status}, not finished: no result yet")
        saved: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return saved


def _records(x: ArrayLike, input_shape: tuple[int, ...]) -> NDArray[np.float32]:
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


def _targets(given: NDArray[Any], outputs: int) -> NDArray[np.float32]:
    targets = given.astype(np.float32).reshape(len(given), -1)
    if targets.shape[1] != outputs or not np.isfinite(targets).all():
        raise InputError(f"y has shape {given.shape}; give finite targets (n, {outputs})")
    return targets
