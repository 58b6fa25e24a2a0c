"""Every learner of a finished run on the same episodes, once for each number of shots and steps.

The hospitals are asked with the messages of a run, through the in-process engine; whichever engine
the run used, its hospitals gave the same scores. Only the judging ones are there: a training
hospital is not even opened.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Message
from numpy.typing import NDArray

from metaward.client.sitting import Sitting
from metaward.privacy.wire import Request
from metaward.server.baselines import BASELINES, Contender, own
from metaward.server.engines.inprocess import FIRST_NODE, InProcessGrid, hospital_log
from metaward.server.engines.machine import machine
from metaward.server.evaluations.exam import Exam
from metaward.server.evaluations.finished import Finished, Vector
from metaward.server.folder import Folder
from metaward.server.run import Observer, Run
from metaward.server.words import size_words
from metaward.sim import Sim, data_root
from metaward.strategies.quorum import QuorumError

PATIENCE = 7 * 24 * 3600.0
"""Seconds that simulated hospitals may take; the run's own limit is meant for a few episodes."""

Values = Mapping[str, NDArray[np.float32]]
"""A hospital's name -> its scores (scores, episodes), in the order of the kind of task."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one learner reached at each hospital: ``before`` and ``after`` adapting for ``steps``
    steps to ``shots`` support records (of each class, where there are classes)."""

    learner: str
    shots: int
    steps: int
    before: Values
    after: Values


@dataclass(frozen=True, eq=False)
class Cell:
    """The outcomes for one number of ``shots`` and of ``steps``; the first is the run's own
    learner. A learner with a step count of its own keeps it."""

    shots: int
    steps: int
    outcomes: tuple[Outcome, ...]


class JudgingGrid(InProcessGrid):
    """The in-process grid, on which only judging hospitals are present; all have ``sitting``."""

    def __init__(self, run: Sim, workers: int, folder: Folder, present: Iterable[str]) -> None:
        names = [seat.name for seat in run.client.tasks.roster()]
        super().__init__(len(names), workers, data_root(run), folder, machine(run))
        self.present = [FIRST_NODE + names.index(name) for name in present]
        self.sitting = Sitting()

    def get_node_ids(self) -> Iterable[int]:
        """The judging hospitals."""
        return self.present

    def _packed(self, message: Message) -> tuple[bytes, dict[str, Any]]:
        content, config = super()._packed(message)
        return content, config | self.sitting.config()


@dataclass(eq=False)
class Bench:
    """Where learners are judged: a finished run, what is asked, and the hospitals that answer.

    ``failed`` says which learner gave no scores where, and why; ``constant`` keeps the outcomes, by
    shots and name, of learners with a step count of their own.
    """

    finished: Finished
    exam: Exam
    grid: JudgingGrid
    observe: Observer
    failed: list[str] = field(default_factory=list)
    constant: dict[tuple[int, str], Outcome | None] = field(default_factory=dict)

    def cells(self, allowed: Iterable[int]) -> Iterator[Cell]:
        """A cell for each number of shots and of steps."""
        for shots in allowed:
            self.grid.sitting = Sitting(self.exam.draw, shots, self.exam.queries)
            asked = [steps for steps in self.exam.steps if steps] or [self._own_steps]
            found = {steps: self._outcomes(shots, steps) for steps in asked}
            for steps in self.exam.steps:
                outcomes = found[steps] if steps else map(self._at_once, found[asked[0]])
                yield Cell(shots, steps, tuple(outcomes))

    @property
    def _own_steps(self) -> int:
        return self.finished.run.client.inner.adapt_steps

    def _outcomes(self, shots: int, steps: int) -> list[Outcome]:
        """What every learner reached; one that gave no scores is left out and noted."""
        job = self._job(steps)
        everyone, found = self._contenders(job.sim), []
        for place, contender in enumerate(everyone, 1):
            outcome = self._known(job, contender, shots)
            found += [outcome] if outcome else []
            row = {"round": place, "of": len(everyone), "learner": contender.name}
            self.observe({"phase": size_words(shots, steps), **row})
        return found

    def _job(self, steps: int) -> Run:
        run = self.exam.at(steps)
        return Run(run, self.grid, self.finished.folder, self.observe, simulated=True)

    def _contenders(self, run: Sim) -> list[Contender]:
        return [own(run), *(one for name in self.exam.baselines for one in BASELINES[name](run))]

    def _known(self, job: Run, contender: Contender, shots: int) -> Outcome | None:
        """The outcome, which is not computed again where it does not depend on the run's steps."""
        if contender.name not in self._constant:
            return self._outcome(job, contender, shots)
        key = shots, contender.name
        if key not in self.constant:
            self.constant[key] = self._outcome(job, contender, shots)
        return self.constant[key]

    def _outcome(self, job: Run, contender: Contender, shots: int) -> Outcome | None:
        """One learner's scores, or None if a hospital gave none; ``QuorumError`` for the run's
        own learner."""
        strategy = job.strategy(contender)
        strategy.timeout = PATIENCE
        theta, steps = self._theta(job, contender), contender.learner.adapt_steps
        request = Request(strategy.num_rounds, strategy.desk, theta, self.exam.each)
        answers, rejected = strategy.evaluate(self.grid, self.exam.hospitals, request)
        if rejected:
            self._fail(contender, size_words(shots, steps), rejected)
            return None
        before = {answer.hospital: answer.before for answer in answers}
        after = {answer.hospital: answer.after for answer in answers}
        return Outcome(contender.name, shots, steps, before, after)

    def _theta(self, job: Run, contender: Contender) -> Vector:
        """The theta that the run has made of this learner."""
        if contender.name == job.own.name:
            return self.finished.theta
        if not contender.trained:
            return job.start(contender)
        return self._trained[contender.key]

    @cached_property
    def _trained(self) -> dict[str, Vector]:
        """The theta of every trained baseline, by its key."""
        everyone = self._contenders(self.finished.run)[1:]
        found = {one.key: self.finished.trained(one) for one in everyone if one.trained}
        return {key: theta for key, theta in found.items() if theta is not None}

    def _fail(self, contender: Contender, where: str, rejected: Mapping[str, str]) -> None:
        reasons = ", ".join(f"{hospital} ({why})" for hospital, why in rejected.items())
        text = f"{contender.name}, {where}: no scores from {reasons}"
        if contender.name == own(self.finished.run).name:
            raise QuorumError(text)
        self.failed.append(text)

    def _at_once(self, outcome: Outcome) -> Outcome:
        """The outcome after no step; a learner with a step count of its own keeps it."""
        if outcome.learner in self._constant:
            return outcome
        return Outcome(outcome.learner, outcome.shots, 0, outcome.before, outcome.before)

    @cached_property
    def _constant(self) -> frozenset[str]:
        """Learners that take a number of steps of their own, whatever the run's learner takes."""
        counts = {self._own_steps, *self.exam.steps} - {0}
        pairs = [(n, one) for n in counts for one in self._contenders(self.exam.at(n))[1:]]
        return frozenset(one.name for steps, one in pairs if one.learner.adapt_steps != steps)


def examine(
    finished: Finished, exam: Exam, allowed: Iterable[int], jobs: int, observe: Observer, at: Path
) -> tuple[list[Cell], list[str]]:
    """All cells, and who gave no scores; ``at`` is a folder for the hospitals' log.

    ``jobs`` processes share the hospitals, and their number changes no score.
    """
    folder = Folder(at)
    with (
        hospital_log(folder.hospital_log),
        JudgingGrid(exam.run, jobs, folder, exam.hospitals) as grid,
    ):
        bench = Bench(finished, exam, grid, observe)
        try:
            return list(bench.cells(allowed)), bench.failed
        except QuorumError as error:
            error.add_note("".join(folder.hospital_lines(last=5)))
            raise
