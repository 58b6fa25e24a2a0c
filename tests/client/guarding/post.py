"""A guard in a process of its own, and a hospital's files for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from flwr.app import RecordDict

from metaward.client.guarding.door import is_open
from metaward.privacy import Answer
from metaward.privacy.signing import new_signing_key
from metaward.privacy.wire import Request, decode_answer
from tests.client.bedside import Site, reply_to

COMMAND = [sys.executable, "-c", "from metaward.server.cli import main; main()", "guard"]
START_SECONDS = 300.0


class Post(Site):
    """A hospital with a guard, whose folder other accounts may enter."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.socket, self.audit = folder / "run" / "guard.sock", folder / "audit.jsonl"
        self.key, self.settings = folder / "signing.key", folder / "guard.yaml"
        self.socket.parent.mkdir()
        self.key.write_bytes(new_signing_key())
        self.key.chmod(0o600)
        self.set()

    def set(self, **node: Any) -> None:
        """Write ``guard.yaml`` with these keys of ``node`` changed."""
        own = {"partition-id": 0, "policy": "policy.yaml", "ledger": "hospital.ledger"}
        own |= {"signing-key": "signing.key", "audit-log": "audit.jsonl"}
        content = {"socket": "run/guard.sock", "node": {**own, **node}}
        self.settings.write_text(yaml.safe_dump(content), encoding="utf-8")

    def start(self) -> None:
        command = [*COMMAND, str(self.settings)]
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        with (self.folder / "guard.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=env)
        deadline = time.monotonic() + START_SECONDS
        while not is_open(self.socket):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)

    def said(self) -> str:
        return (self.folder / "guard.log").read_text()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()

    def reply(self, kind: str, content: Request | RecordDict, index: object = 0) -> RecordDict:
        """What the SuperNode's app replies; it knows the guard's socket and nothing else."""
        return reply_to(kind, content, index, guard=str(self.socket))

    def charged(self, round: int) -> int:
        """How often a round of the one run was charged."""
        return [charge.request.round for charge in self.ledger.history().charges].count(round)

    def put(self, kind: str, content: Request | RecordDict) -> Answer:
        return decode_answer(self.reply(kind, content))


@pytest.fixture(scope="module")
def post() -> Iterator[Post]:
    """A guard that answers; the folder is not in pytest's own, which only its owner can enter."""
    folder = Path(tempfile.mkdtemp(prefix="mw-post-"))
    folder.chmod(0o755)
    made = Post(folder)
    made.start()
    try:
        yield made
    finally:
        made.end()
        shutil.rmtree(folder)
