"""The Flower ClientApp: a message becomes an answer, and nothing else leaves.

The message says what the hospital is asked to do (``client.desk``); the hospital's own settings are
in its node config (``client.node``).
"""

from __future__ import annotations

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from metaward.client.answering import Duty, answer, log_locally

app = ClientApp()
log_locally()


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
    return Message(answer(duty, message.content, context.node_config), reply_to=message)
