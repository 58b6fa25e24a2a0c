"""A consortium on four machines, from its parcels: through gates and guards, as its services run.

The machines are network namespaces. Hospitals are installed by the commands of their parcel's
README, and what runs there are the commands of the systemd units, each under its own account.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from metaward import sim
from metaward.server.deploy.consortium.bundled import bundle_hash
from metaward.server.folder import Folder
from metaward.server.start import execute
from tests.server.deploy.live import wait_for
from tests.server.deploy.machines import ACCOUNTS, Host, machines, needs_machines

BIN = Path(sys.executable).parent
METAWARD = str(BIN / "metaward")
CONFIG = sim.HERE / "configs" / "deploy.yaml"
QUIET = {
    "PATH": f"{BIN}:{os.environ['PATH']}",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "OMP_NUM_THREADS": "1",
}
SECONDS = 240.0
ROUNDS = "server.rounds=3"
SEEDED = """
import sys
from dataclasses import replace
from metaward.client import node
from metaward.privacy.noise import SeededNoise

opened = node.open_guard

def seeded(config, mechanism, run, hospital, seed, charges):
    found = opened(config, mechanism, run, hospital, seed, charges)
    return replace(found, noise=SeededNoise(*seed))

node.open_guard = seeded
from metaward.server.cli import main
main()
"""
"""A guard with the noise of a simulation, so that a deployed theta can be compared."""
SPY = """

import json as _json, os as _os, pathlib as _pathlib

def _tried(what):
    try:
        what()
    except OSError as error:
        return type(error).__name__
    return "done"

def _spy():
    etc, state = _pathlib.Path("ETC"), _pathlib.Path("STATE")
    found = {name: _tried((state / name).read_bytes) for name in ("ledger.sqlite", "audit.jsonl")}
    found |= {name: _tried((etc / name).read_bytes) for name in ("policy.yaml", "signing.key")}
    found |= {name: _tried(lambda: list((state / name).iterdir())) for name in ("data", "memory")}
    found["forged"] = _tried(lambda: (etc / "policy.yaml").write_text("epsilon: 20"))
    found["removed"] = _tried((state / "ledger.sqlite").unlink)
    found["account"] = _os.getuid()
    (state / "node" / "spied.json").write_text(_json.dumps(found))

_spy()
"""
"""What a server could ship, once it was approved: it looks for everything that is not its own."""


@dataclass
class Consort:
    """The machines of a consortium, and what runs on them."""

    folder: Path
    hosts: list[Host]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def office(self) -> Path:
        return self.folder / "office"

    @property
    def server(self) -> Host:
        return self.hosts[0]

    @property
    def sites(self) -> dict[str, Host]:
        names = sorted(path.name for path in (self.office / "hospitals").iterdir())
        return dict(zip(names, self.hosts[1:], strict=True))

    @property
    def etc(self) -> Path:
        return self.server.place / "etc" / "metaward"

    @property
    def state(self) -> Path:
        return self.server.place / "var" / "lib" / "metaward"

    def command(self, *words: str) -> str:
        done = subprocess.run(
            [METAWARD, *words], capture_output=True, text=True, env=os.environ | QUIET, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, host: Host, unit: Path, name: str, home: str) -> None:
        """The command of a unit, as systemd would start it: its account, its environment."""
        text = unit.read_text()
        (line,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
        account = next(iter(re.findall(r"^User=(metaward-.*)$", text, re.MULTILINE)), "")
        umask = next(iter(re.findall(r"^UMask=(.*)$", text, re.MULTILINE)), "0022")
        command = shlex.split(line.replace("%%", "%"))
        if command[1] == "guard":
            command = [sys.executable, "-c", SEEDED, *command[1:]]
        own = {"FLWR_HOME": str(self.state / home), "HOME": str(self.state / home)}
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                host.words(command, account),
                stdout=log,
                stderr=log,
                env=os.environ | QUIET | own,
                start_new_session=True,
                umask=int(umask, 8),
            )

    def end(self, name: str) -> None:
        process = self.running.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def install_server(self) -> None:
        self.server.unpack(self.office / "parcels" / "server.tar.gz", self.etc)
        home = self.server.own / "var/lib/metaward/flower"
        home.mkdir(parents=True)
        (self.server.own / "etc/metaward/flower.toml").rename(home / "config.toml")
        self.start_server()

    def start_server(self) -> None:
        units = self.server.own / "etc/metaward"
        self.start(self.server, units / "metaward-superlink.service", "superlink", "flower")
        self.start(self.server, units / "metaward-gate.service", "gate", "flower")
        wait_for(lambda: self.reached(), SECONDS, "the SuperLink\n" + self.log("superlink"))

    def reached(self) -> bool:
        words = [METAWARD, "deploy", "register", str(self.etc)]
        done = subprocess.run(
            self.server.words(words), env=os.environ | QUIET, capture_output=True, check=False
        )
        return done.returncode == 0

    def install_hospital(self, name: str, host: Host) -> None:
        """By the README of its parcel."""
        parcel = host.place / "parcel"
        host.unpack(self.office / "parcels" / f"{name}.tar.gz", parcel)
        units = host.own / "parcel"
        done = [host_command(host, line) for line in readme_commands(units / "README.md")]
        assert {"install", "chown", "sudo"} <= set(done)
        sockets = host.own / "run/metaward"  # RuntimeDirectory= of the guard's unit
        sockets.mkdir(parents=True)
        sockets.chmod(0o750)
        os.chown(sockets, ACCOUNTS["metaward-guard"], ACCOUNTS["metaward"])
        self.start(host, units / "metaward-guard.service", f"{name}.guard", "guard")
        self.start(host, units / "metaward-gate.service", f"{name}.gate", "gate")
        state = host.own / "var/lib/metaward"
        for made in (state / "gate/ca.crt", sockets / "guard.sock"):
            wait_for(made.exists, SECONDS, f"{made}\n{self.logs()}")
        self.start(host, units / "metaward-node.service", f"{name}.node", "node")

    def server_dies(self) -> None:
        """Every process of the server's machine at once, as when the power fails."""
        words = ["ip", "netns", "pids", self.server.namespace]
        for pid in subprocess.run(words, capture_output=True, text=True, check=True).stdout.split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        for name in ("superlink", "gate"):
            self.end(name)

    def running_of(self, *options: str, code: Path | None = None) -> subprocess.Popen[str]:
        """`metaward deploy run` at the server, from another checkout where one is named."""
        metaward = [sys.executable, "-m", "metaward"] if code else [METAWARD]
        return subprocess.Popen(
            self.server.words([*metaward, "deploy", "run", str(self.etc), *options]),
            env=os.environ | QUIET,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=code or self.folder,
        )

    def run(self, *options: str, code: Path | None = None) -> tuple[int, str]:
        """The code and the output of `metaward deploy run` at the server."""
        process = self.running_of(*options, code=code)
        out, err = process.communicate(timeout=600)
        return process.returncode, out + err

    def result(self, name: str) -> Path:
        """A result folder, as this test sees it."""
        return self.server.own / "var/lib/metaward" / name

    def logs(self) -> str:
        return "\n".join(f"== {name}\n{self.log(name)[-2000:]}" for name in self.running)

    def gate_said(self, name: str) -> list[dict[str, str]]:
        path = self.sites[name].own / "var/lib/metaward/gate/gate.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]


def readme_commands(readme: Path) -> list[str]:
    """The indented lines, without what needs an operating system of one's own, or containers."""
    units = readme.read_text().partition("## With containers")[0]
    lines = [line.strip() for line in units.splitlines() if line.startswith(" " * 7)]
    others = ("groupadd", "useradd", "systemctl", "install -m 0644 metaward-")
    return [line for line in lines if not line.startswith(others) and " doctor " not in line]


def host_command(host: Host, line: str) -> str:
    """Carry a line of a README out on a machine, with accounts by number; returns its program."""
    words = shlex.split(line)
    if words[:2] == ["sudo", "-u"]:
        host.run(*words[3:], account=words[2], **QUIET)
    else:
        numbered = [str(ACCOUNTS.get(word, word)) for word in words]
        host.run("sh", "-c", f"cd {host.place}/parcel && {shlex.join(numbered)}")
    return words[0]


def spying_checkout(consort: Consort) -> Path:
    """This checkout, with a hospital's app that looks around before it does its work."""
    made = consort.folder / "metaward"
    left = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "tests", "docs", "benchmarks")
    shutil.copytree(sim.HERE, made, symlinks=True, ignore=left)
    text = SPY.replace("ETC", str(consort.etc)).replace("STATE", str(consort.state))
    with (made / "client" / "app.py").open("a") as app:
        app.write(text)
    return made


@pytest.fixture(scope="module")
def consort() -> Iterator[Consort]:
    folder = Path(
        tempfile.mkdtemp(prefix="mw-consort-")
    )  # pytest's own folders are its user's alone
    folder.chmod(0o755)
    with machines(folder, 4) as hosts:
        made = Consort(folder, hosts)
        where = ["--host", hosts[0].address, "--prefix", str(hosts[0].place)]
        made.command(
            "deploy", "init", str(made.office), str(CONFIG), *where, "--programs", str(BIN)
        )
        made.command("deploy", "approve", str(made.office))
        try:
            made.install_server()
            for name, host in made.sites.items():
                made.install_hospital(name, host)
            yield made
        finally:
            for name in list(made.running):
                made.end(name)
    shutil.rmtree(folder)


@pytest.mark.long
@pytest.mark.timeout(1500)
@needs_machines
def test_four_machines_carry_out_a_run_and_keep_strangers_out(consort: Consort) -> None:
    first = str(consort.state / "first")
    begun = consort.running_of("--out", first, "--set", ROUNDS)
    wait_for(
        lambda: list(consort.result("first").glob("checkpoints/*1")), SECONDS, "the first round"
    )
    consort.server_dies()
    begun.communicate(timeout=60)
    consort.start_server()
    code, said = consort.run("--resume", first)
    assert code == 0, said + consort.logs()
    theta = load_file(consort.result("first") / "theta.safetensors")["theta"]
    assert np.isfinite(theta).all()
    about = json.loads((consort.result("first") / "run.json").read_text())
    assert (about["starts"], about["bundles"]) == (2, [bundle_hash()])

    # the same run by the in-process engine, without gates, guards, deaths: the same theta
    alone, same = Folder(consort.folder / "alone"), sim.load(consort.office / "run.yaml", [ROUNDS])
    alone.create(same)
    execute(same, alone, lambda *_: None)
    expected = load_file(alone.path / "theta.safetensors")["theta"]
    assert theta.tobytes() == expected.tobytes()

    for name, host in consort.sites.items():  # nothing was charged twice
        ledger = str(consort.state / "ledger.sqlite")
        found = json.loads(host.run(METAWARD, "ledger", "show", ledger, "--json", **QUIET))
        charges = [run["charges"] for run in found["runs"]]
        trained = name.startswith("phantom")
        assert charges == ([3] if trained else []), (name, found["runs"])
        # the ledger names the code that was approved, and let in by the gate
        assert [run["code"] for run in found["runs"]] == ([[bundle_hash()]] if trained else [])

    kept = (consort.result("first") / "signed.jsonl").read_text()
    assert {json.loads(line)["hospital"] for line in kept.splitlines()} == set(consort.sites)

    for name in consort.sites:  # the code that came in is the code that was approved
        admitted = [one for one in consort.gate_said(name) if one["what"] == "admitted"]
        assert [one["bundle"] for one in admitted] == [bundle_hash()] * 2, "one for each start"

    listing = consort.server.run(METAWARD, "deploy", "status", str(consort.etc), "--json", **QUIET)
    assert [node["status"] for node in json.loads(listing)] == ["online"] * 3

    stranger = next(iter(consort.sites.values()))
    gate = f"https://{consort.server.address}:9443"
    for path in ("/v1/control/start-run", "/v1/runtime/acquire-task", "/health", "/v1/fleet/../x"):
        words = ["curl", "-s", "--path-as-is", "--cacert", str(consort.etc / "ca.crt")]
        words += ["-X", "POST", "-w", "%{http_code}", "-o", "/dev/null", gate + path]
        assert stranger.run(*words) == "403", path
    bare = ["curl", "-sk", "-m", "5", "-o", "/dev/null", f"https://{consort.server.address}:9091/"]
    refused = subprocess.run(stranger.words(bare), check=False)
    assert refused.returncode == 7  # nothing listens there for other machines

    # code that was approved and looks for records, ledger, policy and keys: it finds nothing
    spying = spying_checkout(consort)
    words = [sys.executable, "-m", "metaward", "deploy", "approve", str(consort.office)]
    subprocess.run(words, cwd=spying, env=os.environ | QUIET, check=True, capture_output=True)
    for host in consort.sites.values():
        etc = host.own / "etc/metaward"
        shutil.copy(consort.office / "bundles.yaml", etc)
        policy = (etc / "policy.yaml").read_text()
        (etc / "policy.yaml").write_text(policy.replace("epsilon: 8.0 ", "epsilon: 9.0 "))
    code, said = consort.run(
        *("--out", str(consort.state / "spied"), "--set", "privacy.epsilon=1.0"), code=spying
    )
    assert code == 0, said + consort.logs()
    for name, host in consort.sites.items():
        found = json.loads((host.own / "var/lib/metaward/node/spied.json").read_text())
        assert found.pop("account") == ACCOUNTS["metaward-node"], name
        assert set(found.values()) == {"PermissionError"}, (name, found)
        assert len(found) == 8

    # code that nobody approved: no hospital runs it, and the run fails with a named cause
    for host in consort.sites.values():
        (host.own / "etc/metaward/bundles.yaml").write_text("bundles: []\n")
    code, said = consort.run(
        *("--out", str(consort.state / "second"), "--set", "server.flower.startup_timeout=45")
    )
    assert code == 1
    assert "did not come" in said, said
    for name in consort.sites:
        assert consort.gate_said(name)[-1]["what"] == "refused"

    # a hospital is turned out: its key is gone at the server, and no run can name it
    gone = next(iter(consort.sites))
    consort.command("deploy", "revoke", str(consort.office), gone)
    shutil.copy(consort.office / "consortium.yaml", consort.server.own / "etc/metaward")
    said = consort.server.run(METAWARD, "deploy", "register", str(consort.etc), **QUIET)
    listing = consort.server.run(METAWARD, "deploy", "status", str(consort.etc), "--json", **QUIET)
    status = {node["name"]: node["status"] for node in json.loads(listing)}
    assert status.pop(gone) == "revoked"
    assert set(status.values()) == {"online"}
    code, said = consort.run("--out", str(consort.state / "third"))
    assert (code, f"{gone} was revoked" in said) == (2, True)
