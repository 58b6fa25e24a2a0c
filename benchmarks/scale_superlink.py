"""What a real SuperLink with its database pays for each hospital, and how that grows.

A SuperLink is started on loopback with a database file, and the real ServerApp carries out two
rounds of the default run's length of theta. The hospitals are threads which speak Flower's fleet
interface: they register, pull, answer with noise of the right length, and push. They compute
nothing, so that what is measured is the way of a message.

    python benchmarks/scale_superlink.py [--sizes 100 300 1000] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from flwr.app import Message
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
)
from flwr.supercore.inflatable.inflatable_utils import (
    inflate_object_from_contents,
    pull_objects,
    push_objects,
)
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.fleet_http_connection import http_request_response

from metaward import sim
from metaward.privacy import Answer, Attendance, Release, Scores
from metaward.privacy.wire import Request, decode_request, encode_answer
from metaward.server.engines.flower import connection
from metaward.server.engines.follow import await_superlink, run_config
from metaward.server.engines.processes import Launcher, children, free_port
from metaward.server.folder import Folder
from metaward.yaml_text import override

PULLERS = 4
PULL_SECONDS = 3.0
"""Between two pulls of a node, as Flower's own SuperNode waits."""
DEADLINE = 1500.0
IDENTITY = threading.Lock()


def configuration(hospitals: int) -> sim.Sim:
    """Two rounds of the default run's network without privacy; ``hospitals`` train, one judges."""
    mapping = sim.load(sim.DEFAULT).mapping()
    for text in (
        *("privacy={mechanism: none}", "client.schedule=random", "client.warm_up=null"),
        *(f"client.tasks.hospitals={hospitals}", "client.tasks.unseen=1"),
        *("strategies.timeout=1200", "server.flower.startup_timeout=1200", "server.rounds=2"),
        "server.evaluation={every: 100, final_episodes: 2, baselines: []}",
    ):
        override(mapping, text)
    return sim.parse(mapping)


class Nodes:
    """Connected nodes; pull threads visit them in turn and answer in place of hospitals."""

    def __init__(self, run: sim.Sim, port: int, stack: ExitStack) -> None:
        self.seats, self.over, self.calls = run.client.tasks.roster(), threading.Event(), 0
        self.scores = tuple(score.name for score in run.setting().spec.kind.scores)
        began = time.monotonic()
        self.nodes = [self.joined(port, stack) for _ in self.seats]
        self.joined_seconds = time.monotonic() - began
        self.threads = [
            threading.Thread(target=self.serve, args=(k,), daemon=True) for k in range(PULLERS)
        ]

    def joined(self, port: int, stack: ExitStack) -> tuple[Any, ...]:
        """A node that has registered, and its ways to the SuperLink."""
        return stack.enter_context(http_request_response(f"127.0.0.1:{port}", insecure=True))

    def serve(self, first: int) -> None:
        """One thread's nodes, one after the other, until the run is over."""
        while not self.over.is_set():
            for place in range(first, len(self.nodes), PULLERS):
                self.visit(place)
            self.over.wait(PULL_SECONDS)

    def visit(self, place: int) -> None:
        """Pull; where there is a request, fetch it, answer and push."""
        node, receive, send, _, _, pull, push, confirm = self.nodes[place]
        self.calls += 1
        found = receive()
        if found is None:
            return
        head, tree = found
        run, number = head.metadata.run_id, head.metadata.message_id
        names = [one.object_id for one in iterate_object_tree(tree)]
        contents = pull_objects(names, pull_object_fn=partial(pull, run))
        message = inflate_object_from_contents(number, contents)
        assert isinstance(message, Message)
        message.metadata.__dict__["_message_id"] = number
        confirm(run, number)
        reply = self.reply(place, node, message)
        objects, shape = get_all_nested_objects(reply), get_object_tree(reply)
        wanted, session = send(reply, shape, 0.0)
        push_objects(objects, partial(push, run, session), object_ids_to_push=wanted)

    def reply(self, place: int, node: int, message: Message) -> Message:
        """The answer as a message of this node, whose identity Flower keeps for a whole process."""
        answer = self.answer(place, message.metadata.message_type, decode_request(message.content))
        with IDENTITY:
            TaskIdentity.task_id = TaskIdentity.run_id = message.metadata.run_id
            TaskIdentity.node_id = node
            reply = Message(encode_answer(answer), reply_to=message)
        reply.metadata.__dict__["_message_id"] = reply.object_id
        return reply

    def answer(self, place: int, kind: str, request: Request) -> Answer:
        """What a hospital would say, with noise for an update."""
        name, rng = self.seats[place].name, np.random.default_rng([place, request.round])
        if kind.startswith("query"):
            return Attendance(name, place)
        if request.episodes:
            level = np.full((len(self.scores), request.episodes), 0.5, np.float32)
            return Scores(name, request.round, self.scores, level, level)
        assert request.theta is not None
        return Release(name, request.round, rng.normal(size=request.theta.size).astype(np.float32))


def measure(hospitals: int) -> dict[str, Any]:
    """One run; seconds of processor time are those of the SuperLink itself."""
    run = configuration(hospitals)
    with tempfile.TemporaryDirectory(prefix="mwlink", dir="/tmp") as name, ExitStack() as stack:
        home, folder, port = Path(name), Folder(Path(name) / "result"), free_port()
        folder.create(run)
        (home / "config.toml").write_text(connection(port), encoding="utf-8")
        (home / "run.toml").write_text(run_config(run, folder), encoding="utf-8")
        launch = Launcher(home, environment(home), home / "log")
        link = stack.enter_context(launch(superlink(home, port)))
        await_superlink(link, f"http://127.0.0.1:{port}", home / "log", time.monotonic() + 180)
        server = psutil.Process(children(link)[0].pid)
        nodes = Nodes(run, port, stack)
        stack.enter_context(serving(nodes))
        stack.enter_context(launch(submission(home)))
        before = spent(server)
        states = list(watched(folder, server, home / "state.db"))
        return outcome(run, folder, nodes, states, before)


@contextmanager
def serving(nodes: Nodes) -> Iterator[None]:
    """The nodes answer while the block goes on."""
    for thread in nodes.threads:
        thread.start()
    try:
        yield
    finally:
        nodes.over.set()
        for thread in nodes.threads:
            thread.join()


def superlink(home: Path, port: int) -> list[str]:
    """A SuperLink with a database, on loopback."""
    options = ["--insecure", "--database", str(home / "state.db")]
    options += ["--disable-runtime-dependency-installation"]
    return ["flower-superlink", *options, "--host", "127.0.0.1", "--port", str(port)]


def submission(home: Path) -> list[str]:
    """The real app and its configuration."""
    command = ["flwr", "run", str(sim.HERE), "private", "--stream"]
    return [*command, "--run-config", str(home / "run.toml")]


def environment(home: Path) -> dict[str, str]:
    """A private home of Flower's."""
    own = {"FLWR_HOME": str(home), "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, **own, "PATH": path, "OMP_NUM_THREADS": "1"}


def spent(process: psutil.Process) -> float:
    """Seconds of processor time of the SuperLink, without the processes that it has started."""
    times = process.cpu_times()
    return float(times.user + times.system)


def size(database: Path) -> int:
    """Bytes of the database with its journal."""
    return sum(path.stat().st_size for path in database.parent.glob(database.name + "*"))


State = dict[str, float]


def watched(folder: Folder, server: psutil.Process, database: Path) -> Iterator[State]:
    """What the SuperLink has spent and its database holds after each round, and at the end."""
    deadline, seen = time.monotonic() + DEADLINE, 0
    while folder.status()[0] not in ("finished", "failed") and time.monotonic() < deadline:
        time.sleep(0.2)
        rows = [row for row in folder.rows() if "accepted" in row] if folder.exists() else []
        if len(rows) > seen:
            seen = len(rows)
            memory = server.memory_info().rss
            yield {"cpu": spent(server), "bytes": size(database), "memory": memory}
    if folder.status()[0] != "finished":
        raise SystemExit(f"the run is {folder.status()}")


def outcome(
    run: sim.Sim, folder: Folder, nodes: Nodes, states: Sequence[State], before: float
) -> dict[str, Any]:
    """The figures of one run."""
    rows = [row for row in folder.rows() if "accepted" in row]
    last, first = states[-1], states[0]
    count = len(run.client.tasks.roster()) - 1
    return {
        "hospitals": count,
        "accepted": [len(row["accepted"]) for row in rows],
        "seconds_to_join_each": nodes.joined_seconds / len(nodes.seats),
        "seconds_a_round": [row["seconds"] for row in rows],
        "superlink_cpu_s_roll_call_and_first_round": first["cpu"] - before,
        "superlink_cpu_s_second_round": last["cpu"] - first["cpu"],
        "superlink_cpu_ms_a_hospital_and_round": 1e3 * (last["cpu"] - first["cpu"]) / count,
        "database_mb": [state["bytes"] / 1e6 for state in states],
        "superlink_memory_mb": [state["memory"] / 1e6 for state in states],
        "pulls_of_hospitals": nodes.calls,
    }


def main() -> None:
    """Measure each size, and write after each."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sizes", type=int, nargs="+", default=[100, 300, 1000])
    options.add_argument("--out", type=Path)
    chosen = options.parse_args()
    found = []
    for hospitals in chosen.sizes:
        found.append(measure(hospitals))
        print(json.dumps(found[-1]), flush=True)
        if chosen.out:
            chosen.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
