"""Nodes that did not answer in time: each is left alone for a while, and longer every time.

Who is asked costs a round its whole wait by saying nothing. A node that was silent once rests for
``REST`` waits, then twice as long, and so on, so that it costs at most 1 / (1 + REST) of the time
at first, and less and less. It is asked at once where it answers again, or comes back as another
node.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

REST = 5.0
"""A silent node is left alone for so many waits, so that it costs at most 1/6 of the time."""
DOUBLINGS = 10
"""How often the rest is doubled at most."""


@dataclass
class Silence:
    """``missed`` counts a node's silences in a row; it rests ``until`` a moment (seconds)."""

    missed: dict[int, int] = field(default_factory=dict)
    until: dict[int, float] = field(default_factory=dict)

    def note(self, nodes: Iterable[int], wait: float, now: float) -> None:
        """These nodes did not answer within ``wait`` seconds, and rest from ``now`` on."""
        for node in nodes:
            before = self.missed.get(node, 0)
            self.missed[node] = before + 1
            self.until[node] = now + REST * wait * 2 ** min(before, DOUBLINGS)

    def ends(self, nodes: Iterable[int]) -> None:
        """These nodes answered."""
        for node in nodes:
            self.missed.pop(node, None)
            self.until.pop(node, None)

    def keep(self, present: Collection[int]) -> None:
        """Forget nodes that left."""
        self.ends([node for node in self.missed if node not in present])

    def rests(self, node: int, now: float) -> bool:
        """Whether a node is to be left alone."""
        return self.until.get(node, now) > now
