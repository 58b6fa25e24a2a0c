"""The Flower ClientApp: a message becomes an answer, and nothing else leaves.

``node_config`` names ``partition-id`` (which hospital this is), ``policy`` and ``ledger`` (files of
the hospital's own), and may name ``data-root`` (its data folder; otherwise ``METAWARD_DATA``). A
path is never taken from the server.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from metaward import sim
from metaward.client import work
from metaward.client.errors import DataError
from metaward.client.guard import Guard, open_guard
from metaward.client.inner import Algorithm
from metaward.options import ConfigError
from metaward.privacy import REFUSALS, Answer, Refusal
from metaward.privacy.ledger import LedgerError
from metaward.privacy.policy import Refused
from metaward.privacy.wire import Request, WireError, decode_request, encode_answer

log = logging.getLogger("metaward.hospital")
app = ClientApp()

NOISE = 5  # the random stream of seeded noise, beside those of client.work
Handler = Callable[[work.Desk, Request, int, Path | None, Guard], Answer]


@app.query("roster")
def roster(message: Message, context: Context) -> Message:
    """Which hospital is this? Its data are opened and checked on the way."""
    nodes = context.node_config.get("num-partitions")  # known in simulations only

    def attend(
        desk: work.Desk, request: Request, index: int, root: Path | None, guard: Guard
    ) -> Answer:
        if nodes is not None and int(nodes) != len(desk.source.roster()):
            return Refusal("federation-size")
        return work.attend(desk, request, index, root, guard)

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
    """Run a handler; whatever goes wrong, only a fixed code leaves and the text stays here."""
    where = context.node_config.get("partition-id", "?")
    try:
        request = decode_request(message.content)
        desk = _desk(request.sim)
        guard = guard_of(context, desk, request, int(where))
        return _reply(_guarded(handler, desk, request, context, guard), message)
    except (WireError, ConfigError) as error:
        log.error("hospital %s: request refused: %s", where, error)
        code = "bad-request"
    except (DataError, LedgerError, Refused) as error:
        log.error("hospital %s: refused: %s", where, error)
        code = error.code if error.code in REFUSALS else "failed"
    except Exception:
        log.exception("hospital %s: failed", where)
        code = "failed"
    return _reply(Refusal(code), message)


def _reply(answer: Answer, message: Message) -> Message:
    return Message(encode_answer(answer), reply_to=message)


def _guarded(
    handler: Handler, desk: work.Desk, request: Request, context: Context, guard: Guard
) -> Answer:
    """The handler's answer; a refusal is kept in the hospital's ledger on its way."""
    index = int(context.node_config["partition-id"])
    try:
        return handler(desk, request, index, data_root(context), guard)
    except (DataError, LedgerError, Refused) as error:
        guard.refused(error.code, str(error), request.run, request.round)
        raise


def guard_of(context: Context, desk: work.Desk, request: Request, index: int) -> Guard:
    """Policy, ledger and noise as this node's own configuration has them."""
    learner = int.from_bytes(hashlib.sha256(request.learner.encode()).digest()[:8])
    seed = (desk.seed, NOISE, index, request.round, learner)
    name = work.seat_of(desk, index).name
    charges = request.theta is not None and not request.episodes  # as training requests are
    return open_guard(context.node_config, desk.mechanism, request.run, name, seed, charges)


def data_root(context: Context) -> Path | None:
    """This hospital's data folder, from its own node config or environment."""
    named = context.node_config.get("data-root") or os.environ.get("METAWARD_DATA")
    return Path(str(named)) if named else None


def _train(
    desk: work.Desk, request: Request, index: int, root: Path | None, guard: Guard
) -> Answer:
    if request.theta is None:
        raise WireError("keys")
    return work.train(desk, _learner(request.learner, desk), request, index, root, guard)


def _evaluate(
    desk: work.Desk, request: Request, index: int, root: Path | None, guard: Guard
) -> Answer:
    if request.theta is None or request.episodes < 1:
        raise WireError("keys")
    return work.evaluate(desk, _learner(request.learner, desk), request, index, root, guard)


def _log_locally() -> None:
    """Keep the hospitals' log in a file, which the flower engine names for its simulation."""
    path = os.environ.get("METAWARD_HOSPITAL_LOG")
    if path and not log.handlers:
        handler = logging.FileHandler(path, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(handler)
        log.propagate = False


_log_locally()


@lru_cache(maxsize=8)
def _desk(text: str) -> work.Desk:
    return sim.load_json(text).desk()


@lru_cache(maxsize=32)
def _learner(text: str, desk: work.Desk) -> Algorithm:
    """It comes beside the configuration (a baseline's differs), so it is checked against it here:
    what the mechanism cannot protect is not run."""
    learner = sim.learner_from_json(text)
    try:
        learner.check(desk.source.spec(), desk.mechanism.unit)
    except ValueError as error:
        raise ConfigError([f"learner: {error}"]) from error
    return learner
