"""The result of a run, as plain tables and as a model that adapts to a hospital's records."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors.numpy import load_file

from metaward.errors import InputError
from metaward.server.adapting.model import Model as Model
from metaward.server.adapting.model import adapted
from metaward.server.evaluations.evaluate import JOBS, checked, evaluated, free_place
from metaward.server.evaluations.exam import EPISODES, JudgingRole, exam_of
from metaward.server.evaluations.finished import open_finished
from metaward.server.folder import Folder
from metaward.server.office.accounts.account import account
from metaward.server.office.accounts.places import places
from metaward.sim import Sim


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
    def missed(self) -> list[dict[str, Any]]:
        """Each hospital whose answers did not all count, and of which learner's training.

        ``hospital``, ``learner``, ``asked`` (rounds), ``missed`` (of these), ``reasons`` (reason ->
        rounds; ``no-reply`` for silence), and ``losses`` (rounds in which its update counted and
        its loss was left out). Empty where all took part in all that they were asked for.

        ``InputError`` where the run is not finished.
        """
        missed: list[dict[str, Any]] = self._saved().get("missed", [])
        return missed

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

    @property
    def spent(self) -> list[dict[str, Any]]:
        """What each hospital has spent by its own ledger, a dict for each.

        ``hospital``, ``learner``, ``participations`` (the most of any one unit), and ``epsilon`` at
        ``delta`` (infinity where a unit was used without noise). Empty where no ledger lies in the
        folder: without privacy, and in a deployment, whose hospitals keep theirs.
        """
        accounts = (account(path) for path in places([self.path]).ledgers)
        return [
            {
                "hospital": one.hospital,
                "learner": one.learner,
                "participations": one.participations,
                "epsilon": spent.epsilon,
                "delta": spent.delta,
            }
            for one in accounts
            for spent in one.spent
        ]

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
        return adapted(self.run, self.theta, x, y, steps)

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

    def _saved(self) -> dict[str, Any]:
        if not (self.path / "result.json").is_file():
            raise InputError(f"{self.path}: the run is {self.status}, not finished: no result yet")
        return self._folder.result()
