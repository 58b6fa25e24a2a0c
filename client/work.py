"""How a hospital answers a request: open its records, charge, run the inner loops, release.

In a simulation everything here is a pure function of (configuration, seed, hospital, round): the
same request gives the same answer in every engine and with any number of workers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from threading import RLock
from typing import Literal

import numpy as np
import torch
from cachetools import LRUCache, cached

from metaward.client.charging import Plan, charges, plan
from metaward.client.desk import Desk
from metaward.client.inner import Kept, Setting, Update
from metaward.client.inner.at_once import AUTO, TasksAtOnce
from metaward.client.judging import judge, parts
from metaward.client.memory import check_session
from metaward.client.models import Architecture
from metaward.client.node import Node, seat_of
from metaward.client.prepared import SameRecords, prepare
from metaward.client.schedule import Dealt, Share, deal, name_of, pass_share, random_share
from metaward.client.tasks.base import Episode, Hospital, Role, TaskSource, TaskSpec
from metaward.privacy import Attendance, Mechanism, Opening, Release, Scores, Unit
from metaward.privacy.asked import Asked, PolicyError
from metaward.privacy.ledger import Entry, RequestKey
from metaward.privacy.wire import Request, WireError, digest, marked, pack, unpack

Purpose = Literal["train", "evaluate", "deal"]
MOST = 512 << 20
"""Bytes of dealt tasks that a process keeps for its next requests."""
_STREAM = {"train": 1, "evaluate": 2, "deal": 4}


def attend(desk: Desk, request: Request, node: Node) -> Attendance:
    """Take the seat; opens the records once, so that bad data are found before any round."""
    _admit(desk, request, node)
    hospital = open_hospital(desk.source, node.index, node.root, desk.seed)
    if hospital.seat.role == "train":
        check_promise(desk.mechanism, hospital)
    return Attendance(hospital.seat.name, node.index)


def train(desk: Desk, request: Request, node: Node) -> Release:
    """One round's meta-update: admitted, charged, computed, stored, and only then returned.

    A repeated request is answered with the same bytes, because fresh noise would be a second
    release.
    """
    _admit(desk, request, node, "train")
    shared = open_setting(desk, node.device, node.at_once)
    guard, theta, opening = node.guard, _theta(desk, shared, request), request.round == 1
    hospital = open_hospital(desk.source, node.index, node.root, desk.seed)
    check_promise(desk.mechanism, hospital)
    with one_thread():
        share = tasks_of(desk, prepare(hospital, shared), node.index, request.round)
        setting = shared.recalling(_recalled(node, request))
        start = torch.from_numpy(theta).to(setting.device)
        again = partial(stream, desk.seed, "train", node.index, request.round, 1)
        learner, first = desk.learner, desk.first
        price = plan(desk.mechanism, learner, setting, start, share, again(), first, opening)
        guard.admit(_asked(desk, hospital, request, share, price), request.mark)
        key = RequestKey(request.run, request.round, "train", digest(request))
        owed = charges(desk.mechanism, price, hospital)
        tasks = _fixed_tasks(desk, hospital, node.index)
        entry = guard.charge(key, price.description, owed, desk.mechanism.budget, tasks)
        if entry is not None and entry.reply is not None:
            return _sent(entry)
        owners = desk.mechanism.unit.owners(hospital)
        session = desk.mechanism.session(Opening(price.uses, price.noise, owners, guard.noise))
        if node.memory is not None:
            check_session(session, desk.mechanism.unit)
        worker = desk.worker(request.round)
        update = worker.update(setting, start, share.episodes, session, again())
    name = hospital.seat.name
    release = desk.mechanism.release(name, request.round, update.delta, update.loss, None)
    reply = pack(release)
    _keep(node, request, update, reply)
    if entry is None or guard.ledger is None:
        return release
    return _sent(guard.ledger.answer(entry, reply))


def _sent(entry: Entry) -> Release:
    """The stored reply, with the mark of its row: a copy of the ledger without it is found out."""
    assert entry.reply is not None
    return marked(unpack(entry.reply), entry.sent)


def _recalled(node: Node, request: Request) -> Kept:
    return {} if node.memory is None else node.memory.recall(request.round)


def _keep(node: Node, request: Request, update: Update, reply: bytes) -> None:
    """Write what the learner keeps; called before the reply is stored, which makes it count."""
    if node.memory is not None:
        node.memory.keep(request.round, update.keep, digest(request), reply)
    elif update.keep:
        raise ValueError(
            f"the learner keeps {', '.join(update.keep)}, but its class does not say remembers"
        )


def evaluate(desk: Desk, request: Request, node: Node) -> Scores:
    """Scores of theta before and after adaptation on this hospital's episodes.

    The episodes depend on the hospital and its sitting, not on the round or the learner: every
    learner of a run is judged on the same ones. No epsilon covers them, so a hospital that trains,
    or ever did, gives no scores.
    """
    _admit(desk, request, node, "unseen", "validation")
    node.guard.refuse_if_charged()
    setting = open_setting(desk, node.device, node.at_once)
    theta = _theta(desk, setting, request)
    hospital = open_hospital(desk.source, node.index, node.root, desk.seed)
    names, mechanism = setting.spec.kind.score_names, desk.mechanism
    name = hospital.seat.name
    asked = Asked(
        "evaluate",
        name,
        mechanism.name,
        mechanism.unit.name,
        desk.rounds,
        request.round,
        request.episodes,
        metrics=names,
    )
    node.guard.admit(asked, request.mark)
    rng, sitting = stream(desk.seed, "evaluate", node.index, node.sitting.draw), node.sitting
    with one_thread():
        start, ready = torch.from_numpy(theta).to(setting.device), prepare(hospital, setting)
        ready = sitting.resized(ready, desk.source, node.index, node.root, desk.seed)
        most = setting.at_once.most(len(start)) if desk.learner.takes_stacks else 1
        drawn = (ready.episode(rng) for _ in range(request.episodes))
        pairs = [
            pair for e in parts(drawn, most) for pair in judge(setting, desk.learner, start, e)
        ]
    before, after = (list(zip(*one, strict=True)) for one in zip(*pairs, strict=True))
    return desk.mechanism.scores(name, request.round, names, before, after)


def tasks_of(desk: Desk, hospital: Hospital, index: int, round: int) -> Share:
    """The tasks of one round at one hospital, by the run's schedule."""
    share = _scheduled(desk, hospital, index, round)
    times = desk.mechanism.unit.participations(share.participations, desk.rounds)
    return Share(share.episodes, times)


def _scheduled(desk: Desk, hospital: Hospital, index: int, round: int) -> Share:
    if desk.schedule == "random":
        rng = stream(desk.seed, "train", index, round)
        return random_share(hospital, desk.tasks_per_round, desk.rounds, rng)

    first = _dealt_first(SameRecords(hospital), desk.source, desk.mechanism.unit, desk.seed, index)
    dealer = _dealer(desk, hospital, index)
    return pass_share(dealer, first, desk.tasks_per_round, desk.rounds, round)


def _dealer(desk: Desk, hospital: Hospital, index: int) -> Dealt:
    """Deals for each pass; where a unit is a whole task, the first deal serves all of them."""

    def dealt(number: int) -> tuple[Episode, ...]:
        unit = desk.mechanism.unit
        which = 0 if unit.clips_tasks else number
        return _dealt(SameRecords(hospital), desk.source, unit, desk.seed, index, which)

    return dealt


def _fixed_tasks(desk: Desk, hospital: Hospital, index: int) -> str | None:
    """What names the tasks of all rounds, where a unit is a whole task; else None."""
    if not desk.mechanism.unit.clips_tasks:
        return None
    return name_of(_dealer(desk, hospital, index)(0), hospital)


def _asked(desk: Desk, hospital: Hospital, request: Request, share: Share, price: Plan) -> Asked:
    protected = desk.mechanism.unit.protected
    return Asked(
        "train",
        hospital.seat.name,
        desk.mechanism.name,
        desk.mechanism.unit.name,
        desk.rounds,
        request.round,
        len(share.episodes),
        max(1, desk.learner.inner_steps),
        min(price.noise.values()) if protected else None,
        desk.mechanism.clip,
        () if protected else ("loss",),
        desk.mechanism.sampling_rate,
    )


def _admit(desk: Desk, request: Request, node: Node, *roles: Role) -> None:
    """``PolicyError`` unless the policy lets this hospital take part under the roster's name.

    Its role in the roster must be one of ``roles`` (none: any): a training hospital is never
    evaluated, and one that judges never trains.
    """
    seat = seat_of(desk, node.index)
    mechanism = desk.mechanism
    asked = Asked("attend", seat.name, mechanism.name, mechanism.unit.name, desk.rounds)
    node.guard.admit(asked, request.mark)
    if roles and seat.role not in roles:
        wanted = " or ".join(roles)
        raise PolicyError("policy-purpose", f"{seat.name} is no {wanted} hospital in the roster")


def check_promise(mechanism: Mechanism, hospital: Hospital) -> None:
    """``PolicyError`` where the guarantee says nothing at a hospital of so many units."""
    owners = mechanism.unit.owners(hospital)
    units = {owners[row] for row in hospital.rows.tolist()}
    if problem := mechanism.empty_promise(len(units)):
        raise PolicyError("policy-delta", problem)


def _theta(desk: Desk, setting: Setting, request: Request) -> np.ndarray:
    """The request's theta; ``WireError`` where the desk's learner has one of another shape."""
    if request.theta is None:
        raise ValueError("a request without theta")
    if request.theta.shape != tuple(desk.learner.initial(setting, desk.seed).shape):
        raise WireError("theta")
    return request.theta


def open_hospital(source: TaskSource, index: int, root: Path | None, seed: int) -> Hospital:
    """One hospital's records as they are now.

    They are opened for every request, so that none is used that its file no longer holds; a source
    keeps what it read only while the file is the same.
    """
    return source.hospital(index, root, seed)


@cached(LRUCache(4096), lock=RLock())
def _dealt_first(opened: SameRecords, source: TaskSource, unit: Unit, seed: int, index: int) -> int:
    """Tasks of the first deal: the number is asked for in every round, and outlives the tasks."""
    return len(_dealt(opened, source, unit, seed, index, 0))


def _bytes_of(tasks: tuple[Episode, ...]) -> int:
    return sum(task.nbytes for task in tasks)


@cached(LRUCache(MOST, getsizeof=_bytes_of), lock=RLock())
def _dealt(
    opened: SameRecords, source: TaskSource, unit: Unit, seed: int, index: int, number: int
) -> tuple[Episode, ...]:
    """One deal; it holds the records' values, so it is kept only while the records are the same."""
    return deal(opened.hospital, unit, stream(seed, "deal", index, number))


@lru_cache(maxsize=8)
def _setting(
    architecture: Architecture, spec: TaskSpec, device: str, at_once: TasksAtOnce
) -> Setting:
    setting = Setting(architecture, spec, device)
    setting.at_once = at_once.on(device, setting.network(0).module)
    return setting


def open_setting(desk: Desk, device: str = "cpu", at_once: TasksAtOnce = AUTO) -> Setting:
    """The networks for this run's tasks on one device, built once per process."""
    return _setting(desk.architecture, desk.spec, device, at_once)


def stream(seed: int, purpose: Purpose, index: int, round: int, *more: int) -> np.random.Generator:
    """The random stream of one hospital in one round for one purpose."""
    return np.random.default_rng([seed, _STREAM[purpose], index, round, *more])


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one torch thread: faster with several workers, and sums do not depend on the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
