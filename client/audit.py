"""An audit of a run's own mechanism, learner and network, on made-up records.

No hospital's data are opened: what is audited does not depend on them, and the auditor needs no
permission to see them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from math import ceil
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from metaward.client.charging import plan
from metaward.client.desk import Desk
from metaward.client.inner import Setting
from metaward.client.models import Layer
from metaward.client.schedule import Share
from metaward.client.tasks.base import TaskSize, TaskSpec
from metaward.client.tasks.made_up import random_tasks
from metaward.client.work import one_thread, open_setting
from metaward.privacy import Rehearsal, Session
from metaward.privacy.audit import CONFIDENCE, AuditReport, Effort, Layers, Stage, audit, claimed_mu
from metaward.privacy.audit.bounds import trials_needed
from metaward.privacy.noise import Noise
from metaward.privacy.session import ParameterGroup

TASKS = 2  # two, so that the noise of one can be compared with the other's
CANARIES = 256
SECONDS = 60.0
"""How long the attack may take; the checks of the sums take extra time."""


def audit_run(
    desk: Desk,
    noise: Callable[[int], Noise],
    participations: int,
    seed: int = 0,
    seconds: float = SECONDS,
    device: str = "cpu",
) -> AuditReport:
    """Attack what a run does at its hospitals, and check its parts.

    Args:
        desk: the run's parts.
        noise: round (from 0) -> the source of noise that a hospital has in that round.
        participations: in how many rounds a unit takes part; sets the noise that keeps the budget.
        seed: of the made-up records and the canaries, not of the noise.
        seconds: for the attack, on this machine; with few of them the bound is looser.
        device: the device of this machine that computes.

    Raises:
        ValueError: the mechanism claims nothing, or draws units in secret.
    """
    with one_thread():
        setting = open_setting(desk, device)
        stage = stage_of(desk, setting, noise, participations, seed)
        net, size = setting.network(setting.spec.outputs), _size(setting.spec, 1)
        budget = desk.mechanism.budget
        x = torch.from_numpy(random_tasks(setting.spec, size, 1, _rng(seed))[0].support_x)
        theta = net.initial(seed).to(setting.device)
        return audit(
            stage,
            _layers(desk.learner.layers(setting), desk.mechanism.trained),
            budget.delta if budget else 0.0,
            size_of(stage, participations, seconds),
            seed,
            (lambda x: net.forward(theta, x), torch.cat([x, x.flip(0)]).to(setting.device)),
        )


def stage_of(
    desk: Desk, setting: Setting, noise: Callable[[int], Noise], participations: int, seed: int
) -> Stage:
    """The run's mechanism, and one round of its learner on made-up records.

    Where the first round differs from later ones, it is a later one: a hospital then has what the
    learner keeps. The noise is that of tasks as large as the run's. The attack uses smaller ones,
    unless the learner takes mini-batches, because the size decides in how many of these a record
    is.
    """
    algorithm = desk.learner
    theta = algorithm.initial(setting, seed).to(setting.device)
    real = desk.source.task_size()
    small = real if algorithm.takes_batches else _size(setting.spec, 2)
    tasks = random_tasks(setting.spec, small, TASKS, _rng(seed))
    rehearsal = Rehearsal(desk.mechanism.trained)
    kept = desk.worker(1).update(setting, theta, tasks, rehearsal, _rng(seed)).keep
    setting = setting.recalling(kept)

    def work(session: Session) -> Tensor:
        return algorithm.update(setting, theta, tasks, session, _rng(seed)).delta

    share = Share(random_tasks(setting.spec, real, TASKS, _rng(seed)), participations)
    noises = plan(desk.mechanism, algorithm, setting, theta, share, _rng(seed), desk.first).noise
    rows = [[*e.support_rows.tolist(), *e.query_rows.tolist()] for e in tasks]
    return Stage(desk.mechanism, work, rows, np.arange(sum(map(len, rows))), noises, noise)


def size_of(stage: Stage, participations: int, seconds: float) -> Effort:
    """How many runs the attack plays: as many as a tight bound takes, and at least 2.

    Each has all rounds that a unit takes part in. Runs and rounds are fewer where ``seconds`` do
    not suffice, judged by the time of one round.
    """
    seen = stage.round(0, stage.canaries(2, _rng(0), stage.costliest()), None)
    m = min([CANARIES, *(len(one.values) for one in seen)]) // 2 * 2
    affordable = seconds / _time_of_a_round(stage, m)
    rounds = max(1, min(participations, int(affordable / 2)))
    needed = ceil(trials_needed(claimed_mu(stage, rounds), CONFIDENCE) / m)
    return Effort(m, rounds, max(2, ceil(100 / m), min(needed, int(affordable / rounds))))


def _time_of_a_round(stage: Stage, m: int) -> float:
    """Seconds of a round with m canaries; call it after a first round, which loads libraries."""
    started = perf_counter()
    stage.round(0, stage.canaries(m, _rng(0), stage.costliest()), stage.noise(0))
    return perf_counter() - started


def _size(spec: TaskSpec, each: int) -> TaskSize:
    """Tasks of ``each`` support and query records of each class."""
    n = each * max(1, spec.classes)
    return TaskSize(n, n)


def _layers(layers: Iterable[Layer], trained: Collection[ParameterGroup]) -> Layers:
    """Names of the layers and how many of their coordinates are trained."""
    return [(layer.name, layer.size if layer.group in trained else 0) for layer in layers]


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, 3])
