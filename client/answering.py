"""A hospital's answer to a request, whoever carries them: from records to records.

``client.app`` calls this in Flower's process, or the guard (``client.guarding``) in its own.
Whatever goes wrong, a fixed code leaves and the text stays here.
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
from metaward.client.away import at_hand, log_to_the_run
from metaward.client.desk import Desk, asked_plugins, read_desk
from metaward.client.errors import NodeError, below_entry, one_line, present_traceback
from metaward.client.guard import Guard, NodeConfig, admit_plugins, guard_of_refusals, own_name
from metaward.client.journal import note_answer
from metaward.client.node import Node, on_own_terms, open_node, seat_of
from metaward.errors import MetawardError
from metaward.options import ConfigError
from metaward.privacy import REFUSALS, Answer, Refusal
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
    guard: Guard | None = None
    answer: Answer = FAILED

    def who(self, config: NodeConfig) -> str:
        """The hospital as its log names it: by its number only where its name is not known yet."""
        number = f"number {config.get('partition-id', '?')} of the roster"
        return f"hospital {self.hospital or number}"

    def records(self) -> Records:
        """The answer as it leaves: signed where key, request and the hospital's name are known."""
        if self.key is None or self.request is None or self.hospital is None:
            return encode_answer(self.answer)
        statement = stated(self.answer, self.request, self.hospital)
        return encode_answer(self.answer, sign(self.key, statement))

    def refuse(self, code: str, reason: str, config: NodeConfig) -> None:
        """Answer with a code, and write it down with its reason in the hospital's ledger."""
        self.answer = Refusal(code)
        run, round = (self.request.run, self.request.round) if self.request else ("", 0)
        try:
            guard = self.guard or guard_of_refusals(config)
            guard.refused(code, one_line(f"{code}: {reason}"), run, round)
        except LedgerError as error:
            log.error("this refusal is in no ledger: %s", below_entry(str(error)))


def answer(
    duty: Duty, records: Records, config: NodeConfig, flower_run: int | None = None
) -> Records:
    """The records of the answer; ``config`` is the hospital's own node config.

    ``flower_run`` is Flower's number of the run, by which the hospital's gate has written down what
    code it let in (``client.let_in``); None: not known, so no charge names the code. Where the node
    config names an ``audit-log``, the answer's line is on the disk before the answer leaves.
    """
    exchange = Exchange()

    def take() -> Records:
        exchange.key = _signing_key(config)
        exchange.request = decode_request(records)
        with at_hand(exchange.request, config) as own:
            exchange.answer = _handled(exchange, exchange.request, duty, own, flower_run)
        return exchange.records()

    found = _or_refusal(exchange, config, take)
    return _or_refusal(exchange, config, lambda: _noted(exchange, duty, found, config))


def unsigned(code: str) -> Records:
    """The records of a refusal by a process that has no key."""
    return encode_answer(Refusal(code))


def _or_refusal(exchange: Exchange, config: NodeConfig, step: Callable[[], Records]) -> Records:
    """What the step returns; where it fails a refusal, and the reason in the hospital's log."""
    try:
        return step()
    except MetawardError as error:
        code = error.code if error.code in REFUSALS else "failed"
        text = str(error).removeprefix(f"{code}: ")
        more = present_traceback() if code == "failed" else below_entry(f"{code}: {text}")
        log.error("%s: %s", exchange.who(config), more)
    except Exception as error:
        log.error("%s: %s", exchange.who(config), present_traceback())
        code, text = "failed", f"{type(error).__name__}; the hospital's own log says more"
    exchange.refuse(code, text, config)
    return exchange.records()


def _noted(exchange: Exchange, duty: Duty, found: Records, config: NodeConfig) -> Records:
    named = config.get("audit-log")
    if named:
        note_answer(Path(str(named)), duty, exchange.request, exchange.answer)
    return found


def _handled(
    exchange: Exchange, request: Request, duty: Duty, config: NodeConfig, flower_run: int | None
) -> Answer:
    if exchange.key is not None:
        exchange.hospital = own_name(config)
    plugins = asked_plugins(request.desk)
    admit_plugins(config, plugins)
    desk = read_desk(request.desk) if plugins else _desk(request.desk)
    if exchange.hospital is None:
        exchange.hospital = seat_of(desk, int(str(config["partition-id"]))).name
    node = open_node(config, desk, request, flower_run)
    exchange.guard = node.guard
    desk = on_own_terms(desk, config)
    handler = _attending(config) if duty == "roster" else HANDLERS[duty]
    return handler(desk, request, node)


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
    if request.round < 1 or request.episodes:
        raise WireError("range")
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
    """Keep the hospitals' log in a file, which the engine or deployment names; on a cluster, in
    that of the run's own machine."""
    log_to_the_run(log)
    path = os.environ.get("METAWARD_HOSPITAL_LOG")
    if path and not log.handlers:
        handler = logging.FileHandler(path, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(handler)
        log.propagate = False
