"""One leg of a round: a request to some hospitals, and the hospital behind each reply."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flwr.app import Message

from metaward.privacy.wire import Request


@dataclass(frozen=True)
class Leg:
    """``messages[i]`` carries ``request`` to ``hospitals[i]``; absent hospitals get none."""

    request: Request
    messages: Sequence[Message]
    hospitals: Sequence[str]

    def by_hospital(self, replies: Iterable[Message]) -> list[tuple[str, Message]]:
        """Replies with their hospital, found by the message they answer: an error names no sender.

        The grid gives a message its id when it sends it, so ids are read here and not before.
        Replies to an earlier leg are left out.
        """
        sent = zip(self.messages, self.hospitals, strict=True)
        names = {message.metadata.message_id: hospital for message, hospital in sent}
        answered = [(reply.metadata.reply_to_message_id, reply) for reply in replies]
        return [(names[number], reply) for number, reply in answered if number in names]
