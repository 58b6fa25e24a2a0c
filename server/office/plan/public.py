"""A run's learner on public records: what clipping and noise leave of the sums that it follows.

The learner plays the run's first rounds at all training hospitals of a public source, without
noise; only the lengths and directions of its sums are kept. The noise is that of the planned run:
of its own hospitals, with as many records as they have.

Whether a run can work is not read off these numbers: a clipped gradient can point elsewhere than a
plain one and teach as much. For that the run is rehearsed on the public tasks, with and without
privacy (``server.office.plan.rehearse``).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from pathlib import Path

import numpy as np
import torch

from metaward.client.inner import Kept, Update
from metaward.client.prepared import prepare
from metaward.client.tasks.base import Hospital
from metaward.client.work import (
    one_thread,
    open_hospital,
    open_setting,
    stream,
    tasks_of,
)
from metaward.privacy import Session
from metaward.privacy.description import SumDescription
from metaward.privacy.measured import (
    FACTORS,
    OWN,
    VALUES,
    Measure,
    Notes,
    Sum,
    Watching,
    WatchingTasks,
)
from metaward.privacy.mechanisms.base import Protected
from metaward.server.office.plan.plan import Left, Planned, leading, signal_to_noise
from metaward.server.office.plan.question import Question
from metaward.server.office.plan.rehearsal import rehearsed
from metaward.server.run import outer_of
from metaward.sim import Sim, data_root, parse

ROUNDS = 2  # the first, and one that begins where it ended
POOLED = ("query", "adjoint", "moments", "update")
"""Kinds of sums that reach the server, which adds them up over its hospitals."""
SIZED = ("centre", "features")
"""Kinds of sums whose size counts for what is learned, so that a best clip norm can be named."""


def left_on_public(plan: Planned, asked: Question, public: Sim) -> tuple[Left, ...]:
    """What clipping and noise leave of the sums of a plan's run on the tasks of ``public``, whose
    records are opened.

    Empty without protection. ``ConfigError`` where the public tasks do not fit the run;
    ``DataError`` where their records cannot be opened.
    """
    if plan.ratio is None:
        return ()
    rounds = rehearsed(asked.run, plan.tasks_per_round, plan.participations)
    followed = leading(rounds.later.description.sums).kind
    measures = watched(on_public(asked.run, public), followed, data_root(public))
    return tuple(
        _left(asked, plan, one, measures[one.kind], followed)
        for one in plan.sums
        if one.kind in measures
    )


def on_public(run: Sim, public: Sim) -> Sim:
    """``run`` with tasks and seed of ``public``; ``ConfigError`` where they do not fit."""
    mapping = run.mapping()
    mapping["client"]["tasks"] = public.mapping()["client"]["tasks"]
    return parse({**mapping, "seed": public.seed}, "the run with the public tasks")


def _left(
    asked: Question, plan: Planned, one: SumDescription, found: Sequence[Measure], followed: str
) -> Left:
    """What is left of the sums of a kind; the mean over them, where a hospital uses each alone."""
    clip, norms = float(one.clip_norm or 0), np.concatenate([m.norms for m in found])
    noise, value = noise_of(asked, plan, one, found[0].dim, followed), one.kind in VALUES
    clipped, left = (np.mean([m.left(n, value) for m in found], axis=0) for n in (0.0, noise))
    best = int(left.argmax())
    low, middle, high = (float(q) for q in np.quantile(norms, (0.1, 0.5, 0.9)))
    return Left(
        one.kind,
        clip,
        (low, middle, high),
        float(np.mean(norms > clip)),
        float(clipped[OWN]),
        float(left[OWN]),
        float(f"{clip * FACTORS[best]:.2g}") if one.kind in SIZED else None,
    )


def noise_of(asked: Question, plan: Planned, one: SumDescription, dim: int, followed: str) -> float:
    """How long the noise on a mean (``dim``,) of such sums is, over the clip norm.

    Sums that reach the server are added up over its hospitals, and those that theta follows in all
    rounds over the rounds as well; a hospital uses each of the others alone.
    """
    if one.kind in POOLED or one.kind == followed:
        rounds = plan.rounds if one.kind == followed else 1
        return 1 / signal_to_noise(asked, one, dim) / sqrt(rounds)
    units = float(one.batch or 1)
    if asked.units is not None and asked.run.privacy.unit.cap is not None:
        units = min(units, asked.units)
    return one.noise_multiplier * sqrt(dim) / units


def watched(run: Sim, leading: str, root: Path | None) -> dict[str, list[Measure]]:
    """What was noted in the first rounds at all training hospitals of ``run``, by kind of sum."""
    mechanism, desk = run.privacy, run.desk()
    assert isinstance(mechanism, Protected)
    setting, notes = open_setting(desk), Notes(mechanism, {*POOLED, leading})
    theta, outer, kept = (
        desk.learner.initial(setting, run.seed),
        outer_of(run, setting),
        dict[int, Kept](),
    )
    state, roster = outer.init(theta.numpy()), run.client.tasks.roster()
    seats = [index for index, seat in enumerate(roster) if seat.role == "train"]

    def update(index: int, number: int) -> Update:
        hospital = prepare(open_hospital(desk.source, index, root, run.seed), setting)
        tasks = tasks_of(desk, hospital, index, number).episodes
        own, rng = setting.recalling(kept.get(index, {})), stream(desk.seed, "train", index, number)
        return desk.worker(number).update(own, theta, tasks, _session(notes, hospital), rng)

    for number in range(1, min(ROUNDS, run.server.rounds) + 1):
        with one_thread():
            updates = {index: update(index, number) for index in seats}
        kept = {index: one.keep for index, one in updates.items()}
        deltas = torch.stack([one.delta for one in updates.values()])
        if mechanism.unit.noise_at_server:
            notes.note("update", Sum.of([deltas], notes.clips("update")))
        at, combined = (number - 1) / run.server.rounds, deltas.mean(dim=0).numpy()
        moved, state = outer.step(theta.numpy(), combined, state, at)
        theta = torch.from_numpy(moved)
    return notes.measures()


def _session(notes: Notes, hospital: Hospital) -> Session:
    unit = notes.mechanism.unit
    if not unit.whole:
        _, numbers = np.unique(unit.owners(hospital).astype(str), return_inverse=True)
        return Watching(notes, numbers)
    return WatchingTasks(notes=notes)
