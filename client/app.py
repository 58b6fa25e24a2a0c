"""The Flower ClientApp: a message becomes an answer, and nothing else leaves.

The message says what the hospital is asked to do (``client.desk``); the hospital's own settings are
in its node config (``client.node``). Where it names a ``guard``, the guard answers in a process of
its own, and this one only passes messages on (``client.guarding.relay``).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from metaward.client.errors import NodeError
from metaward.client.guarding.letters import Records
from metaward.client.guarding.relay import relay

if TYPE_CHECKING:
    from metaward.client.answering import Duty

app = ClientApp()


@app.query("roster")
def roster(message: Message, context: Context) -> Message:
    """Say which hospital this is; its data are opened and checked on the way."""
    return _reply("roster", message, context)


@app.train()
def train(message: Message, context: Context) -> Message:
    """One round of meta-training."""
    return _reply("train", message, context)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Adapt to this hospital's episodes and report the scores."""
    return _reply("evaluate", message, context)


def _reply(duty: Duty, message: Message, context: Context) -> Message:
    guard = context.node_config.get("guard")
    if guard:
        found = _guarded(Path(str(guard)), duty, message.content, context.run_id)
    else:  # needs torch, learners and mechanisms, for which a guard's relay does not wait
        from metaward.client.answering import answer, log_locally

        log_locally()
        found = answer(duty, message.content, context.node_config, flower_run=context.run_id)
    return Message(found, reply_to=message)


def _guarded(guard: Path, duty: Duty, records: Records, flower_run: int) -> Records:
    """The guard's answer, or a refusal without a signature where there is nobody to sign."""
    try:
        return relay(guard, duty, records, flower_run)
    except NodeError as error:
        from metaward.client.answering import unsigned

        logging.getLogger("metaward.hospital").error("%s: %s", error.code, error)
        return unsigned(error.code)
