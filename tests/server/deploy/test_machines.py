"""A consortium on four machines, from its parcels: through both gates, as its services would run.

The machines are network namespaces; what runs on them are the commands of the systemd units.
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
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from metaward import sim
from metaward.server.deploy.consortium.bundled import bundle_hash
from tests.server.deploy.live import wait_for
from tests.server.deploy.machines import Host, machines, needs_machines

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

    def start(self, host: Host, unit: str, name: str, home: str) -> None:
        """The command of a unit, as systemd would start it."""
        text = (host.own / "etc/metaward" / unit).read_text()
        (line,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
        words = host.words(shlex.split(line.replace("%%", "%")))
        own = {"FLWR_HOME": str(self.state / home)}
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                words, stdout=log, stderr=log, env=os.environ | QUIET | own, start_new_session=True
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
        self.start(self.server, "metaward-superlink.service", "superlink", "flower")
        self.start(self.server, "metaward-gate.service", "gate", "flower")
        wait_for(lambda: self.reached(), SECONDS, "the SuperLink\n" + self.log("superlink"))

    def reached(self) -> bool:
        words = [METAWARD, "deploy", "register", str(self.etc)]
        done = subprocess.run(
            self.server.words(words), env=os.environ | QUIET, capture_output=True, check=False
        )
        return done.returncode == 0

    def install_hospital(self, name: str, host: Host) -> None:
        host.unpack(self.office / "parcels" / f"{name}.tar.gz", self.etc)
        for folder in ("data", "memory", "gate", "node"):
            (host.own / "var/lib/metaward" / folder).mkdir(parents=True)
        ledger = str(self.state / "ledger.sqlite")
        host.run(METAWARD, "ledger", "init", ledger, "--hospital", name)
        self.start(host, "metaward-gate.service", f"{name}.gate", "node")
        trust = host.own / "var/lib/metaward/gate/ca.crt"
        wait_for(trust.exists, SECONDS, f"the gate of {name}\n" + self.log(f"{name}.gate"))
        self.start(host, "metaward-node.service", f"{name}.node", "node")

    def server_dies(self) -> None:
        """Every process of the server's machine at once, as when the power fails."""
        words = ["ip", "netns", "pids", self.server.namespace]
        for pid in subprocess.run(words, capture_output=True, text=True, check=True).stdout.split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        for name in ("superlink", "gate"):
            self.end(name)

    def running_of(self, *options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.server.words([METAWARD, "deploy", "run", str(self.etc), *options]),
            env=os.environ | QUIET,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
        )

    def run(self, *options: str) -> tuple[int, str]:
        """The code and the output of `metaward deploy run` at the server."""
        process = self.running_of(*options)
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


@pytest.fixture(scope="module")
def consort(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consort]:
    folder = tmp_path_factory.mktemp("consort")
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


@pytest.mark.long
@pytest.mark.timeout(1500)
@needs_machines
def test_four_machines_carry_out_a_run_and_keep_strangers_out(consort: Consort) -> None:
    first = str(consort.state / "first")
    begun = consort.running_of("--out", first, "--set", "server.rounds=2")
    wait_for(
        lambda: list(consort.result("first").glob("checkpoints/*1")), SECONDS, "the first round"
    )
    consort.server_dies()
    begun.communicate(timeout=60)
    consort.start_server()
    code, said = consort.run("--resume", first)
    assert code == 0, said + consort.logs()
    theta = load_file(consort.result("first") / "theta.safetensors")
    assert np.isfinite(theta["theta"]).all()
    assert json.loads((consort.result("first") / "run.json").read_text())["starts"] == 2
    for name, host in consort.sites.items():  # nothing was charged twice
        ledger = str(consort.state / "ledger.sqlite")
        found = json.loads(host.run(METAWARD, "ledger", "show", ledger, "--json", **QUIET))
        charges = [run["charges"] for run in found["runs"]]
        assert charges == ([2] if name.startswith("phantom") else []), (name, found["runs"])

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

    # code that nobody approved: no hospital runs it, and the run fails with a named cause
    for host in consort.sites.values():
        (host.own / "etc/metaward/bundles.yaml").write_text("bundles: []\n")
    code, said = consort.run(
        *("--out", str(consort.state / "second"), "--set", "server.flower.startup_timeout=45")
    )
    assert code == 1
    assert "did not come" in said
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
