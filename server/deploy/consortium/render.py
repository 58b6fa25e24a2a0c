"""What a machine is given, from templates: settings, services, containers, how to install it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from metaward.server.deploy.consortium.members import Consortium, Member
from metaward.server.deploy.consortium.places import MachineFolders
from metaward.server.version import code_version

TEMPLATES = Path(__file__).parent / "templates"
LARGEST_MESSAGE = "1g"
LOOPBACK = "127.0.0.1"

SERVER = {
    "nginx.conf": "nginx.conf.j2",
    "metaward-superlink.service": "server-superlink.service.j2",
    "metaward-gate.service": "server-gate.service.j2",
    "compose.yaml": "server-compose.yaml.j2",
    "Containerfile": "Containerfile.j2",
    "README.md": "server-README.md.j2",
}
"""The files of the server's machine, and the template of each."""

HOSPITAL = {
    "guard.yaml": "guard.yaml.j2",
    "gate.yaml": "gate.yaml.j2",
    "metaward-guard.service": "hospital-guard.service.j2",
    "metaward-gate.service": "hospital-gate.service.j2",
    "metaward-node.service": "hospital-node.service.j2",
    "compose.yaml": "hospital-compose.yaml.j2",
    "Containerfile": "Containerfile.j2",
    "README.md": "hospital-README.md.j2",
}
"""The files of a hospital's machine, and the template of each."""

GUARDED = ("guard.yaml", "metaward-guard.service")
"""The files of a hospital that has a guard, and of no other."""


@dataclass(frozen=True)
class Commands:
    """The commands that the services of a consortium run."""

    consortium: Consortium

    @property
    def machine(self) -> MachineFolders:
        """The folders on each machine."""
        return MachineFolders(Path(self.consortium.prefix))

    def superlink(self) -> list[str]:
        """The SuperLink: TLS, registered nodes only, reached on loopback only."""
        etc, state = self.machine.etc, self.machine.state
        files = ["--ssl-ca-certfile", f"{etc}/ca.crt", "--ssl-certfile", f"{etc}/server.crt"]
        files += ["--ssl-keyfile", f"{etc}/server.key", "--database", f"{state}/superlink.db"]
        limits = ["--enable-supernode-auth", "--disable-runtime-dependency-installation"]
        where = ["--host", LOOPBACK, "--port", str(self.consortium.ports.superlink)]
        return [f"{self.consortium.programs}/flower-superlink", *limits, *files, *where]

    def nginx(self) -> list[str]:
        """The server's gate; the first line of its log goes to the standard error, too."""
        return ["nginx", "-e", "stderr", "-c", f"{self.machine.etc}/nginx.conf"]

    def supernode(self, index: int) -> list[str]:
        """A hospital's SuperNode, which knows its gate and its guard and nothing else.

        It knows the gate by the certificate that the gate has made for itself.
        """
        ports, etc = self.consortium.ports, self.machine.etc
        trust = ["--root-certificates", f"{self.machine.state}/gate/ca.crt"]
        trust += ["--auth-supernode-private-key", f"{etc}/node.key"]
        where = ["--superlink", f"{LOOPBACK}:{ports.gate}", "--host", LOOPBACK]
        port = ["--port", str(ports.supernode), "--node-config", self.node_config(index)]
        return [f"{self.consortium.programs}/flower-supernode", *trust, *where, *port]

    def node_config(self, index: int) -> str:
        """What a hospital's SuperNode hands to the app: where the guard is, or all by itself."""
        if self.consortium.guard:
            return f'partition-id={index} guard="{self.machine.sockets}/guard.sock"'
        etc, state = self.machine.etc, self.machine.state
        own = {"policy": etc / "policy.yaml", "ledger": state / "ledger.sqlite"}
        own |= {"data-root": state / "data", "memory": state / "memory"}
        own |= {"signing-key": etc / "signing.key", "audit-log": state / "audit.jsonl"}
        own |= {"gate-log": state / "gate" / "gate.jsonl"}
        pairs = [f'{key}="{path}"' for key, path in own.items()]
        return " ".join([f"partition-id={index}", "download=false", *pairs])


def contained(command: Sequence[str]) -> list[str]:
    """A command of the units as a container runs it: its image has programs at their usual place.

    Compose takes a dollar sign for the beginning of a variable unless it is doubled.
    """
    program, *words = command
    return [Path(program).name, *(word.replace("$", "$$") for word in words)]


def server_files(consortium: Consortium) -> dict[str, str]:
    """The text of each file of the server's machine, by name."""
    commands = Commands(consortium)
    values = {
        "server": True,
        "superlink": shlex.join(commands.superlink()),
        "superlink_words": json.dumps(contained(commands.superlink())),
        "nginx": shlex.join(commands.nginx()),
        "nginx_words": json.dumps(contained(commands.nginx())),
        "image": f"localhost/metaward-server:{version('metaward')}",
    }
    texts = _rendered(consortium, SERVER, values)
    return texts | {"flower.toml": connection(consortium)}


def hospital_files(consortium: Consortium, hospital: Member) -> dict[str, str]:
    """The text of each file of a hospital's machine, by name."""
    index = consortium.members.index(hospital)
    supernode: Sequence[str] = Commands(consortium).supernode(index)
    values = {
        "server": False,
        "hospital": hospital,
        "index": index,
        "image": f"localhost/metaward:{version('metaward')}",
        "supernode": shlex.join(supernode).replace("%", "%%"),
        "supernode_words": json.dumps(contained(supernode)),
    }
    files = {name: HOSPITAL[name] for name in HOSPITAL if consortium.guard or name not in GUARDED}
    return _rendered(consortium, files, values)


def connection(consortium: Consortium, name: str = "consortium") -> str:
    """Flower's own configuration of where the SuperLink is, for commands on the server."""
    trust = json.dumps(str(MachineFolders(Path(consortium.prefix)).etc / "ca.crt"))
    where = f'address = "{LOOPBACK}:{consortium.ports.superlink}"\nroot-certificates = {trust}\n'
    return f'[superlink]\ndefault = "{name}"\n\n[superlink.{name}]\n{where}'


def _rendered(
    consortium: Consortium, files: Mapping[str, str], values: Mapping[str, Any]
) -> dict[str, str]:
    machine = MachineFolders(Path(consortium.prefix))
    shared = vars(consortium) | {
        "address": consortium.address,
        "etc": machine.etc,
        "state": machine.state,
        "sockets": machine.sockets,
        "largest": LARGEST_MESSAGE,
        "version": code_version(),
        "owner": "metaward-guard" if consortium.guard else "metaward-node",
    }
    return {
        name: _templates().get_template(template).render(shared | dict(values))
        for name, template in files.items()
    }


@cache
def _templates() -> Environment:
    """The templates, none of them HTML; a value that is missing is an error."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
