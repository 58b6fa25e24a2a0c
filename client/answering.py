"""A hospital's answer to a request, whoever carries them: from records to records.

``client.app`` calls this in Flower's process. Whatever goes wrong, a fixed code leaves and the text
stays here.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from metaward.client import work
from metaward.client.desk import Desk, asked_plugins, read_desk
from metaward.client.errors import DataError, NodeError
from metaward.client.guard import NodeConfig, admit_plugins, own_name
from metaward.client.node import Node, on_own_terms, open_node, seat_of
from metaward.errors import MetawardError
from metaward.options import ConfigError
from metaward.privacy import REFUSALS, Answer, Refusal
from metaward.privacy.asked import PolicyError
from metaward.privacy.ledger import LedgerError
from metaward.privacy.signing import read_signing_key, sign
from metaward.privacy.wire import (
    Records,
    Request,
    WireError,
    decode_request,
    encode_answer,
    stated,
)

log = logging.getLogger("metaward.hospital")

Duty = Literal["roster", "train", "evaluate"]
Handler = Callable[[Desk, Request, Node], Answer]


FAILED = Refusal("failed")


@dataclass
class Exchange:
    """One request, as far as it could be read, and its answer."""

    request: Request | None = None
    hospital: str | None = None
    key: Ed25519PrivateKey | None = None
    answer: Answer = FAILED

    def records(self) -> Records:
        """The answer as it leaves: signed where key, request and the hospital's name are known."""
        if self.key is None or self.request is None or self.hospital is None:
            return encode_answer(self.answer)
        statement = stated(self.answer, self.request, self.hospital)
        return encode_answer(self.answer, sign(self.key, statement))


def answer(duty: Duty, records: Records, config: NodeConfig) -> Records:
    """The records of the answer; ``config`` is the hospital's own node config."""
    exchange, where = Exchange(), config.get("partition-id", "?")
    try:
        exchange.key = _signing_key(config)
        exchange.request = decode_request(records)
        exchange.answer = _handled(exchange, exchange.request, duty, config)
        return exchange.records()
    except MetawardError as error:
        code = error.code if error.code in REFUSALS else "failed"
        text = str(error).removeprefix(f"{code}: ")
        log.error("hospital %s: %s: %s", where, code, text, exc_info=code == "failed")
    except Exception:
        log.exception("hospital %s: failed", where)
        code = "failed"
    exchange.answer = Refusal(code)
    return exchange.records()


def _handled(exchange: Exchange, request: Request, duty: Duty, config: NodeConfig) -> Answer:
    if exchange.key is not None:
        exchange.hospital = own_name(config)
    plugins = asked_plugins(request.desk)
    admit_plugins(config, plugins)
    desk = read_desk(request.desk) if plugins else _desk(request.desk)
    if exchange.hospital is None:
        exchange.hospital = seat_of(desk, int(str(config["partition-id"]))).name
    node = open_node(config, desk, request)
    desk = on_own_terms(desk, config)
    handler = _attending(config) if duty == "roster" else HANDLERS[duty]
    return _guarded(handler, desk, request, node)


def _guarded(handler: Handler, desk: Desk, request: Request, node: Node) -> Answer:
    """The handler's answer; a refusal is first written to the hospital's ledger."""
    try:
        return handler(desk, request, node)
    except (DataError, LedgerError, NodeError, PolicyError) as error:
        node.guard.refused(error.code, str(error), request.run, request.round)
        raise


def _signing_key(config: NodeConfig) -> Ed25519PrivateKey | None:
    """The hospital's key; ``NodeError`` where one is named that cannot be used."""
    named = config.get("signing-key")
    try:
        return read_signing_key(Path(str(named))) if named else None
    except ConfigError as error:
        raise NodeError("signing-key", f"signing-key: {error}") from error


# ------------------------------------------------------------------------------ the duties


def _attending(config: NodeConfig) -> Handler:
    """Say which hospital this is; its data are opened and checked on the way."""
    nodes = config.get("num-partitions")  # known in simulations only

    def attend(desk: Desk, request: Request, node: Node) -> Answer:
        if nodes is not None and int(str(nodes)) != len(desk.source.roster()):
            return Refusal("federation-size")
        return work.attend(desk, request, node)

    return attend


def _train(desk: Desk, request: Request, node: Node) -> Answer:
    if request.theta is None:
        raise WireError("keys")
    return work.train(desk, request, node)


def _evaluate(desk: Desk, request: Request, node: Node) -> Answer:
    if request.theta is None or request.episodes < 1:
        raise WireError("keys")
    return work.evaluate(desk, request, node)


HANDLERS: dict[str, Handler] = {"train": _train, "evaluate": _evaluate}


@lru_cache(maxsize=32)
def _desk(text: str) -> Desk:
    """A cached desk; not for plug-ins, since one can be registered again under the same name."""
    return read_desk(text)


def log_locally() -> None:
    """Keep the hospitals' log in a file, which the engine or deployment names."""
    path = os.environ.get("METAWARD_HOSPITAL_LOG")
    if path and not log.handlers:
        handler = logging.FileHandler(path, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(handler)
        log.propagate = False
