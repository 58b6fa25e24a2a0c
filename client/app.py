"""The Flower ClientApp: a message becomes an answer, and nothing else leaves.

``node_config`` may name ``partition-id`` (which hospital this is) and ``data-root`` (its data
folder; otherwise ``METAWARD_DATA``). A path is never taken from the server.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

import sim
from client import work
from client.errors import DataError
from client.inner import Algorithm
from options import ConfigError
from privacy import Answer, Refusal
from privacy.wire import Request, WireError, decode_request, encode_answer

log = logging.getLogger("metaward.hospital")
app = ClientApp()

Handler = Callable[[work.Desk, Request, int, Path | None], Answer]


@app.query("roster")
def roster(message: Message, context: Context) -> Message:
    """Which hospital is this? Its data are opened and checked on the way."""
    nodes = context.node_config.get("num-partitions")  # known in simulations only

    def attend(desk: work.Desk, _: Request, index: int, root: Path | None) -> Answer:
        if nodes is not None and int(nodes) != len(desk.source.roster()):
            return Refusal("federation-size")
        return work.attend(desk, index, root)

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
        content = encode_answer(handler(desk, request, int(where), data_root(context)))
    except (WireError, ConfigError) as error:
        log.error("hospital %s: request refused: %s", where, error)
        content = encode_answer(Refusal("bad-request"))
    except DataError as error:
        log.error("hospital %s: data refused: %s", where, error)
        content = encode_answer(Refusal(DataError.code))
    except Exception:
        log.exception("hospital %s: failed", where)
        content = encode_answer(Refusal("failed"))
    return Message(content, reply_to=message)


def data_root(context: Context) -> Path | None:
    """This hospital's data folder, from its own node config or environment."""
    named = context.node_config.get("data-root") or os.environ.get("METAWARD_DATA")
    return Path(str(named)) if named else None


def _train(desk: work.Desk, request: Request, index: int, root: Path | None) -> Answer:
    if request.theta is None:
        raise WireError("keys")
    return work.train(desk, _learner(request.learner), request.theta, index, request.round, root)


def _evaluate(desk: work.Desk, request: Request, index: int, root: Path | None) -> Answer:
    if request.theta is None or request.episodes < 1:
        raise WireError("keys")
    learner = _learner(request.learner)
    return work.evaluate(desk, learner, request.theta, index, request.round, request.episodes, root)


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
def _learner(text: str) -> Algorithm:
    return sim.learner_from_json(text)
