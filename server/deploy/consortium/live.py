"""What is done at a server that is up: letting keys in, carrying out runs, looking who is there."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from metaward.errors import RunError
from metaward.files import replace_file
from metaward.json_text import read_json
from metaward.server.deploy.commands import environment
from metaward.server.deploy.consortium.members import Consortium
from metaward.server.deploy.consortium.places import MachineFolders
from metaward.server.stored import stored

CONNECTION = "consortium"
FLOWER_SECONDS = 60.0


class FlowerError(RunError):
    """A command of Flower failed; the text is what it said."""


@dataclass(frozen=True)
class NodeState:
    """What the SuperLink says of a hospital's SuperNode: online, offline, registered or absent."""

    name: str
    status: str
    since: str = ""


@dataclass(frozen=True)
class ServerSite:
    """The server of a consortium, seen from its own machine."""

    consortium: Consortium

    @property
    def machine(self) -> MachineFolders:
        """The folders of this machine."""
        return MachineFolders(Path(self.consortium.prefix))

    @property
    def home(self) -> Path:
        """The Flower home of the SuperLink's commands."""
        return self.machine.state / "flower"

    @property
    def known(self) -> Path:
        """The numbers that the SuperLink gave to public keys, as JSON."""
        return self.machine.state / "nodes.json"

    def flower(self, *words: str) -> str:
        """What one of Flower's commands prints; ``FlowerError`` where it fails."""
        command = ["flwr", *words]
        done = subprocess.run(
            command,
            env=environment(self.home),
            capture_output=True,
            text=True,
            timeout=FLOWER_SECONDS,
            check=False,
        )
        if done.returncode and '"error-message"' not in done.stdout:
            said = (done.stderr + done.stdout).strip()
            raise FlowerError(f"{' '.join(command[:3])}: {said[-500:] or 'it said nothing'}")
        return done.stdout

    def numbers(self) -> dict[str, str]:
        """The SuperLink's number of each public key that was let in."""
        if not self.known.is_file():
            return {}
        return stored(self.known)

    def register(self, keys: Path) -> tuple[list[str], int]:
        """Let in the keys that count, and turn out all others that were let in before.

        ``keys`` is a folder for the files that Flower reads. Returns the names that are new, and
        how many keys were turned out. What was done is written down after every step.
        """
        wanted = {m.node: m.name for m in self.consortium.members if not m.revoked}
        old = [key for key in self.numbers() if key not in wanted]
        for key in old:
            self._turn_out(key)
        new = [key for key in wanted if key not in self.numbers()]
        for key in new:
            path = keys / "node.key.pub"
            path.write_text(key + "\n", encoding="utf-8")
            said = _json(self.flower("supernode", "register", str(path), CONNECTION, *AS_JSON))
            self._write(self.numbers() | {key: str(said["node-id"])})
        return [wanted[key] for key in new], len(old)

    def nodes(self) -> list[NodeState]:
        """Every hospital of the consortium, and whether its SuperNode is there."""
        said = _json(self.flower("supernode", "list", CONNECTION, *AS_JSON))
        listed: Mapping[str, Mapping[str, str]] = {one["node-id"]: one for one in said["nodes"]}
        numbers = self.numbers()
        return [
            _state(member.name, member.revoked, listed.get(numbers.get(member.node, ""), {}))
            for member in self.consortium.members
        ]

    def _turn_out(self, key: str) -> None:
        numbers = self.numbers()
        with suppress(FlowerError):  # a SuperLink with a new database has never heard of it
            self.flower("supernode", "unregister", numbers[key], CONNECTION)
        self._write({k: number for k, number in numbers.items() if k != key})

    def _write(self, numbers: Mapping[str, str]) -> None:
        replace_file(self.known, (json.dumps(numbers, indent=1) + "\n").encode())


AS_JSON = ("--format", "json")


def _state(name: str, revoked: bool, node: Mapping[str, str]) -> NodeState:
    if revoked:
        return NodeState(name, "revoked")
    status = node.get("status", "not registered")
    since = node.get("online-at" if status == "online" else "offline-at", "")
    return NodeState(name, status, "" if since == "N/A" else since)


def _json(text: str) -> dict[str, Sequence[Mapping[str, str]]]:
    """The JSON object in what a command printed; other lines come before it."""
    start = text.find("{")
    try:
        found = read_json(text[start:])
    except ValueError as error:
        raise FlowerError(f"Flower answered without JSON: {text[-300:]!r}") from error
    if not isinstance(found, dict) or not found.get("success"):
        why = str(found.get("error-message", text[-300:])).strip().splitlines()[-1]
        raise FlowerError(f"the SuperLink: {why}")
    return found
