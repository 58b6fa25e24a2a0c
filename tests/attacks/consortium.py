"""Five hospitals with signing keys, of which one can do what it likes, and a run with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import Error, Message, RecordDict

from metaward.privacy import Answer, Attendance, Mark, Release
from metaward.privacy.signing import public_text, sign
from metaward.privacy.wire import Request, encode_answer, stated
from metaward.strategies.meta import MetaState, RoundReport
from metaward.strategies.notes import ONCE, Each
from metaward.strategies.outer import Sgd
from metaward.strategies.proof import SeatKeys, read_keys, seat_line
from metaward.strategies.roster import Roster
from tests.strategies.fake_grid import FakeGrid, Script
from tests.strategies.federation import SEATS, THETA, honest, strategy, update

ATTACKER, OTHER = "rome", "bern"
ROUNDS = 4
KEYS = {name: Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n, name in enumerate(SEATS)}
LINES = [seat_line(name, public_text(key)) for name, key in KEYS.items()]
Reply = RecordDict | Error | None


def good(request: Request, name: str = ATTACKER, **changes: Any) -> Release:
    """What an honest hospital answers, with some of its fields changed."""
    mark = Mark(f"ledger-{name}", 2 * request.round, f"{request.round:064x}")
    return replace(Release(name, request.round, update(name, request), 0.5, mark), **changes)


def signed(
    answer: Answer, request: Request, name: str = ATTACKER, key: str | None = None
) -> RecordDict:
    """An answer with the signature of ``name``, made by the key of ``key`` (else by its own)."""
    return encode_answer(answer, sign(KEYS[key or name], stated(answer, request, name)))


def member(name: str) -> Script:
    """An honest hospital that signs."""

    def script(request: Request, kind: str) -> RecordDict:
        if kind == "query.roster":
            return signed(Attendance(name, SEATS.index(name)), request, name)
        answer = good(request, name) if kind == "train" else honest(name)(request, kind)
        assert isinstance(answer, Answer)
        return signed(answer, request, name)

    return script


Act = Callable[[Request], Reply]


def turned(name: str, act: Act, since: int = 1) -> Script:
    """A hospital that is honest before round ``since`` and acts from then on."""

    def script(request: Request, kind: str) -> Reply:
        if kind == "train" and request.round >= since:
            return act(request)
        found = member(name)(request, kind)
        assert isinstance(found, RecordDict)
        return found

    return script


def nodes(**instead: Script) -> dict[int, Script]:
    """All seats by node id; some of them are others' scripts."""
    return {100 + 7 * n: instead.get(name) or member(name) for n, name in enumerate(SEATS)}


def node_of(name: str) -> int:
    """The node of a seat."""
    return 100 + 7 * SEATS.index(name)


@dataclass
class Course:
    """How a run went: its states and reports, and what the server's log was told."""

    steps: list[tuple[MetaState, RoundReport]]
    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @property
    def theta(self) -> bytes:
        """The bytes of the last theta."""
        return self.steps[-1][0].theta.tobytes()

    def rejected(self) -> list[tuple[int, str, str]]:
        """Round, hospital and reason of each rejection in the server's log."""
        found = [known for what, known in self.told if what == "reply rejected"]
        return [(one["round"], one["hospital"], one["reason"]) for one in found]


def carried_out(
    scripts: dict[int, Script],
    arrive: Callable[[list[Message]], list[Message]] = list,
    **changes: Any,
) -> Course:
    """A run of a few rounds with these nodes, in which every seat has to prove itself."""
    roster = Roster(SEATS, Request(0, "{}"), 5.0, keys=SeatKeys(read_keys(LINES)))
    told: list[tuple[str, dict[str, Any]]] = []

    def note(what: str, /, each: Each = ONCE, **known: Any) -> None:
        told.extend((what, known | dict(one)) for one in each)

    options = {"num_rounds": ROUNDS, "outer": Sgd(lr=0.5), "note": note, "roster": roster}
    one, grid = strategy(**options | changes), FakeGrid(scripts, arrive=arrive)
    one.roster.gather(grid)
    return Course(list(one.rounds(grid, one.begin(np.copy(THETA)))), told)
