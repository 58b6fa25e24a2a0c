"""A deployment on this machine, from the first key to the last process, and its runs.

It has the same SuperLink, SuperNodes, TLS and node authentication as between hospitals, on
loopback. All its processes end with it, and with the process that started it.
"""

from __future__ import annotations

import json
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from metaward import sim
from metaward.client.tasks.base import Role
from metaward.files import replace_file
from metaward.options import ConfigError
from metaward.server.baselines import BASELINES
from metaward.server.deploy import commands, layout
from metaward.server.deploy.guards import await_guards, guarded
from metaward.server.deploy.layout import HospitalFiles, Site
from metaward.server.deploy.sign_off import LAPSE_SECONDS, sign_off
from metaward.server.deploy.stuck import ExecutorWatch, Pace, Watch
from metaward.server.deploy.supervisor import Supervised
from metaward.server.engines.follow import (
    EngineError,
    Trail,
    await_superlink,
    check_checkout,
    follow,
    run_config,
    true_ending,
    with_log,
)
from metaward.server.engines.processes import Launcher, Process, children, free_port
from metaward.server.engines.progress import Progress
from metaward.server.folder import Folder
from metaward.server.run import Observer

RESTART_SECONDS = 5.0
GUARD_SECONDS = 2.0  # before an ended guard is started again; its SuperNode's app waits for it
GOODBYE_SECONDS = 8.0  # SuperNodes that are asked to end sign off at the SuperLink within it
POLL_SECONDS = 0.25
NOUNS: dict[Role, str] = {
    "train": "training",
    "unseen": "unseen",
    "validation": "for validation",
}
IDLE = (
    "the SuperLink has lost the process that starts the server's app, as it does where it does "
    "not answer for half a minute; start the deployment again, and resume the run"
)
KNOWN = "already in use"  # what Flower says of a key that was registered before


@dataclass
class Deployment:
    """A SuperLink that answers, and a supervised SuperNode and guard (if any) for each hospital."""

    site: Site
    port: int
    link: Process
    nodes: Sequence[Supervised]
    guards: Sequence[Supervised] = ()
    alive: Mapping[str, int] = field(default_factory=dict)
    written: Mapping[str, int] = field(default_factory=dict)
    watch: ExecutorWatch = field(default_factory=ExecutorWatch)
    pace: Pace = field(default_factory=Pace)

    def carry_out(self, run: sim.Sim, folder: Folder, observe: Observer) -> None:
        """Submit a run and follow it to its end; ``EngineError`` where it failed.

        The folder's status is right afterwards, as with every engine.
        """
        with true_ending(folder):
            progress = Progress(folder, observe)
            config = self.site.home / "run.toml"
            config.write_text(run_config(run, folder), encoding="utf-8")
            log = fresh(self.site.log("run"))

            def look() -> None:
                progress.show()
                self.look()

            trail = Trail(folder, log, _deadline(run), look)
            with _server_launcher(self.site, log)(commands.submission(config)) as stream:
                follow((self.link, stream), trail)

    def look(self) -> None:
        """Start ended processes again; write down the process ids if they changed.

        ``EngineError`` where the SuperLink lives and can start no run any more.
        """
        for superlink in children(self.link)[:1] if self.pace.due() else []:
            if self.watch.finds_none(superlink):
                raise EngineError(with_log(IDLE, self.site.log("superlink")))
        for one in (*self.guards, *self.nodes):
            one.look()
        alive = {name: warden.pid for name, warden in self.wardens().items()}
        if alive != self.alive or len(self.written) < len(alive):
            self.alive, self.written = alive, self.pids()
            replace_file(self.site.pids, (json.dumps(self.written, indent=1) + "\n").encode())

    def wardens(self) -> dict[str, Process]:
        """The live wardens: ``superlink``, SuperNodes by the hospital's name, ``NAME.guard``."""
        every = (*self.guards, *self.nodes)
        hospitals = {one.name: one.process for one in every if one.process is not None}
        found = {"superlink": self.link, **hospitals}
        return {name: process for name, process in found.items() if process.poll() is None}

    def pids(self) -> dict[str, int]:
        """The process ids of the live SuperLink and SuperNodes themselves, not their wardens'."""
        live = {name: children(warden) for name, warden in self.wardens().items()}
        return {name: below[0].pid for name, below in live.items() if below}

    def keep(self) -> None:
        """Keep the processes alive until Ctrl-C; ``EngineError`` where the SuperLink dies."""
        while self.link.poll() is None:
            self.look()
            time.sleep(POLL_SECONDS)
        raise EngineError(with_log("the SuperLink ended", self.site.log("superlink")))


@contextmanager
def deployment(
    run: sim.Sim, site: Site, policy: Path, pause: float = RESTART_SECONDS, guard: bool = True
) -> Iterator[Deployment]:
    """Files, SuperLink, registered keys, guards, SuperNodes for a run; all end on leaving.

    ``policy`` is copied for a hospital that has none; ``pause`` is how many seconds pass before an
    ended SuperNode is started again; ``guard`` says whether hospitals have guards.
    ``ConfigError`` where the files cannot be made, ``BusyError`` where another deployment runs from
    the folder, ``EngineError`` where Flower or a guard does not start.
    """
    check_checkout()
    names = [seat.name for seat in run.client.tasks.roster()]
    with site.lock(), ExitStack() as stack:
        layout.prepare(site, names, policy, sim.data_root(run))
        hospitals: Sequence[HospitalFiles] = site.hospitals(names)
        if guard:
            sockets = stack.enter_context(TemporaryDirectory(prefix="mw-guards-"))
            hospitals = guarded(hospitals, Path(sockets))
        guards = [supervised_guard(site, hospital) for hospital in hospitals if hospital.socket]
        up = Deployment(site, port := free_port(), _started(site, port, stack, run), [], guards)
        stack.callback(take_down, up)
        up.nodes = [supervised(site, hospital, port, pause) for hospital in hospitals]
        for one in guards:
            one.start()
        if guard:
            await_guards(site, hospitals, guards, _deadline(run))
        for node, hospital in zip(up.nodes, hospitals, strict=True):
            register(site, hospital, _deadline(run))
            node.start()
        up.look()
        yield up


def _started(site: Site, port: int, stack: ExitStack, run: sim.Sim) -> Process:
    """A SuperLink that answers at this port, until the stack is left."""
    log = fresh(site.log("superlink"))
    commands.write_connection(site, port)
    link = stack.enter_context(_server_launcher(site, log)(commands.superlink(site, port)))
    trust = ssl.create_default_context(cafile=site.authority.certificate)
    await_superlink(link, f"https://127.0.0.1:{port}", log, _deadline(run), trust)
    return link


def supervised(site: Site, hospital: HospitalFiles, link: int, pause: float) -> Supervised:
    """A hospital's SuperNode, not started yet."""

    def command() -> list[str]:
        return commands.supernode(site, hospital, link, free_port())

    def signed_off() -> str:
        where, log = f"{commands.LOOPBACK}:{link}", site.log(hospital.name)
        return sign_off(where, site.authority.certificate, hospital.key, log)

    made = _supervised(site, hospital, hospital.name, command, pause)
    watch = Watch(made.launcher.log)
    return replace(made, sign_off=signed_off, lapse=LAPSE_SECONDS, watch=watch)


def supervised_guard(site: Site, hospital: HospitalFiles) -> Supervised:
    """A hospital's guard, not started yet."""
    name = f"{hospital.name}.guard"
    return _supervised(site, hospital, name, lambda: commands.guard(hospital), GUARD_SECONDS)


def _supervised(
    site: Site,
    hospital: HospitalFiles,
    name: str,
    command: Callable[[], Sequence[str]],
    pause: float,
) -> Supervised:
    launcher = Launcher(
        hospital.home, commands.hospital_environment(hospital), fresh(site.log(name))
    )

    def say(text: str) -> None:
        with site.log("supervisor").open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {text}\n")

    return Supervised(name, launcher, command, pause, say)


def register(site: Site, hospital: HospitalFiles, deadline: float) -> None:
    """Register a hospital's public key at the SuperLink; a repetition does no harm."""
    log = fresh(site.log(f"register-{hospital.name}"))
    with _server_launcher(site, log)(commands.register(hospital)) as process:
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS / 5)
    if process.returncode and KNOWN not in log.read_text(encoding="utf-8", errors="replace"):
        raise EngineError(with_log(f"the key of {hospital.name} was not registered", log))


def take_down(up: Deployment) -> None:
    """End all at once; a SuperNode that signs off can later reconnect without a pause."""
    every = (*up.nodes, *up.guards)
    for one in every:
        one.ask_to_end()
    deadline = time.monotonic() + GOODBYE_SECONDS
    for one in every:
        one.end(deadline)
    up.site.pids.unlink(missing_ok=True)


def check_size(run: sim.Sim, hospitals: int) -> None:
    """``ConfigError`` unless there is one SuperNode for each hospital."""
    roster = run.client.tasks.roster()
    if len(roster) != hospitals:
        counts = Counter(seat.role for seat in roster)
        shares = ", ".join(f"{n} {NOUNS[role]}" for role, n in counts.items())
        raise ConfigError(
            [
                f"--local {hospitals}: the configuration has {len(roster)} hospitals "
                f"({shares}); use --local {len(roster)}, or change client.tasks"
            ]
        )


def check_baselines(run: sim.Sim) -> None:
    """``ConfigError`` where a private run also trains a baseline without privacy.

    A policy allows the one or the other, so that no hospital would answer both.
    """
    if not run.privacy.unit.protected:
        return
    names = run.server.evaluation.baselines
    bare = [n for n in names if any(c.trained and not c.private for c in BASELINES[n](run))]
    if bare:
        left = ", ".join(name for name in names if name not in bare)
        raise ConfigError(
            [
                f"server.evaluation.baselines: {', '.join(bare)} trains on the hospitals' records "
                "without any privacy, which the policy of a private run refuses; leave it out: "
                f"--set 'server.evaluation.baselines=[{left}]'"
            ]
        )


def fresh(log: Path) -> Path:
    """An empty log; the log of an earlier deployment is kept as .old."""
    if log.exists():
        log.replace(log.with_suffix(".old"))
    return log


def _server_launcher(site: Site, log: Path) -> Launcher:
    return Launcher(site.home, commands.server_environment(site), log)


def _deadline(run: sim.Sim) -> float:
    return time.monotonic() + run.server.flower.startup_timeout
