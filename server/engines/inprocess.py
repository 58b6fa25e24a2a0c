"""A Flower Grid without a SuperLink: hospitals answer from worker processes on this machine.

The same ServerApp and ClientApp run as on Flower's own runtime; only the messages take a shorter
way. Hospital i always works in process i mod ``workers``, so each process holds the data of its
own hospitals only. ``workers = 1`` stays in this process.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Self

from flwr.app import Context, Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from metaward.client import shipping
from metaward.client.inner.company import side_by_side
from metaward.server.app import conduct
from metaward.server.engines.machine import CPU, Machine, machine
from metaward.server.folder import Folder
from metaward.server.run import Observer
from metaward.sim import Sim, data_root

SERVER_NODE, FIRST_NODE, RUN_ID = 1, 1000, 1
HOSPITAL_LOG = logging.getLogger("metaward.hospital")
log = logging.getLogger("metaward.server")


def run_inprocess(run: Sim, folder: Folder, observe: Observer) -> None:
    """Run a configuration in this process and its workers."""
    root = data_root(run)
    hospitals = len(run.client.tasks.roster())
    with (
        hospital_log(folder.hospital_log),
        InProcessGrid(hospitals, run.server.workers, root, folder, machine(run)) as grid,
    ):
        conduct(run, grid, folder, observe, simulated=True)


class InProcessGrid(Grid):
    """``hospitals`` nodes; a context manager, because worker processes must be ended.

    ``root`` is the data folder and ``machine`` the device in every hospital's node config;
    ``folder`` is that of the run, in which its hospitals keep their ledgers.
    """

    def __init__(
        self,
        hospitals: int,
        workers: int,
        root: Path | None,
        folder: Folder,
        machine: Machine = CPU,
    ) -> None:
        TaskIdentity.task_id = TaskIdentity.run_id = RUN_ID
        TaskIdentity.node_id = SERVER_NODE
        self._run = Run.create_empty(RUN_ID)
        self._hospitals, self._root, self._folder = hospitals, root, folder
        self._machine = machine
        self._workers = (
            [_Worker(folder.hospital_log) for _ in range(workers)] if workers > 1 else []
        )
        self._ids = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.end()

    @property
    def run(self) -> Run:
        """The only run of this grid."""
        return self._run

    def set_run(self, run: Run) -> None:
        """Take over run metadata."""
        self._run = run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """A message of this run."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """All hospitals; they are always present."""
        return range(FIRST_NODE, FIRST_NODE + self._hospitals)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Not offered: answers are collected by ``send_and_receive`` only."""
        raise TypeError("the in-process grid sends and receives in one step: send_and_receive")

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Not offered, as ``push_messages``."""
        raise TypeError("the in-process grid sends and receives in one step: send_and_receive")

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Replies of all hospitals that answer within ``timeout`` seconds.

        A worker that takes longer is ended and replaced, as a dead one is; its hospitals give no
        answer in this leg.
        """
        sent = list(messages)
        for message in sent:
            message.metadata.__dict__["_message_id"] = str(next(self._ids))
        return self._here(sent, timeout) if not self._workers else self._there(sent, timeout)

    def _here(self, sent: Sequence[Message], timeout: float | None) -> list[Message]:
        deadline = time.monotonic() + timeout if timeout else None
        replies: list[Message] = []
        for start in range(0, len(sent), self._machine.beside):
            if deadline and time.monotonic() > deadline:
                break
            some = sent[start : start + self._machine.beside]
            jobs = [partial(_work, *self._packed(message)) for message in some]
            answers = side_by_side(jobs) if len(jobs) > 1 else [job() for job in jobs]
            replies += map(pickle.loads, answers)
        return replies

    def _there(self, sent: Sequence[Message], timeout: float | None) -> list[Message]:
        futures: dict[Future[bytes], Message] = {}
        for message in sent:
            node = message.metadata.dst_node_id - FIRST_NODE
            worker = self._workers[node % len(self._workers)]
            futures[worker.submit(*self._packed(message))] = message
        wait(futures, timeout=timeout)
        replies = [reply for f, m in futures.items() if (reply := _reply(f, m)) is not None]
        for worker in self._workers:
            worker.renew_if_stuck()
        return replies

    def _packed(self, message: Message) -> tuple[bytes, dict[str, Any]]:
        """A pickled copy, so that no hospital can change the server's or another one's objects."""
        node = message.metadata.dst_node_id
        config: dict[str, Any] = {
            "partition-id": node - FIRST_NODE,
            "num-partitions": self._hospitals,
            "simulation": str(self._folder.hospitals.resolve()),
            **self._machine.config(),
        }
        if self._root:
            config["data-root"] = str(self._root)
        return pickle.dumps(message), config


def _reply(future: Future[bytes], message: Message) -> Message | None:
    if not future.done():
        return None
    try:
        reply = pickle.loads(future.result())
        assert isinstance(reply, Message)
        return reply
    except BrokenProcessPool:
        HOSPITAL_LOG.error(
            "no answer from hospital number %d of the roster: its worker process died; if nothing "
            "above says why, it was killed, as a machine without free memory does: try fewer "
            "server.workers",
            message.metadata.dst_node_id - FIRST_NODE,
        )
        return Message(Error(ErrorCode.CLIENT_APP_CRASHED, None), reply_to=message)


class _Worker:
    """One process with one torch thread, replaced when it dies or takes too long."""

    def __init__(self, log_file: Path) -> None:
        self._log_file, self._plugins = log_file, shipping.packed()
        self._pending: list[Future[bytes]] = []
        self._start()

    def _start(self) -> None:
        self._pool = ProcessPoolExecutor(
            1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(self._log_file, self._plugins),
        )

    def submit(self, message: bytes, config: dict[str, Any]) -> Future[bytes]:
        """Queue a message; a dead process is replaced first."""
        with _script_left_alone():
            try:
                future = self._pool.submit(_work, message, config)
            except BrokenProcessPool:
                log.warning("a worker process died and was replaced")
                self._start()
                future = self._pool.submit(_work, message, config)
        self._pending.append(future)
        return future

    def renew_if_stuck(self) -> None:
        """End a process that still works on a leg that is over."""
        self._pending = [f for f in self._pending if not f.done()]
        if self._pending:
            log.warning("a worker process overran the timeout and was replaced")
            self.end()
            self._start()

    def end(self) -> None:
        """Stop at once; nothing is lost, because answers are pure functions of their requests."""
        processes = list((self._pool._processes or {}).values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()
            process.join()
        self._pending = []


@contextmanager
def _script_left_alone() -> Iterator[None]:
    """Keep ``multiprocessing`` from running the main script again in each new worker, where a
    script that calls ``metaward.run`` at its top level would start another run."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


@contextmanager
def hospital_log(path: Path) -> Iterator[None]:
    """Send what hospitals log into a file of the result folder instead of the screen."""
    handler = _log_to(path)
    try:
        yield
    finally:
        HOSPITAL_LOG.removeHandler(handler)
        HOSPITAL_LOG.propagate = True
        handler.close()


def _log_to(path: Path) -> logging.Handler:
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    HOSPITAL_LOG.addHandler(handler)
    HOSPITAL_LOG.propagate = False
    return handler


def _begin(log_file: Path, plugins: bytes) -> None:
    """Set up a worker process, which has its own log, ignores Ctrl-C and ends with its parent.

    ``plugins`` are the packed parts that the parent has registered.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _log_to(log_file)
    try:
        shipping.unpack(plugins)
    except Exception:
        HOSPITAL_LOG.exception("the registered parts cannot be set up in a worker process")
        raise
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _work(message: bytes, config: dict[str, Any]) -> bytes:
    """One message through the ClientApp, exactly as Flower would call it."""
    from metaward.client.app import app

    received = pickle.loads(message)
    node = received.metadata.dst_node_id
    context = Context(RUN_ID, node, config, RecordDict(), {})
    return pickle.dumps(app(received, context))
