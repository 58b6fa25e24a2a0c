"""Which node is which hospital: node ids are random in every Flower run, hospitals have names.

The server knows the public roster (names in the order of partition ids) from the configuration. A
node becomes a hospital by answering the roster call with a seat that no other node holds, and where
the configuration names keys, with the signature of the seat's owner (``strategies.proof``).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from flwr.app import Message, MessageType
from flwr.serverapp import Grid

from metaward.errors import RunError
from metaward.privacy import Attendance
from metaward.privacy.wire import Request, encode_request
from metaward.strategies.checks import Rejected, read
from metaward.strategies.leg import LOST
from metaward.strategies.proof import OPEN, SeatKeys
from metaward.strategies.silence import Silence

POLL_SECONDS = 0.2
ASIDE = 1.0
"""A node without proof rests as one that was silent for so many seconds."""
TAKEN = "seat-taken"

WHERE = (
    "why is in that hospital's own log: hospitals.log in the result folder of a simulation, "
    "hospital.log in the hospital's own folder in a deployment"
)
"""Where a refusal's reason stands in words; only its code ever reaches the server."""

LOST_WORDS = frozenset(f"error-{code}" for code in LOST)
"""A node that went away is not turned away, for it said nothing."""


class RosterError(RunError):
    """Too few hospitals came, or one cannot take part; the text says which and why."""


@dataclass
class Roster:
    """The hospitals of a run and the nodes that they answer from at present.

    ``timeout`` (seconds) is how long all hospitals can take to connect before the run; ``patience``
    is how long a round waits for nodes that connected, or reconnected, since. ``silent`` are nodes
    that did not say who they are in that time, ``idle`` those that said so and then did not answer
    a request; neither may hold up every round (``strategies.silence``).

    With ``keys`` a seat belongs to a key: a node gets it by an attendance with the hospital's
    signature. One that proves no seat is set ``aside`` and asked again later, for its signing key
    or guard may be there by then; it harms neither the hospital nor the run. Of two nodes that
    prove a seat the first has it, and the other is asked again when that one is gone.
    """

    seats: Sequence[str]
    request: Request
    timeout: float
    patience: float = 60.0
    keys: SeatKeys = OPEN
    nodes: dict[str, int] = field(default_factory=dict)
    turned_away: dict[int, Rejected] = field(default_factory=dict)
    aside: dict[int, Rejected] = field(default_factory=dict)
    silent: Silence = field(default_factory=Silence)
    idle: Silence = field(default_factory=Silence)
    present: frozenset[int] = frozenset()

    def gather(self, grid: Grid) -> None:
        """Wait until every seat is taken; ``RosterError`` after the timeout.

        Flower reports a run's nodes as they register, so the first look may see only some of them.
        With keys the calls are short, so that a silent stranger does not take all the time; each is
        longer than the last one, or a hospital that needs longer to answer would never be heard.
        """
        deadline, patience = time.monotonic() + self.timeout, self.patience
        while True:
            self._look(grid)
            left = max(deadline - time.monotonic(), 0.0)
            self._call(grid, self._due(), min(left, patience) if self.keys else left)
            patience = max(self.patience, min(2 * patience, self.timeout / 2))
            for rejected in self.turned_away.values():
                if rejected.proven or not self.keys:
                    raise RosterError(_turned_away(rejected, len(self.seats)))
            missing = [seat for seat in self.seats if seat not in self.nodes]
            if not missing:
                return
            if time.monotonic() > deadline:
                raise RosterError(
                    f"{len(missing)} of {len(self.seats)} hospitals did not come within "
                    f"{self.timeout:g} s: {', '.join(missing[:10])}{self._strangers()}"
                )
            time.sleep(POLL_SECONDS)

    def _strangers(self) -> str:
        """The nodes that answered without proving a seat, for an error."""
        others = [f"{r.hospital} ({r.reason})" for r in self.aside.values()]
        return f"; without proof of a seat: {', '.join(others[:10])}" if others else ""

    def refresh(self, grid: Grid) -> None:
        """Forget nodes that left, ask new ones who they are, and wait for them a little."""
        self._look(grid)
        patience, called = min(self.patience, self.timeout), self._due()
        self._call(grid, called, patience)
        unknown = (set(called) & set(self._new())) - self.aside.keys()
        self.silent.note(unknown, patience, time.monotonic())

    def awake(self, hospitals: Iterable[str]) -> list[str]:
        """Those of the hospitals that are present and not left alone for their silence."""
        now, nodes = time.monotonic(), self.nodes
        return [h for h in hospitals if h in nodes and not self.idle.rests(nodes[h], now)]

    def heard(self, asked: Iterable[str], answered: Collection[str], wait: float) -> None:
        """Note which of the hospitals that were asked answered within ``wait`` seconds."""
        there = {h: self.nodes[h] for h in asked if h in self.nodes}
        self.idle.ends(node for h, node in there.items() if h in answered)
        quiet = [node for h, node in there.items() if h not in answered]
        self.idle.note(quiet, wait, time.monotonic())

    def _look(self, grid: Grid) -> None:
        """Find the nodes that are present, and forget those that are not."""
        self.present = frozenset(grid.get_node_ids())
        self.nodes = {seat: node for seat, node in self.nodes.items() if node in self.present}
        self.turned_away = {n: r for n, r in self.turned_away.items() if self._stays_away(n, r)}
        self.aside = {n: r for n, r in self.aside.items() if n in self.present}
        self.silent.keep(self.present)
        self.idle.keep(self.present)

    def _stays_away(self, node: int, rejected: Rejected) -> bool:
        """Whether a node is still not to be asked: one with a key may sit down in a free seat."""
        waits = bool(self.keys) and rejected.reason == TAKEN
        return node in self.present and not (waits and rejected.hospital not in self.nodes)

    def _due(self) -> list[int]:
        """Those of the new nodes that are not left alone for a while."""
        now = time.monotonic()
        return [node for node in self._new() if not self.silent.rests(node, now)]

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
        self.keys.kept()

    def _seat(self, node: int, reply: Message) -> None:
        answer = read(reply, Attendance, f"node {node}", self.request, self.keys)
        self.aside.pop(node, None)
        if isinstance(answer, Attendance):
            answer = self._judge(answer)
        if not isinstance(answer, Rejected):
            self.nodes[answer.hospital] = node
            self.silent.ends([node])
        elif answer.reason in LOST_WORDS:
            return
        elif self.keys and not answer.proven and answer.reason != TAKEN:
            self.aside[node] = answer
            self.silent.note([node], ASIDE, time.monotonic())
        else:
            self.turned_away[node] = answer

    def _judge(self, answer: Attendance) -> Attendance | Rejected:
        if not 0 <= answer.index < len(self.seats) or self.seats[answer.index] != answer.hospital:
            return Rejected(
                f"hospital number {answer.index}", "unknown-seat", proven=bool(self.keys)
            )
        if answer.hospital in self.nodes:
            return Rejected(answer.hospital, TAKEN)
        return answer


def _turned_away(rejected: Rejected, seats: int) -> str:
    if rejected.reason == "federation-size":
        return (
            f"the configuration has {seats} hospitals, but the simulation has another number of "
            f'SuperNodes; add to flwr run: --federation-config "num-supernodes={seats}"'
        )
    return f"{rejected.hospital} cannot take part: {rejected.reason}; {WHERE}"
