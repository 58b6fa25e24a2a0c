"""Flower's Grid over a Unix socket for each hospital, and the letters that go through it."""

from __future__ import annotations

import os
import pickle
import socket
import struct
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from flwr.app import Error, Message
from flwr.common.constant import ErrorCode

from metaward.server.engines.inprocess import FIRST_NODE, InProcessGrid
from metaward.server.folder import Folder

GENERATION = 1000
"""A hospital that is started again has a node id so much higher, as a new node has in Flower."""
TWICE, DUTIES = 0.1, {"train": "train", "evaluate": "evaluate", "query.roster": "roster"}
"""The share of a leg's replies that arrive twice; the duty of each type of message."""


class LightGrid(InProcessGrid):
    """Reaches hospitals by their sockets; a new one is a new node.

    A reply may arrive twice, or after its leg, and then comes with a later one.
    """

    def __init__(self, hospitals: int, folder: Folder, sockets: Path) -> None:
        super().__init__(hospitals, 1, None, folder)
        self.sockets, self.rng = sockets, np.random.default_rng(os.getpid())
        self.late: list[tuple[Message, socket.socket]] = []

    def get_node_ids(self) -> Iterable[int]:
        """The hospitals whose newest process has opened its door."""
        newest: dict[int, int] = {}
        for path in self.sockets.glob("*.sock"):
            index, generation = map(int, path.stem.split("-"))
            newest[index] = max(newest.get(index, 0), generation)
        return [FIRST_NODE + i + GENERATION * g for i, g in newest.items() if self._open(i, g)]

    def _open(self, index: int, generation: int) -> bool:
        line = self._connected(FIRST_NODE + index + GENERATION * generation)
        if line is not None:
            line.close()
        return line is not None

    def _connected(self, node: int) -> socket.socket | None:
        generation, index = divmod(node - FIRST_NODE, GENERATION)
        line = socket.socket(socket.AF_UNIX)
        try:
            line.connect(str(self.sockets / f"{index}-{generation}.sock"))
            return line
        except OSError:
            line.close()
            return None

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """What comes within ``timeout`` seconds; ``NODE_UNAVAILABLE`` for a hospital that ended."""
        deadline = time.monotonic() + (timeout or 3600.0)
        late, self.late = self.late, []
        replies = [r for m, line in late if (r := self._reply(m, line, time.monotonic()))]
        asked = [(message, self._ask(message)) for message in messages]
        replies += [r for m, line in asked if (r := self._reply(m, line, deadline))]
        return [*replies, *(r for r in replies if self.rng.random() < TWICE)]

    def _ask(self, message: Message) -> socket.socket | None:
        message.metadata.__dict__["_message_id"] = os.urandom(8).hex()
        line = self._connected(message.metadata.dst_node_id)
        if line is not None:
            try:
                duty = DUTIES[message.metadata.message_type]
                send(line, pickle.dumps((duty, message.content)))
            except OSError:
                line.close()
                return None
        return line

    def _reply(
        self, message: Message, line: socket.socket | None, deadline: float
    ) -> Message | None:
        gone = Message(Error(ErrorCode.NODE_UNAVAILABLE, None), reply_to=message)
        if line is None:
            return gone
        line.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            letter = received(line)
        except TimeoutError:
            self.late.append((message, line))
            return None
        except OSError:
            letter = None
        line.close()
        return gone if letter is None else Message(pickle.loads(letter), reply_to=message)


def send(line: socket.socket, letter: bytes) -> None:
    """A letter with its length before it."""
    line.sendall(struct.pack("<Q", len(letter)) + letter)


def received(line: socket.socket) -> bytes | None:
    """A whole letter; None where the other side ended."""
    head = _bytes(line, 8)
    return None if head is None else _bytes(line, struct.unpack("<Q", head)[0])


def _bytes(line: socket.socket, count: int) -> bytes | None:
    found = bytearray()
    while len(found) < count:
        piece = line.recv(count - len(found))
        if not piece:
            return None
        found += piece
    return bytes(found)
