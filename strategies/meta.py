"""Rounds of federated meta-learning, as the only subclass of Flower's Strategy here.

Flower's own loop (``start``, inherited) always starts at round 1, so ``rounds`` replaces it. Which
hospitals work in a round is a function of (seed, round) alone. A reply counts after ``checks``;
replies are sorted by hospital before they are combined, so the order of arrival changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from numpy.typing import NDArray

from metaward.privacy import Release, Scores
from metaward.privacy.wire import Request, digest, encode_request, with_mark
from metaward.strategies.checks import Ranges, Rejected, check_release, check_scores
from metaward.strategies.combine import Combine
from metaward.strategies.leg import Leg
from metaward.strategies.limits import NOTHING, FixedLimit, NormLimit, Norms, norm_of
from metaward.strategies.marks import Marks
from metaward.strategies.notes import Note, noted, unnoted
from metaward.strategies.outcome import RoundReport, answers_of, outcome, sorted_out
from metaward.strategies.outer import Outer, State
from metaward.strategies.quorum import QuorumError, needed, shortage
from metaward.strategies.roster import Roster

Vector = NDArray[np.float32]
log = logging.getLogger("metaward.server")

Protect = Callable[[Vector, Combine, int], Vector]
"""(updates (hospitals, dim), combiner, round) -> one direction (dim,), protected as needed."""


def plain(updates: Vector, combine: Combine, round: int) -> Vector:
    """The combination without noise: updates are protected already, or not at all."""
    return combine(updates)


@dataclass(frozen=True)
class MetaState:
    """What the next round depends on beside the configuration; ``norms`` is the limit's memory."""

    round: int
    theta: Vector
    outer: State
    norms: Norms = field(default_factory=NOTHING.copy)


@dataclass
class MetaStrategy(Strategy):
    """theta <- theta + eps * combine(updates), from hospitals chosen out of ``train`` each round.

    ``desk`` is the JSON that every message carries (``client.desk``), ``scores`` the range of each
    score that unseen hospitals send. ``quorum`` is the share of a round's hospitals whose valid
    reply is needed; below it ``QuorumError`` is raised, because a run that silently goes on with
    few hospitals is not the run that was asked for. Before that, hospitals that did not answer are
    asked again up to ``retries`` times. The request is the same, so that a hospital that had
    computed its reply sends the stored one, and nobody pays twice. Who is chosen never changes.

    ``limit`` is the largest norm of an update, ``loss_range`` the range of a loss that is shown;
    ``note`` is told each thing that happens, for the server's log (``server.trail``).

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
    retries: int = 1
    limit: NormLimit = field(default_factory=FixedLimit)
    loss_range: tuple[float, float] = (0.0, 1e6)
    run: str = "run"
    protect: Protect = plain
    marks: Marks = field(default_factory=Marks)
    note: Note = unnoted
    _state: MetaState | None = None
    _leg: Leg | None = None

    # ------------------------------------------------------------------ the round loop

    def rounds(self, grid: Grid, state: MetaState) -> Iterator[tuple[MetaState, RoundReport]]:
        """The rounds after ``state.round``, one at a time: the caller can save, evaluate, stop."""
        for number in range(state.round + 1, self.num_rounds + 1):
            request = self._request(number, state.theta)
            leg, replies = self._send(grid, request, MessageType.TRAIN, self._first(grid, number))
            judged = self._releases(state, leg, replies)
            for _ in range(self.retries):
                silent = leg.silent(replies, self.chosen(number))
                if not silent or self._shortage(number, *judged) is None:
                    break
                self.note("retried", round=number, run=self.run, hospitals=silent)
                again, more = self._send(grid, request, MessageType.TRAIN, silent)
                leg, replies = leg.with_another(again), [*replies, *more]
                judged = self._releases(state, leg, replies)
            state, report = self._step(state, number, *judged)
            yield state, report

    def advance(
        self, state: MetaState, leg: Leg, replies: Iterable[Message]
    ) -> tuple[MetaState, RoundReport]:
        """Check, sort and combine replies, then step: the next state, and what the round did;
        ``QuorumError`` below the quorum, or where the rule has too few updates."""
        return self._step(state, leg.request.round, *self._releases(state, leg, replies))

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
        self, grid: Grid, hospitals: Sequence[str], request: Request, all_needed: bool = False
    ) -> tuple[list[Scores], dict[str, str]]:
        """Scores of ``request.theta`` at these hospitals, sorted by name, and who gave none.

        Where all are needed, nobody is left alone, and who does not answer is asked again.
        """
        self.roster.refresh(grid)
        asked = hospitals if all_needed else self.roster.awake(hospitals)
        leg, replies = self._send(grid, request, MessageType.EVALUATE, asked)
        for _ in range(self.retries if all_needed else 0):
            if silent := leg.silent(replies, hospitals):
                again, more = self._send(grid, request, MessageType.EVALUATE, silent)
                leg, replies = leg.with_another(again), [*replies, *more]
        found = self._scores(leg, replies, hospitals)
        noted(self.note, self.run, request.round, *found)
        return found

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
        request = self._request(server_round, theta)
        self._leg = self._address(grid, request, MessageType.TRAIN, self.chosen(server_round))
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
        theta = arrays["theta"].numpy()
        request = Request(server_round, self.desk, theta, episodes, self.run)
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

    def _request(self, number: int, theta: Vector) -> Request:
        return Request(number, self.desk, theta, run=self.run)

    def _first(self, grid: Grid, number: int) -> Sequence[str]:
        """Whom a round asks first: all that it has chosen, but not those that have been silent,
        unless the others are too few."""
        chosen = self.chosen(number)
        self.roster.refresh(grid)
        awake = self.roster.awake(chosen)
        return awake if len(awake) >= needed(self.quorum, len(chosen)) else chosen

    def _send(
        self, grid: Grid, request: Request, kind: str, hospitals: Sequence[str]
    ) -> tuple[Leg, list[Message]]:
        """Ask these hospitals, and take what comes within the timeout."""
        leg = self._address(grid, request, kind, hospitals)
        about = {"round": request.round, "run": request.run, "request": digest(request)}
        self.note(f"asked to {kind}", [{**about, "hospitals": list(leg.hospitals)}])
        replies = list(grid.send_and_receive(leg.messages, timeout=self.timeout))
        self.roster.heard(leg.hospitals, {h for h, _ in leg.by_hospital(replies)}, self.timeout)
        return leg, replies

    def _address(self, grid: Grid, request: Request, kind: str, hospitals: Iterable[str]) -> Leg:
        """One message for each of these hospitals that is present."""
        self.roster.refresh(grid)
        there = [h for h in hospitals if h in self.roster.nodes]
        marked = [encode_request(with_mark(request, self.marks.last(h))) for h in there]
        nodes, group = [self.roster.nodes[h] for h in there], str(request.round)
        messages = [
            Message(records, node, kind, group_id=group)
            for node, records in zip(nodes, marked, strict=True)
        ]
        return Leg(request, messages, there)

    def _releases(
        self, state: MetaState, leg: Leg, replies: Iterable[Message]
    ) -> tuple[list[Release], dict[str, str]]:
        """The valid updates (dim,) of the round's hospitals, sorted, and who gave none."""
        number, dim = leg.request.round, len(state.theta)

        def check(release: Release, hospital: str) -> Release | Rejected:
            return check_release(release, hospital, number, dim)

        answers = answers_of(leg, replies, Release, self.roster.keys, check)
        norms = {h: norm_of(a.update) for h, a in answers.items() if isinstance(a, Release)}
        most = self.limit.of(number, state.theta, list(norms.values()), state.norms)
        answers |= {h: Rejected(h, "norm-above-cap") for h, norm in norms.items() if norm > most}
        back = self.marks.set_back(
            [a for a in answers.values() if isinstance(a, Release)], self.run
        )
        answers |= {h: Rejected(h, "ledger-rewound") for h in back}
        return sorted_out(answers, self.chosen(number))

    def _step(
        self,
        state: MetaState,
        number: int,
        accepted: Sequence[Release],
        rejected: Mapping[str, str],
    ) -> tuple[MetaState, RoundReport]:
        noted(self.note, self.run, number, accepted, rejected)
        if short := self._shortage(number, accepted, rejected):
            self.note("quorum failed", round=number, run=self.run, reason=short)
            raise QuorumError(short)
        combined = self.protect(np.stack([a.update for a in accepted]), self.combine, number)
        at = min((number - 1) / self.num_rounds, 1.0)
        theta, outer = self.outer.step(state.theta, combined, state.outer, at)
        report = outcome(number, accepted, rejected, combined, self.loss_range)
        past = self.limit.remembers(number, list(report.norms.values()), state.norms)
        return MetaState(number, theta, outer, past), report

    def _shortage(
        self, number: int, accepted: Sequence[Release], rejected: Mapping[str, str]
    ) -> str | None:
        return shortage(number, len(accepted), rejected, self.quorum, self.combine)

    def _scores(
        self, leg: Leg, replies: Iterable[Message], hospitals: Sequence[str]
    ) -> tuple[list[Scores], dict[str, str]]:
        number, episodes = leg.request.round, leg.request.episodes

        def check(scores: Scores, hospital: str) -> Scores | Rejected:
            return check_scores(scores, hospital, number, episodes, self.scores)

        return sorted_out(answers_of(leg, replies, Scores, self.roster.keys, check), hospitals)
