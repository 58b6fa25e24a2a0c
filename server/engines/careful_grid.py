"""Replies of hospitals, taken from the SuperLink one by one, so that none costs another its place.

A reply comes as a tree of objects that the hospital's machine has made. Flower's own grid waits up
to two hours for an object that was announced and never sent, and rebuilds all replies in one call,
which an object that is none ends with an error; the run would end with it. Here whatever is wrong
with a reply becomes an error in the name of the hospital that was asked, and the others are read.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import httpx
from flwr.app import Error, Message, RecordDict
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest
from flwr.proto.runtime_pb2 import PullAppMessagesRequest
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_pull_object_fn_protobuf
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectUnavailableError,
    inflate_object_from_contents,
)
from flwr.supercore.run import Run
from flwr.superlink.grid import HttpGrid

from metaward.privacy.wire import array_bytes
from metaward.strategies.leg import UNREADABLE

POLL_SECONDS = 1.0
ROOM = 64 << 20
"""Bytes that a reply may have beyond twice those of the request: an update is as long as theta."""
OBJECTS = 10_000
"""How many objects a reply may have; an array of a gigabyte has some hundred."""
log = logging.getLogger("metaward.server")


def careful(grid: Grid) -> Grid:
    """A grid of the same nodes that withstands every reply; only a deployment's can be hostile."""
    return CarefulGrid(grid) if isinstance(grid, HttpGrid) else grid


@dataclass
class Arriving:
    """A reply to ``message`` that was announced as ``number``, and those of its objects (by their
    ids) that have come; None stands for one that has not."""

    message: Message
    number: str
    objects: dict[str, bytes | None] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of the objects that have come."""
        return sum(len(content) for content in self.objects.values() if content is not None)

    def rebuilt(self) -> Message:
        """The reply; any exception where the objects are none, or answer another message."""
        contents = {key: content for key, content in self.objects.items() if content is not None}
        reply = inflate_object_from_contents(self.number, contents)
        if not isinstance(reply, Message):
            raise TypeError("it is no message")
        if reply.metadata.reply_to_message_id != self.message.metadata.message_id:
            raise ValueError("it claims to answer another message")
        if not reply.has_error() and not isinstance(reply.content, RecordDict):
            raise TypeError("it holds no records")
        reply.metadata.__dict__["_message_id"] = self.number
        return reply


class CarefulGrid(Grid):
    """``grid`` is Flower's own, which does everything else."""

    def __init__(self, grid: HttpGrid) -> None:
        self._grid = grid

    @property
    def run(self) -> Run:
        """The run of Flower's grid."""
        return self._grid.run

    def set_run(self, run: Run) -> None:
        """Take over run metadata."""
        self._grid.set_run(run)

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """A message of this run."""
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> Iterable[int]:
        """The nodes that are present."""
        return self._grid.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages; the ids under which the replies can be asked for."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Not offered: replies are collected by ``send_and_receive`` only."""
        raise TypeError("the careful grid sends and receives in one step: send_and_receive")

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """The replies that come within ``timeout`` seconds (None: all of them).

        ``httpx.TransportError`` where the SuperLink is not reached.
        """
        sent = list(messages)
        pushed = set(self.push_messages(sent))
        waiting = {m.metadata.message_id: m for m in sent if m.metadata.message_id in pushed}
        deadline = None if timeout is None else time.monotonic() + timeout
        arriving: list[Arriving] = []
        replies: list[Message] = []
        while waiting and (deadline is None or time.monotonic() < deadline):
            arriving += self._announced(self._unheard(waiting, arriving))
            for one in list(arriving):
                if (reply := self._reply(one)) is not None:
                    replies.append(reply)
                    arriving.remove(one)
                    waiting.pop(one.message.metadata.message_id, None)
            if waiting:
                time.sleep(POLL_SECONDS)
        return replies

    @staticmethod
    def _unheard(
        waiting: Mapping[str, Message], arriving: Iterable[Arriving]
    ) -> dict[str, Message]:
        """Messages whose replies are not announced: the SuperLink forgets a message when it
        announces its reply, and tells whoever asks again that there is none (error 3)."""
        heard = {one.message.metadata.message_id for one in arriving}
        return {number: message for number, message in waiting.items() if number not in heard}

    def _announced(self, waiting: Mapping[str, Message]) -> list[Arriving]:
        """Replies of which the SuperLink has heard since; what answers nothing is thrown away."""
        answer = self._grid._runtime_client.PullMessages(
            PullAppMessagesRequest(message_ids=list(waiting))
        )
        found = []
        for proto, tree in zip(answer.messages_list, answer.message_object_trees, strict=True):
            number = proto.metadata.message_id
            if asked := waiting.get(proto.metadata.reply_to_message_id):
                objects = {node.object_id: None for node in iterate_object_tree(tree)}
                found.append(Arriving(asked, number, {**objects}))
            else:
                log.warning("a message of node %d answers nothing", proto.metadata.src_node_id)
                self._confirm(number)
        return found

    def _reply(self, one: Arriving) -> Message | None:
        """The reply as it is, or an error in its place; None where some of it is still to come."""
        try:
            self._fetch(one)
            reply = one.rebuilt()
        except ObjectUnavailableError:
            return None
        except httpx.TransportError:
            raise
        except Exception as error:  # whatever a hostile object makes of Flower's readers
            node = one.message.metadata.dst_node_id
            log.warning("the reply of node %d cannot be read: %s", node, type(error).__name__)
            reply = Message(Error(UNREADABLE), reply_to=one.message)
        self._confirm(one.number)
        return reply

    def _fetch(self, one: Arriving) -> None:
        """Take the objects that are there; ``ObjectUnavailableError`` at the first that is not."""
        client, run = self._grid._runtime_client, self.run.run_id
        fetch = make_pull_object_fn_protobuf(client.PullObject, self._grid.node, run)
        most, size = ROOM + 2 * array_bytes(one.message.content), one.size
        if len(one.objects) > OBJECTS:
            raise ValueError(f"it has more than {OBJECTS} objects")
        for key in [key for key, content in one.objects.items() if content is None]:
            content = one.objects[key] = fetch(key)
            size += len(content)
            if size > most:
                raise ValueError(f"it is longer than {most} bytes")

    def _confirm(self, number: str) -> None:
        """Let the SuperLink forget a reply; one that it does not know harms nobody."""
        node, run = self._grid.node, self.run.run_id
        request = ConfirmMessageReceivedRequest(node=node, run_id=run, message_object_id=number)
        with suppress(httpx.HTTPStatusError):
            self._grid._runtime_client.ConfirmMessageReceived(request)
