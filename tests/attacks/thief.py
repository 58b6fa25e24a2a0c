"""A program that takes a SuperNode's tasks at its port on loopback, and answers in its place.

It is a process of its own, as an attacker's would be, and so that it can be ended: retries of
Flower go on for ever, and an answer "unauthorized" interrupts the process that asked.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from flwr.app import Message, RecordDict
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import ObjectTree, PushObjectRequest
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PullAppMessagesRequest,
    PullTaskInputRequest,
    PushAppMessagesRequest,
    PushTaskOutputRequest,
)
from flwr.supercore.constant import TaskType
from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, RuntimeVersionHttpInterceptor
from flwr.supercore.retry import make_simple_http_retry_invoker
from flwr.supercore.runtime import RuntimeHttpClient

from metaward.privacy import Release
from metaward.privacy.wire import encode_answer
from tests.server.engines.test_careful_grid import Tree, over, whole

ATTACKED = "phantom-01"


def forged(asked: Message) -> Tree:
    """An update of zeros in the hospital's name, without its signature."""
    round = int(asked.metadata.group_id)
    answer = Release(ATTACKED, round, np.zeros(4, np.float32))
    return whole(Message(encode_answer(answer), reply_to=asked))


ATTACKS: dict[str, Callable[[Message], Tree]] = {
    "unsigned": forged,
    "malformed-message": over("RecordDict", b"no JSON"),
}


class Thief:
    """Takes tasks at a SuperNode's port, and answers training with one attack after another."""

    def __init__(self, port: int, told: Path) -> None:
        self.address, self.told, self.left = f"127.0.0.1:{port}", told, list(ATTACKS)

    def client(self, *more: Any) -> RuntimeHttpClient:
        version = RuntimeVersionHttpInterceptor(component_name="flwr-clientapp")
        return RuntimeHttpClient.from_server_address(
            server_address=self.address,
            insecure=True,
            root_certificates=None,
            interceptors=[version, *more],
            retry_invoker=make_simple_http_retry_invoker(),
        )

    def work(self) -> None:
        wanted = AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP])
        with self.client() as asking:
            while self.left:
                try:
                    found = asking.AcquireTask(wanted)
                except httpx.HTTPError:
                    continue
                if found.token:
                    with self.client(RuntimeTokenHttpInterceptor(token=found.token)) as mine:
                        self.answer(mine)
                time.sleep(0.05)

    def answer(self, mine: RuntimeHttpClient) -> None:
        mine.PullTaskInput(PullTaskInputRequest())
        (said,) = mine.PullMessages(PullAppMessagesRequest()).messages_list
        asked = message_from_proto(said)
        attack = self.left.pop(0)
        tree = ATTACKS[attack](asked)
        reply = message_to_proto(Message(RecordDict(), reply_to=asked))
        reply.metadata.message_id = tree.root
        inner = [ObjectTree(object_id=key) for key in list(tree.objects)[:-1]]
        trees = [ObjectTree(object_id=tree.root, children=inner)]
        taken = mine.PushMessages(
            PushAppMessagesRequest(messages_list=[reply], message_object_trees=trees)
        )
        for key, content in tree.objects.items():
            mine.PushObject(
                PushObjectRequest(
                    object_id=key,
                    object_content=content,
                    run_id=asked.metadata.run_id,
                    session_id=taken.session_id,
                )
            )
        mine.PushTaskOutput(PushTaskOutputRequest())
        with self.told.open("a") as file:
            file.write(json.dumps([attack, int(asked.metadata.group_id)]) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("told", type=Path)
    given = parser.parse_args()
    Thief(given.port, given.told).work()
