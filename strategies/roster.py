"""Which node is which hospital: node ids are random in every Flower run, hospitals have names.

The server knows the public roster (names in the order of partition ids) from the configuration. A
node becomes a hospital by answering the roster call with a seat that no other node holds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from flwr.app import Message, MessageType
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from metaward.errors import RunError
from metaward.privacy import Attendance
from metaward.privacy.wire import Request, encode_request
from metaward.strategies.checks import Rejected, read

POLL_SECONDS = 0.2
REST = 5.0
"""A silent node is left alone for so many waits, so that it costs at most 1/6 of the time."""

LOST = frozenset(
    f"error-{code}"
    for code in (
        ErrorCode.MESSAGE_UNAVAILABLE,
        ErrorCode.REPLY_MESSAGE_UNAVAILABLE,
        ErrorCode.NODE_UNAVAILABLE,
    )
)
"""Flower's codes for a node that went away; such a node is not turned away, for it said nothing."""


class RosterError(RunError):
    """Too few hospitals came, or one cannot take part; the text says which and why."""


@dataclass
class Roster:
    """The hospitals of a run and the nodes that they answer from at present.

    ``timeout`` (seconds) is how long all hospitals can take to connect before the run; ``patience``
    is how long a round waits for nodes that connected, or reconnected, since. ``silent`` maps a
    node that did not answer in that time to the moment when it is asked again, so that it does not
    hold up every round.
    """

    seats: Sequence[str]
    request: Request
    timeout: float
    patience: float = 60.0
    nodes: dict[str, int] = field(default_factory=dict)
    turned_away: dict[int, Rejected] = field(default_factory=dict)
    silent: dict[int, float] = field(default_factory=dict)
    present: frozenset[int] = frozenset()

    def gather(self, grid: Grid) -> None:
        """Wait until every seat is taken; ``RosterError`` after the timeout.

        Flower reports a run's nodes as they register, so the first look may see only some of them.
        """
        deadline = time.monotonic() + self.timeout
        while True:
            self._look(grid)
            self._call(grid, self._new(), max(deadline - time.monotonic(), 0.0))
            for rejected in self.turned_away.values():
                raise RosterError(_turned_away(rejected, len(self.seats)))
            missing = [seat for seat in self.seats if seat not in self.nodes]
            if not missing:
                return
            if time.monotonic() > deadline:
                raise RosterError(
                    f"{len(missing)} of {len(self.seats)} hospitals did not come within "
                    f"{self.timeout:g} s: {', '.join(missing[:10])}"
                )
            time.sleep(POLL_SECONDS)

    def refresh(self, grid: Grid) -> None:
        """Forget nodes that left, ask new ones who they are, and wait for them a little."""
        self._look(grid)
        now, patience = time.monotonic(), min(self.patience, self.timeout)
        called = [node for node in self._new() if self.silent.get(node, now) <= now]
        self._call(grid, called, patience)
        rested = time.monotonic() + REST * patience
        self.silent |= dict.fromkeys(set(called) & set(self._new()), rested)

    def _look(self, grid: Grid) -> None:
        """Find the nodes that are present, and forget those that are not."""
        self.present = frozenset(grid.get_node_ids())
        self.nodes = {seat: node for seat, node in self.nodes.items() if node in self.present}
        self.turned_away = {n: r for n, r in self.turned_away.items() if n in self.present}
        self.silent = {n: when for n, when in self.silent.items() if n in self.present}

    def _new(self) -> list[int]:
        """Nodes whose hospital is not known yet."""
        return sorted(self.present - set(self.nodes.values()) - self.turned_away.keys())

    def _call(self, grid: Grid, new: Sequence[int], timeout: float) -> None:
        """Ask nodes who they are and seat those that answer in time."""
        if not new:
            return
        calls = [
            Message(encode_request(self.request), n, f"{MessageType.QUERY}.roster") for n in new
        ]
        replies = list(grid.send_and_receive(calls, timeout=timeout))
        asked = {call.metadata.message_id: call.metadata.dst_node_id for call in calls}
        for reply in replies:  # only the first reply to each call counts
            node = asked.pop(reply.metadata.reply_to_message_id, None)
            if node is not None:
                self._seat(node, reply)

    def _seat(self, node: int, reply: Message) -> None:
        answer = read(reply, Attendance, f"node {node}")
        if isinstance(answer, Attendance):
            answer = self._judge(answer)
        if isinstance(answer, Rejected):
            if answer.reason not in LOST:
                self.turned_away[node] = answer
        else:
            self.nodes[answer.hospital] = node

    def _judge(self, answer: Attendance) -> Attendance | Rejected:
        if not 0 <= answer.index < len(self.seats) or self.seats[answer.index] != answer.hospital:
            return Rejected(f"hospital number {answer.index}", "unknown-seat")
        if answer.hospital in self.nodes:
            return Rejected(answer.hospital, "seat-taken")
        return answer


def _turned_away(rejected: Rejected, seats: int) -> str:
    if rejected.reason == "federation-size":
        return (
            f"the configuration has {seats} hospitals, but the simulation has another number of "
            f'SuperNodes; add to flwr run: --federation-config "num-supernodes={seats}"'
        )
    return f"{rejected.hospital} cannot take part: {rejected.reason}; its own log says more"
