"""The Flower ClientApp: a message becomes an answer, and nothing else leaves.

The message says what the hospital is asked to do (``client.desk``); the hospital's own settings are
in its node config (``client.node``).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import lru_cache

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from metaward.client import work
from metaward.client.desk import Desk, asked_plugins, read_desk
from metaward.client.errors import DataError, NodeError
from metaward.client.guard import admit_plugins
from metaward.client.node import Node, on_own_terms, open_node
from metaward.errors import MetawardError
from metaward.privacy import REFUSALS, Answer, Refusal
from metaward.privacy.asked import PolicyError
from metaward.privacy.ledger import LedgerError
from metaward.privacy.wire import Request, WireError, decode_request, encode_answer

log = logging.getLogger("metaward.hospital")
app = ClientApp()

Handler = Callable[[Desk, Request, Node], Answer]


@app.query("roster")
def roster(message: Message, context: Context) -> Message:
    """Say which hospital this is; its data are opened and checked on the way."""
    nodes = context.node_config.get("num-partitions")  # known in simulations only

    def attend(desk: Desk, request: Request, node: Node) -> Answer:
        if nodes is not None and int(nodes) != len(desk.source.roster()):
            return Refusal("federation-size")
        return work.attend(desk, request, node)

    return answer(message, context, attend)


@app.train()
def train(message: Message, context: Context) -> Message:
    """One round of meta-training."""
    return answer(message, context, _train)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Adapt to this hospital's episodes and report the scores."""
    return answer(message, context, _evaluate)


def answer(message: Message, context: Context, handler: Handler) -> Message:
    """Run a handler; if anything goes wrong, a fixed code leaves and the text stays here."""
    where = context.node_config.get("partition-id", "?")
    try:
        request = decode_request(message.content)
        plugins = asked_plugins(request.desk)
        admit_plugins(context.node_config, plugins)
        desk = read_desk(request.desk) if plugins else _desk(request.desk)
        node = open_node(context.node_config, desk, request)
        desk = on_own_terms(desk, context.node_config)
        return _reply(_guarded(handler, desk, request, node), message)
    except MetawardError as error:
        code = error.code if error.code in REFUSALS else "failed"
        text = str(error).removeprefix(f"{code}: ")
        log.error("hospital %s: %s: %s", where, code, text, exc_info=code == "failed")
    except Exception:
        log.exception("hospital %s: failed", where)
        code = "failed"
    return _reply(Refusal(code), message)


def _reply(answer: Answer, message: Message) -> Message:
    return Message(encode_answer(answer), reply_to=message)


def _guarded(handler: Handler, desk: Desk, request: Request, node: Node) -> Answer:
    """The handler's answer; a refusal is first written to the hospital's ledger."""
    try:
        return handler(desk, request, node)
    except (DataError, LedgerError, NodeError, PolicyError) as error:
        node.guard.refused(error.code, str(error), request.run, request.round)
        raise


def _train(desk: Desk, request: Request, node: Node) -> Answer:
    if request.theta is None:
        raise WireError("keys")
    return work.train(desk, request, node)


def _evaluate(desk: Desk, request: Request, node: Node) -> Answer:
    if request.theta is None or request.episodes < 1:
        raise WireError("keys")
    return work.evaluate(desk, request, node)


def _log_locally() -> None:
    """Keep the hospitals' log in a file, which the flower engine names for its simulation."""
    path = os.environ.get("METAWARD_HOSPITAL_LOG")
    if path and not log.handlers:
        handler = logging.FileHandler(path, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(handler)
        log.propagate = False


_log_locally()


@lru_cache(maxsize=32)
def _desk(text: str) -> Desk:
    """A cached desk; not for plug-ins, since one can be registered again under the same name."""
    return read_desk(text)
