"""A federation of processes on this machine with a light transport in Flower's place.

The server process runs ``metaward.server.app.conduct``, each hospital ``client.answering.answer``,
as in a deployment. Between them is a Unix socket for each hospital: a request goes in, an answer
comes out. Processes are forked from a parent that has imported everything, so that one starts in
milliseconds. Hospitals are real (policy, ledger, signing key, noise from the operating system) or
simulated (seeded noise, ledgers in the result folder).
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from flwr.app import RecordDict

from metaward import sim
from metaward.client.answering import answer
from metaward.files import append_line
from metaward.privacy import Release
from metaward.privacy.wire import decode_answer, decode_request, digest
from metaward.server import app as server_app
from metaward.server.app import conduct
from metaward.server.deploy.layout import (
    HospitalFiles,
    Site,
    default_policy,
    prepare_hospital,
    seats,
)
from metaward.server.folder import Folder
from tests.faults.books import Seen, digest_of
from tests.faults.light_grid import LightGrid, received, send
from tests.server.small import small

TIMEOUT = 3.0
SETTINGS = (
    *("privacy={mechanism: sums, unit: record, epsilon: 8.0}", "client.schedule=passes"),
    *("client.tasks={source: sine, hospitals: 3, unseen: 1, functions: 10, points: 30}",),
    *("server.evaluation.baselines=[]", "server.checkpoint.keep=999"),
    *("strategies.hospitals_per_round=3", f"strategies.timeout={TIMEOUT}"),
    *("server.flower.startup_timeout=60.0", f"server.flower.return_timeout={TIMEOUT}"),
)


def configured(rounds: int, simulated: bool) -> sim.Sim:
    """A run of so many rounds, with one evaluation at its end.

    With seeded noise every hospital must answer in every round, so that the trajectory has to be
    that of a run without faults; otherwise a round goes on without one that is away.
    """
    quorum = 1.0 if simulated else 0.6
    length = (f"server.rounds={rounds}", f"server.evaluation.every={rounds}")
    return small(*SETTINGS, *length, f"strategies.quorum={quorum}")


@dataclass(frozen=True)
class Hospital:
    """One hospital: its files, and how its node config looks."""

    files: HospitalFiles
    simulation: Path | None
    sockets: Path

    @property
    def config(self) -> dict[str, Any]:
        """What a SuperNode's node config would say."""
        if self.simulation is not None:
            return {"partition-id": self.files.index, "simulation": str(self.simulation)}
        own = {"policy": self.files.policy, "ledger": self.files.ledger}
        own |= {"data-root": self.files.data, "signing-key": self.files.signing_key}
        return {"partition-id": self.files.index} | {k: str(v) for k, v in own.items()}

    @property
    def sent(self) -> Path:
        """Every update that left, a line each, written before it leaves."""
        return self.sockets / f"{self.files.name}.sent.jsonl"

    def serve(self, generation: int) -> None:
        """Answer one request after the other, for ever."""
        with closing(socket.socket(socket.AF_UNIX)) as door:
            place = self.sockets / f"{self.files.index}-{generation}.sock"
            door.bind(str(place))
            door.listen(32)
            while True:
                with closing(door.accept()[0]) as line:
                    self._answer(line)

    def _answer(self, line: socket.socket) -> None:
        letter = received(line)
        if letter is None:
            return
        duty, records = pickle.loads(letter)
        found = answer(duty, records, self.config)
        self._note(records, found)
        try:
            send(line, pickle.dumps(found))
        except OSError:  # whoever asked has given up
            return

    def _note(self, records: RecordDict, found: RecordDict) -> None:
        release, request = decode_answer(found), decode_request(records)
        if isinstance(release, Release):
            about = Seen(
                self.files.name, request.run, request.round, digest(request), digest_of(release)
            )
            append_line(self.sent, json.dumps(asdict(about)))


# ---------------------------------------------------------------------------- the processes


class Federation:
    """A run, its result folder, its hospitals, and their processes by name (``server``, ...)."""

    def __init__(self, place: Path, simulated: bool, rounds: int) -> None:
        place.mkdir(parents=True)
        self.place, self.simulated = place, simulated
        self.folder, site = Folder(place / "run"), Site(place / "site")
        run = configured(rounds, simulated)
        names = [seat.name for seat in run.client.tasks.roster()]
        if not simulated:
            run = replace(run, server=replace(run.server, seats=seats(site, names)))
        self.run = run
        self.folder.create(run)
        simulation = self.folder.hospitals if simulated else None
        self.hospitals = [Hospital(one, simulation, place) for one in site.hospitals(names)]
        for one in self.hospitals if not simulated else ():
            prepare_hospital(one.files, default_policy(run), None)
        self.processes: dict[str, int] = {}
        self.generations = dict.fromkeys(names, 0)

    @property
    def names(self) -> list[str]:
        """The processes that there are: the server's and each hospital's."""
        return ["server", *self.generations]

    @property
    def ledgers(self) -> dict[str, Path]:
        """The ledgers of the hospitals that train."""
        if self.simulated:
            return {path.stem: path for path in self.folder.hospitals.glob("*/*.sqlite")}
        train = [seat.name for seat in self.run.client.tasks.roster() if seat.role == "train"]
        return {h.files.name: h.files.ledger for h in self.hospitals if h.files.name in train}

    def start(self, name: str) -> None:
        """Fork the process of this name; the server begins the run, or goes on with it."""
        log = self.place / f"{name}.log"
        if name == "server":
            self.processes[name] = forked(self._serve, log)
            return
        self.generations[name] += 1
        (one,) = (h for h in self.hospitals if h.files.name == name)
        generation = self.generations[name]
        self.processes[name] = forked(lambda: one.serve(generation), log)

    def _serve(self) -> None:
        for ending in (signal.SIGTERM, signal.SIGINT):  # as in metaward's commands
            signal.signal(ending, signal.default_int_handler)
        server_app._draw = lambda *_: None  # pictures take longer than all rounds
        grid = LightGrid(len(self.hospitals), self.folder, self.place)
        conduct(self.run, grid, self.folder, lambda row: None, self.simulated)

    def ended(self, name: str) -> int | None:
        """The exit code of a process that has ended since it was started; None while it lives."""
        process = self.processes.get(name)
        if process is None:
            return None
        gone, status = os.waitpid(process, os.WNOHANG)
        if not gone:
            return None
        del self.processes[name]
        return os.waitstatus_to_exitcode(status)

    def end(self) -> None:
        """End every process."""
        for process in self.processes.values():
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
        self.processes.clear()

    def left(self) -> list[Seen]:
        """Every update that has left a hospital."""
        paths = [one.sent for one in self.hospitals if one.sent.is_file()]
        return [seen for path in paths for seen in _lines(path)]


def _lines(path: Path) -> Iterator[Seen]:
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield Seen(**json.loads(line))
        except ValueError:  # the process was killed while it wrote: nothing had left
            continue


def forked(work: Callable[[], None], log: Path) -> int:
    """A new process that does ``work`` and logs into a file; exit code 1 where it fails."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        for stream in (1, 2):
            os.dup2(handle, stream)
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)
