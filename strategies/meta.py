"""Rounds of federated meta-learning, as the only subclass of Flower's Strategy here.

Flower's own loop (``start``, inherited) always starts at round 1, so ``rounds`` replaces it. Which
hospitals work in a round is a function of (seed, round) alone. A reply counts after ``checks``;
replies are sorted by hospital before they are combined, so the order of arrival changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from numpy.typing import NDArray

from metaward.errors import RunError
from metaward.privacy import Release, Scores
from metaward.privacy.wire import Request, encode_request, with_mark
from metaward.strategies.checks import Ranges, Rejected, check_release, check_scores, read
from metaward.strategies.combine import Combine
from metaward.strategies.leg import Leg
from metaward.strategies.marks import Marks
from metaward.strategies.outcome import RoundReport, outcome
from metaward.strategies.outer import Outer, State
from metaward.strategies.roster import Roster

Vector = NDArray[np.float32]
log = logging.getLogger("metaward.server")

Protect = Callable[[Vector, Combine, int], Vector]
"""(updates (hospitals, dim), combiner, round) -> one direction (dim,), protected as needed."""


def plain(updates: Vector, combine: Combine, round: int) -> Vector:
    """The combination without noise: updates are protected already, or not at all."""
    return combine(updates)


class QuorumError(RunError):
    """Too few hospitals gave a valid answer; the text says who failed and why."""


@dataclass(frozen=True)
class MetaState:
    """Everything that the next round depends on, except the configuration."""

    round: int
    theta: Vector
    outer: State


@dataclass
class MetaStrategy(Strategy):
    """theta <- theta + eps * combine(updates), from hospitals chosen out of ``train`` each round.

    ``desk`` is the JSON that every message carries (``client.desk``), ``scores`` the range of each
    score that unseen hospitals send. ``quorum`` is the share of a round's hospitals whose valid
    reply is needed; below it ``QuorumError`` is raised, because a run that silently goes on with
    few hospitals is not the run that was asked for.

    ``rounds`` and ``evaluate`` keep nothing between their calls. ``_state`` and ``_leg`` serve
    Flower's own ``start`` alone, which asks and combines in two calls and passes neither on.
    """

    roster: Roster
    train: Sequence[str]
    unseen: Sequence[str]
    desk: str
    seed: int
    num_rounds: int
    combine: Combine
    outer: Outer
    scores: Ranges
    hospitals_per_round: int | None = None
    quorum: float = 0.5
    timeout: float = 600.0
    max_norm: float = 1000.0
    run: str = "run"
    protect: Protect = plain
    marks: Marks = field(default_factory=Marks)
    _state: MetaState | None = None
    _leg: Leg | None = None

    # ------------------------------------------------------------------ the round loop

    def rounds(self, grid: Grid, state: MetaState) -> Iterator[tuple[MetaState, RoundReport]]:
        """The rounds after ``state.round``, one at a time: the caller can save, evaluate, stop."""
        for number in range(state.round + 1, self.num_rounds + 1):
            leg = self._train(grid, number, state.theta)
            replies = grid.send_and_receive(leg.messages, timeout=self.timeout)
            state, report = self.advance(state, leg, replies)
            yield state, report

    def advance(
        self, state: MetaState, leg: Leg, replies: Iterable[Message]
    ) -> tuple[MetaState, RoundReport]:
        """Check, sort and combine replies, then step: the next state, and what the round did.

        Raises ``QuorumError`` below the quorum.
        """
        number = leg.request.round
        accepted, rejected = self._releases(leg, replies, len(state.theta))
        self._require_quorum(number, accepted, rejected)
        combined = self.protect(np.stack([a.update for a in accepted]), self.combine, number)
        at = min((number - 1) / self.num_rounds, 1.0)
        theta, outer = self.outer.step(state.theta, combined, state.outer, at)
        return MetaState(number, theta, outer), outcome(number, accepted, rejected, combined)

    def begin(self, theta: Vector) -> MetaState:
        """The state before round 1."""
        return MetaState(0, theta, self.outer.init(theta))

    def chosen(self, number: int) -> tuple[str, ...]:
        """The hospitals of round ``number``, sorted: a function of (seed, round)."""
        count = self.hospitals_per_round or len(self.train)
        rng = np.random.default_rng([self.seed, 3, number])
        return tuple(sorted(rng.choice(sorted(self.train), size=count, replace=False).tolist()))

    # ---------------------------------------------------------------------- evaluation

    def evaluate(
        self, grid: Grid, hospitals: Sequence[str], request: Request
    ) -> tuple[list[Scores], dict[str, str]]:
        """Scores of ``request.theta`` at these hospitals, sorted by name, and who gave none."""
        leg = self._address(grid, request, MessageType.EVALUATE, hospitals)
        replies = grid.send_and_receive(leg.messages, timeout=self.timeout)
        return self._scores(leg, replies, hospitals)

    # ------------------------------------------------------------- Flower's own protocol

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Messages with theta and the desk's JSON for each chosen hospital that is present.

        ``config`` is not read: ``desk`` says what hospitals do.
        """
        theta = arrays["theta"].numpy()
        if self._state is None or self._state.round != server_round - 1:  # a new start
            self.roster.gather(grid)
            self._state = MetaState(server_round - 1, theta, self.outer.init(theta))
        self._leg = self._train(grid, server_round, theta)
        return self._leg.messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The next theta, and how many hospitals contributed to it (``advance``)."""
        assert self._state is not None
        assert self._leg is not None
        self._state, report = self.advance(self._state, self._leg, replies)
        arrays = ArrayRecord({"theta": Array(self._state.theta)})
        return arrays, MetricRecord({"hospitals": len(report.accepted)})

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Messages to the unseen hospitals; ``config`` may set ``episodes`` (default 10)."""
        episodes = int(str(config.get("episodes", 10)))
        request = Request(server_round, self.desk, arrays["theta"].numpy(), episodes)
        self._leg = self._address(grid, request, MessageType.EVALUATE, self.unseen)
        return self._leg.messages

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Mean scores of the unseen hospitals before and after adaptation, as ``NAME-before``."""
        assert self._leg is not None
        answers, _ = self._scores(self._leg, replies, self.unseen)
        if not answers:
            return None
        means = MetricRecord()
        for row, name in enumerate(self.scores):
            means[f"{name}-before"] = float(np.mean([a.before[row].mean() for a in answers]))
            means[f"{name}-after"] = float(np.mean([a.after[row].mean() for a in answers]))
        return means

    def summary(self) -> None:
        """Log who takes part and how updates are combined."""
        log.info(
            "%d training and %d unseen hospitals, %s, %s",
            len(self.train),
            len(self.unseen),
            self.combine,
            self.outer,
        )

    # ------------------------------------------------------------------------- details

    def _train(self, grid: Grid, number: int, theta: Vector) -> Leg:
        request = Request(number, self.desk, theta, run=self.run)
        return self._address(grid, request, MessageType.TRAIN, self.chosen(number))

    def _address(self, grid: Grid, request: Request, kind: str, hospitals: Iterable[str]) -> Leg:
        """One message for each of these hospitals that is present."""
        self.roster.refresh(grid)
        there = [h for h in hospitals if h in self.roster.nodes]
        marked = [encode_request(with_mark(request, self.marks.last(h))) for h in there]
        group = str(request.round)
        messages = [
            Message(records, self.roster.nodes[h], kind, group_id=group)
            for h, records in zip(there, marked, strict=True)
        ]
        return Leg(request, messages, there)

    def _releases(
        self, leg: Leg, replies: Iterable[Message], dim: int
    ) -> tuple[list[Release], dict[str, str]]:
        """The valid updates (dim,) of the round's hospitals, sorted, and who gave none."""
        number = leg.request.round
        answers: dict[str, Release | Rejected] = {}
        for hospital, reply in leg.by_hospital(replies):
            answer = read(reply, Release, hospital)
            if isinstance(answer, Release):
                answer = check_release(answer, hospital, number, dim, self.max_norm)
            if isinstance(answer, Release) and not self.marks.accept(answer, self.run):
                answer = Rejected(hospital, "ledger-rewound")
            answers[hospital] = answer
        return _sort(answers, self.chosen(number))

    def _scores(
        self, leg: Leg, replies: Iterable[Message], hospitals: Sequence[str]
    ) -> tuple[list[Scores], dict[str, str]]:
        number, episodes = leg.request.round, leg.request.episodes
        answers: dict[str, Scores | Rejected] = {}
        for hospital, reply in leg.by_hospital(replies):
            answer = read(reply, Scores, hospital)
            if isinstance(answer, Scores):
                answer = check_scores(answer, hospital, number, episodes, self.scores)
            answers[hospital] = answer
        return _sort(answers, hospitals)

    def _require_quorum(
        self, number: int, accepted: Sequence[Release], rejected: Mapping[str, str]
    ) -> None:
        asked = len(accepted) + len(rejected)
        needed = max(ceil(self.quorum * asked - 1e-9), 1)  # 0.55 * 20 is 11.000000000000002
        if len(accepted) < needed:
            reasons = ", ".join(f"{hospital} ({why})" for hospital, why in rejected.items())
            raise QuorumError(
                f"round {number}: {len(accepted)} of {asked} hospitals gave a valid update, "
                f"{needed} are needed (strategies.quorum = {self.quorum:g}); "
                f"without one: {reasons}{_hint(rejected)}"
            )


def _hint(rejected: Mapping[str, str]) -> str:
    reasons = set(rejected.values())
    if reasons <= {"not-finite", "norm-above-cap"}:
        return (
            "; updates grow too long where the inner rate or an outer one is too high (lower it), "
            "and where noise is large (raise strategies.max_norm, or privacy.epsilon)"
        )
    return ""


Answered = TypeVar("Answered", Release, Scores)


def _sort(
    answers: Mapping[str, Answered | Rejected], asked: Sequence[str]
) -> tuple[list[Answered], dict[str, str]]:
    """Valid answers in the order of the hospitals' names, and the reasons of all others."""
    valid, rejected = [], {}
    for hospital in sorted(asked):
        answer = answers.get(hospital, Rejected(hospital, "no-reply"))
        if isinstance(answer, Rejected):
            rejected[hospital] = answer.reason
        else:
            valid.append(answer)
    return valid, rejected
