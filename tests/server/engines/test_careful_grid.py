"""Replies whose bytes are no message: each costs its own hospital the round, and nobody else.

Flower's own reader is at work; only the SuperLink is played, by what it hands out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedResponse,
    ObjectTree,
    PullObjectResponse,
    PushObjectResponse,
)
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.proto.runtime_pb2 import PullAppMessagesResponse, PushAppMessagesResponse
from flwr.supercore.constant import HEAD_BODY_DIVIDER
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid

from metaward.server.engines import careful_grid as module
from metaward.server.engines.careful_grid import CarefulGrid, careful
from metaward.strategies.leg import UNREADABLE

ATTACKER, HONEST = 11, (22, 33, 44)


@dataclass
class Tree:
    """The objects of a reply by their ids, the root's last; ``held`` are not sent yet."""

    objects: dict[str, bytes] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)

    def add(self, kind: str, body: bytes, children: Sequence[str] = ()) -> str:
        """An object as any program can write it, under its SHA-256, which the SuperLink checks."""
        head = f"{kind} {','.join(children)} {len(body)}".encode()
        content = head + HEAD_BODY_DIVIDER + body
        number = hashlib.sha256(content).hexdigest()
        self.objects[number] = content
        return number

    @property
    def root(self) -> str:
        return list(self.objects)[-1]


def answering(asked: Message, **claims: Any) -> Message:
    """An honest reply, whose metadata can claim something else."""
    update = ArrayRecord({"update": Array(np.arange(6, dtype=np.float32))})
    reply = Message(RecordDict({"arrays": update}), reply_to=asked)
    for name, value in claims.items():
        reply.metadata.__dict__[f"_{name}"] = value
    return reply


def whole(reply: Message) -> Tree:
    """The objects of a reply as Flower makes them."""
    return Tree({key: one.deflate() for key, one in get_all_nested_objects(reply).items()})


def message_of(tree: Tree, asked: Message, *children: str) -> Tree:
    """A message object above what is in the tree already."""
    tree.add("Message", proto(answering(asked)).SerializeToString(), children)
    return tree


def proto(message: Message) -> MessageProto:
    found = message_to_proto(message)
    found.ClearField("content")
    return found


def over(kind: str, body: bytes) -> Callable[[Message], Tree]:
    """A message whose content is one object with these bytes."""

    def make(asked: Message) -> Tree:
        tree = Tree()
        return message_of(tree, asked, tree.add(kind, body))

    return make


def bare(kind: str, body: bytes) -> Callable[[Message], Tree]:
    """An object in the place of a message."""

    def make(asked: Message) -> Tree:
        tree = Tree()
        tree.add(kind, body)
        return tree

    return make


def childless(asked: Message) -> Tree:
    return message_of(Tree(), asked)


def without_object(asked: Message) -> Tree:
    return message_of(Tree(), asked, "ab" * 32)


def of_many_objects(asked: Message) -> Tree:
    tree = Tree()
    for number in range(module.OBJECTS + 1):
        tree.add("ArrayChunk", str(number).encode())
    return message_of(tree, asked, *list(tree.objects))


def too_long(asked: Message) -> Tree:
    tree = Tree()
    return message_of(tree, asked, tree.add("ArrayChunk", bytes(module.ROOM + 1)))


def for_another(asked: Message) -> Tree:
    return whole(answering(asked, reply_to_message_id="0" * 64))


def not_a_head(asked: Message) -> Tree:
    content = b"\xff\xfe nothing" + HEAD_BODY_DIVIDER
    return Tree({hashlib.sha256(content).hexdigest(): content})


HOSTILE: dict[str, Callable[[Message], Tree]] = {
    "records that are no JSON": over("RecordDict", b"no JSON"),
    "records that are nested 100,000 deep": over("RecordDict", b"[" * 100_000),
    "records that are a list": over("RecordDict", b"[1, 2]"),
    "records that name an object that is not there": over("RecordDict", b'{"a": "b"}'),
    "scalars that are no record": over("ConfigRecord", b"\xff\xff\xff"),
    "an array without its parts": over("Array", b'{"shape": [1]}'),
    "content of a kind that does not exist": over("Evil", b""),
    "content that is no records": over("ArrayChunk", b"1234"),
    "no message but scalars": bare("ConfigRecord", b""),
    "a message of garbage": bare("Message", b"\xff\xff\xff"),
    "a message without content": childless,
    "content that was never sent": without_object,
    "bytes without a head": not_a_head,
    "an answer to another message": for_another,
    "more than ten thousand objects": of_many_objects,
    "more bytes than any answer has": too_long,
}


@dataclass
class Link:
    """A SuperLink's runtime interface: what was asked, and the replies that it hands out once."""

    hostile: Callable[[Message], Tree] | None
    stray: Tree | None = None
    asked: dict[str, Message] = field(default_factory=dict)
    trees: dict[str, Tree] = field(default_factory=dict)
    handed: set[str] = field(default_factory=set)
    confirmed: list[str] = field(default_factory=list)

    def PushMessages(self, request: Any) -> PushAppMessagesResponse:
        numbers = [one.metadata.message_id for one in request.messages_list]
        return PushAppMessagesResponse(message_ids=numbers, session_id="s")

    def PushObject(self, request: Any) -> PushObjectResponse:
        return PushObjectResponse(stored=True)

    def PullMessages(self, request: Any) -> PullAppMessagesResponse:
        answer = PullAppMessagesResponse()
        for number in request.message_ids:
            self.hand(answer, self.reply(self.asked[number]), number)
            self.handed.add(number)
        if self.stray:
            self.hand(answer, self.stray, "")
        return answer

    def reply(self, asked: Message) -> Tree:
        """A message is forgotten when its reply is announced; who asks again gets an error."""
        if asked.metadata.message_id in self.handed:
            return whole(Message(Error(ErrorCode.MESSAGE_UNAVAILABLE), reply_to=asked))
        make = self.hostile if asked.metadata.dst_node_id == ATTACKER else None
        return make(asked) if make else whole(answering(asked))

    def hand(self, answer: PullAppMessagesResponse, tree: Tree, number: str) -> None:
        said = MessageProto()
        said.metadata.message_id, said.metadata.reply_to_message_id = tree.root, number
        answer.messages_list.append(said)
        inner = [ObjectTree(object_id=key) for key in list(tree.objects)[:-1]]
        answer.message_object_trees.append(ObjectTree(object_id=tree.root, children=inner))
        self.trees[tree.root] = tree

    def PullObject(self, request: Any) -> PullObjectResponse:
        for tree in self.trees.values():
            if request.object_id in tree.held:
                return PullObjectResponse(object_found=True, object_available=False)
            if (content := tree.objects.get(request.object_id)) is not None:
                return PullObjectResponse(
                    object_found=True, object_available=True, object_content=content
                )
        return PullObjectResponse(object_found=False)

    def ConfirmMessageReceived(self, request: Any) -> ConfirmMessageReceivedResponse:
        self.confirmed.append(request.message_object_id)
        return ConfirmMessageReceivedResponse()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(module, "ROOM", 1 << 20)
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1


def sent_by(link: Link, timeout: float = 20.0) -> dict[int, Message]:
    """The replies by the node that was asked."""
    grid = HttpGrid(token="none")
    grid.set_run(Run.create_empty(1))
    grid.__dict__["_client"] = link
    messages = [
        Message(RecordDict({"request": ConfigRecord({"for": node})}), node, "train")
        for node in (ATTACKER, *HONEST)
    ]
    for message in messages:
        link.asked[message.object_id] = message
    made = careful(grid)
    assert isinstance(made, CarefulGrid)
    replies = list(made.send_and_receive(messages, timeout=timeout))
    return {link.asked[r.metadata.reply_to_message_id].metadata.dst_node_id: r for r in replies}


def honest(replies: dict[int, Message]) -> None:
    """All others' updates are there, bit by bit."""
    for node in HONEST:
        record = replies[node].content["arrays"]
        assert isinstance(record, ArrayRecord)
        assert record["update"].numpy().tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_reply_that_is_no_message_costs_nobody_else_a_round(name: str) -> None:
    link = Link(HOSTILE[name])
    replies = sent_by(link)
    honest(replies)
    assert replies[ATTACKER].has_error()
    assert replies[ATTACKER].error.code == UNREADABLE
    assert len(link.confirmed) == 4, "the SuperLink keeps none of them"


def test_honest_replies_come_as_they_are() -> None:
    link = Link(None)
    replies = sent_by(link)
    honest(replies)
    assert set(replies) == {ATTACKER, *HONEST}
    assert not replies[ATTACKER].has_error()


def test_a_reply_that_never_arrives_whole_does_not_hold_up_the_others() -> None:
    """Flower's grid would wait for it, for up to two hours."""

    def half(asked: Message) -> Tree:
        tree = whole(answering(asked))
        tree.held.add("cd" * 32)
        tree.objects = {"cd" * 32: b"", **tree.objects}
        return tree

    replies = sent_by(Link(half), timeout=1.0)
    honest(replies)
    assert ATTACKER not in replies


def test_a_reply_that_arrives_slowly_is_the_hospitals_own() -> None:
    """Its objects are uploaded after it was announced, which takes many polls where it is long."""

    class Slow(Link):
        polls = 0

        def PullMessages(self, request: Any) -> PullAppMessagesResponse:
            answer = super().PullMessages(request)
            self.polls += 1
            for tree in self.trees.values():
                tree.held = set() if self.polls > 5 else set(tree.objects)
            return answer

    replies = sent_by(Slow(None))
    honest(replies)
    assert set(replies) == {ATTACKER, *HONEST}
    assert not replies[ATTACKER].has_error()


@pytest.mark.parametrize("name", ["a message of garbage", "records that are no JSON"])
def test_messages_that_nobody_asked_for_cost_nobody_a_round(name: str) -> None:
    """A SuperNode can send the server app messages that answer nothing: they come with others'."""
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
    some = Message(RecordDict(), 5, "train")
    replies = sent_by(Link(None, HOSTILE[name](some)))
    honest(replies)
    assert set(replies) == {ATTACKER, *HONEST}


def test_a_superlink_that_is_away_is_no_fault_of_a_hospital() -> None:
    import httpx

    class Away(Link):
        def PullObject(self, request: Any) -> PullObjectResponse:
            raise httpx.ConnectError("refused")

    with pytest.raises(httpx.ConnectError):
        sent_by(Away(None))
