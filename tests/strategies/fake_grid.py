"""A Grid whose hospitals are functions: nothing but the messages, so that any reply can be tried.

As on a real SuperLink, messages get their ids when they are sent, node ids mean nothing, and an
error reply names the SuperLink (node 1) as its sender.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from metaward.privacy import Answer, Attendance
from metaward.privacy.wire import Request, decode_request, encode_answer

Script = Callable[[Request, str], Answer | RecordDict | Error | None]
"""(request, message type) -> what the hospital answers; None: it stays silent."""


@dataclass
class FakeGrid(Grid):
    """``scripts`` maps node ids to hospitals; ``arrive`` reorders (or repeats) the replies."""

    scripts: dict[int, Script]
    arrive: Callable[[list[Message]], list[Message]] = list
    late: dict[int, int] = field(default_factory=dict)
    sent: list[tuple[int, Request, str]] = field(default_factory=list)
    looks: int = 0

    def __post_init__(self) -> None:
        TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
        self._ids = itertools.count(1)

    def get_node_ids(self) -> Iterable[int]:
        """A node is there from its ``late``-th look on."""
        self.looks += 1
        return [node for node in self.scripts if self.looks > self.late.get(node, 0)]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """What the scripts answer."""
        replies = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = f"m{next(self._ids)}"
            reply = self._reply(message)
            replies += [reply] if reply is not None else []
        return self.arrive(replies)

    def _reply(self, message: Message) -> Message | None:
        node = message.metadata.dst_node_id
        request = decode_request(message.content)
        self.sent.append((node, request, message.metadata.message_type))
        answer = self.scripts[node](request, message.metadata.message_type)
        if answer is None:
            return None
        if isinstance(answer, Error):
            reply = Message(answer, reply_to=message)
            reply.metadata.__dict__["_src_node_id"] = 1
            return reply
        content = answer if isinstance(answer, RecordDict) else encode_answer(answer)
        return Message(content, reply_to=message)

    @property
    def run(self) -> Run:
        """The only run there is."""
        return Run.create_empty(1)

    def set_run(self, run: Run) -> None:
        """Not needed."""

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Not needed."""
        raise NotImplementedError

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Not needed."""
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Not needed."""
        raise NotImplementedError


def sits(hospital: str, index: int, work: Script | None = None) -> Script:
    """A hospital that takes its seat and does ``work`` (nothing, if None) when asked for more."""

    def script(request: Request, kind: str) -> Answer | RecordDict | Error | None:
        if kind == "query.roster":
            return Attendance(hospital, index)
        return work(request, kind) if work else None

    return script


def nodes(scripts: Mapping[str, Script], first: int = 100) -> dict[int, Script]:
    """Scripts by made-up node ids."""
    return {first + 7 * i: script for i, script in enumerate(scripts.values())}
