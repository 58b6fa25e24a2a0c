"""One leg of a round: a request to some hospitals, and the hospital behind each reply."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flwr.app import Message
from flwr.common.constant import ErrorCode

from metaward.privacy.wire import Request


@dataclass(frozen=True)
class Leg:
    """``messages[i]`` carries ``request`` to ``hospitals[i]``; absent hospitals get none."""

    request: Request
    messages: Sequence[Message]
    hospitals: Sequence[str]

    def with_another(self, other: Leg) -> Leg:
        """This leg and one that asked the same again."""
        hospitals = [*self.hospitals, *other.hospitals]
        return Leg(self.request, [*self.messages, *other.messages], hospitals)

    def silent(self, replies: Iterable[Message], hospitals: Iterable[str]) -> list[str]:
        """Those of the hospitals that said nothing; an error in the place of a node that went away
        is no answer of its hospital."""
        answered = {h for h, reply in self.by_hospital(replies) if not lost(reply)}
        return [hospital for hospital in hospitals if hospital not in answered]

    def by_hospital(self, replies: Iterable[Message]) -> list[tuple[str, Message]]:
        """Replies with their hospital, found by the message they answer: an error names no sender.

        The grid gives a message its id when it sends it, so ids are read here and not before.
        Replies to an earlier leg are left out.
        """
        sent = zip(self.messages, self.hospitals, strict=True)
        names = {message.metadata.message_id: hospital for message, hospital in sent}
        answered = [(reply.metadata.reply_to_message_id, reply) for reply in replies]
        return [(names[number], reply) for number, reply in answered if number in names]


LOST = frozenset(
    {
        ErrorCode.MESSAGE_UNAVAILABLE,
        ErrorCode.REPLY_MESSAGE_UNAVAILABLE,
        ErrorCode.NODE_UNAVAILABLE,
    }
)
"""Flower's codes for a node that went away."""


UNREADABLE = 1000
"""Our own code, none of Flower's, for a reply whose bytes are no message."""


def lost(reply: Message) -> bool:
    """Whether Flower answers in the name of a node that went away."""
    return reply.has_error() and reply.error.code in LOST
