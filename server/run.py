"""A run from the first round to the final table, over any Flower Grid.

Every engine uses it: it knows messages and the result folder, but no processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from flwr.serverapp import Grid
from numpy.typing import NDArray
from safetensors.numpy import save

from metaward.client.inner import Setting
from metaward.client.tasks.kinds import Score
from metaward.files import replace_file
from metaward.privacy.wire import Request
from metaward.server import body
from metaward.server.baselines import Contender, opponents, own
from metaward.server.checkpoint import latest_best, latest_state, save_state
from metaward.server.evaluate import Judged, ScoreTable, table, watched
from metaward.server.folder import Folder
from metaward.server.keep import Best, Chosen, better, stale
from metaward.server.norm_limit import norm_limit
from metaward.server.protection import protection
from metaward.server.signed import seat_keys
from metaward.sim import Sim
from metaward.strategies.limits import FixedLimit
from metaward.strategies.marks import Marks
from metaward.strategies.meta import MetaState, MetaStrategy, plain
from metaward.strategies.outer import Outer, Settling
from metaward.strategies.quorum import QuorumError, reasons
from metaward.strategies.roster import Roster

Vector = NDArray[np.float32]
Observer = Callable[[Mapping[str, Any]], None]


class Run:
    """A configuration, the grid that reaches the hospitals, and a result folder."""

    def __init__(
        self, run: Sim, grid: Grid, folder: Folder, observe: Observer, simulated: bool
    ) -> None:
        self.sim, self.grid, self.folder, self.observe = run, grid, folder, observe
        self.setting = run.setting()
        self.simulated = simulated
        self.own = own(run)
        self.opponents = opponents(run)
        seats = run.client.tasks.roster()
        self.train = [s.name for s in seats if s.role == "train"]
        self.judging = run.judging()
        self.validation = [s.name for s in seats if s.role == "validation"]
        self.kept: list[Chosen] = []
        roll_call = Request(0, run.desk().json(), run=folder.id)
        limits = run.server.flower
        everyone = [s.name for s in seats]
        self.trail = folder.trail()
        self.roster = Roster(
            everyone,
            roll_call,
            limits.startup_timeout,
            limits.return_timeout,
            keys=seat_keys(run, folder, simulated),
        )

    def execute(self) -> tuple[ScoreTable, ...]:
        """Train, evaluate, and return the final table of each score, the main one first."""
        self.roster.gather(self.grid)
        theta = self.fit(self.own, self.folder)
        replace_file(self.folder.path / "theta.safetensors", save({"theta": theta}))
        body.write(self.folder.path / "body.safetensors", self.sim, self.setting, theta)
        judged = [self.judge(self.own, theta), *map(self.opposed, self.opponents)]
        episodes = self.sim.server.evaluation.final_episodes
        return tuple(table(score, episodes, judged) for score in self.scores)

    @property
    def scores(self) -> tuple[Score, ...]:
        """The scores that judging hospitals send; the first one is the main one."""
        return self.setting.spec.kind.scores

    # ------------------------------------------------------------------------ training

    def fit(self, contender: Contender, folder: Folder) -> Vector:
        """Train one learner, from its last checkpoint if there is one; the theta that is kept."""
        strategy = self.strategy(contender, folder)
        config = contender.within(self.sim).canonical()
        state = latest_state(folder.checkpoints, config)
        state = state or strategy.begin(self.start(contender))
        best = latest_best(folder.checkpoints, config)
        folder.rewind(state.round)
        saving, evaluation = self.sim.server.checkpoint, self.sim.server.evaluation
        began, rounds = time.monotonic(), strategy.rounds(self.grid, state)
        while not stale(evaluation, best, state.round) and (step := next(rounds, None)):
            state, report = step
            seconds, began = time.monotonic() - began, time.monotonic()
            present = len(self.roster.nodes)
            row = {**asdict(report), "seconds": round(seconds, 3), "present": present}
            if contender.private and self.sim.privacy.unit.noise_at_server:
                del row["norms"]  # they arrive without noise, and no epsilon covers them
            self._note(folder, contender, row)
            last = state.round == strategy.num_rounds
            if last or state.round % evaluation.every == 0:
                self._watch(folder, contender, strategy, state)
                best = self._validate(folder, contender, strategy, state, best)
            due = self._paid(contender) or state.round % saving.every == 0
            if last or due or stale(evaluation, best, state.round):
                save_state(folder.checkpoints, state, config, saving.keep, best)
                self.trail("checkpoint", round=state.round, run=strategy.run)
        return self._keep(contender, strategy, state, best)

    def _paid(self, contender: Contender) -> bool:
        """Whether hospitals pay for each round, so that none may be done twice.

        Done again, a round in which other hospitals answer gives another theta, and every later
        round is then another request, for which all would be charged anew.
        """
        return contender.private and self.sim.privacy.unit.protected

    def _keep(
        self, contender: Contender, strategy: MetaStrategy, state: MetaState, best: Best | None
    ) -> Vector:
        """The theta of the best round, or the last one where no round is chosen; written down."""
        chosen = best or state
        scores = best.scores if best else None
        planned, reached = strategy.num_rounds, state.round
        self.kept.append(Chosen(contender.name, chosen.round, reached, planned, scores))
        return chosen.theta

    def start(self, contender: Contender) -> Vector:
        """The first theta of a contender, a function of the run's seed and of the body that the run
        starts from."""
        learner = contender.learner
        theta = np.asarray(learner.initial(self.setting, self.sim.seed).numpy(), np.float32)
        if self.sim.server.start is None or contender.fresh:
            return theta
        if not body.holds_body(learner, self.setting):
            return theta
        return body.begun(body.read(self.folder.start), learner, self.setting, theta)

    def opposed(self, contender: Contender) -> Judged:
        """A baseline's scores, after its own training or at its start."""
        try:
            if not contender.trained:
                return self.judge(contender, self.start(contender))
            return self.judge(contender, self.fit(contender, self.folder.baseline(contender.key)))
        except QuorumError as error:
            raise QuorumError(
                f"the run's own learner is trained and saved, but {contender.name} failed: {error}"
                "; where no hospital has refused it, a lower rate may help "
                "(server.evaluation.fine_tune.lr, client.inner.lr), and "
                "server.evaluation.baselines can do without it"
            ) from error

    def strategy(self, contender: Contender, folder: Folder | None = None) -> MetaStrategy:
        """The Flower strategy that trains (in ``folder``) or only evaluates a learner."""
        run = contender.within(self.sim)
        options = run.strategies
        return MetaStrategy(
            roster=self.roster,
            train=self.train,
            unseen=self.judging,
            desk=run.desk().json(),
            seed=run.seed,
            num_rounds=run.server.rounds,
            combine=options.combine,
            outer=outer_of(run, self.setting),
            scores={score.name: (score.lowest, score.highest) for score in self.scores},
            hospitals_per_round=options.hospitals_per_round,
            quorum=options.quorum,
            timeout=options.timeout,
            retries=options.retries,
            limit=norm_limit(run) if folder else FixedLimit(),
            loss_range=self.setting.spec.kind.loss_range,
            run=f"{self.folder.id}.{contender.key}",
            protect=protection(run, self.simulated) if contender.private else plain,
            marks=folder.marks() if folder else Marks(),
            note=self.trail,
        )

    def _note(self, folder: Folder, contender: Contender, row: Mapping[str, Any]) -> None:
        row = {"phase": contender.key, "of": contender.within(self.sim).server.rounds, **row}
        folder.add(row)
        self.observe(row)

    # ---------------------------------------------------------------------- evaluation

    def _watch(
        self, folder: Folder, contender: Contender, strategy: MetaStrategy, state: MetaState
    ) -> None:
        """A small evaluation on the unseen hospitals for the curve; no choice depends on it.

        There is none where those for validation judge: they are evaluated in any case.
        """
        if self.sim.server.evaluation.judges == "validation":
            return
        scores, rejected = self._scores(contender, strategy, state, self.judging)
        self._note(folder, contender, {"round": state.round, "rejected": rejected, **scores})

    def _validate(
        self,
        folder: Folder,
        contender: Contender,
        strategy: MetaStrategy,
        state: MetaState,
        best: Best | None,
    ) -> Best | None:
        """An evaluation at the validation hospitals; the best round so far where one is kept."""
        if not self.validation:
            return None
        scores, rejected = self._scores(contender, strategy, state, self.validation)
        choosing = self.sim.server.evaluation.keep == "best"
        if choosing and not rejected:
            best = better(self.scores[0], best, Best(state.round, state.theta, scores))
        row = {"round": state.round, "rejected": rejected, "validation": scores}
        self._note(folder, contender, row | ({"best": best.round} if best else {}))
        if choosing and best is None and state.round == strategy.num_rounds:
            raise QuorumError(
                f"round {state.round}: no round of {contender.name} could be chosen, and this was "
                f"the last one; no scores from {reasons(rejected)}; metaward resume asks again"
            )
        return best

    def _scores(
        self,
        contender: Contender,
        strategy: MetaStrategy,
        state: MetaState,
        hospitals: Sequence[str],
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Values for the curve from these hospitals ({} if all are silent), and who gave none."""
        episodes = self.sim.server.evaluation.episodes
        request = Request(state.round, strategy.desk, state.theta, episodes, strategy.run)
        answers, rejected = strategy.evaluate(self.grid, hospitals, request)
        judged = Judged(contender.name, contender.learner.adapt_steps, answers)
        return (watched(judged, self.scores) if answers else {}), rejected

    def judge(self, contender: Contender, theta: Vector) -> Judged:
        """A learner's scores in the final table; every hospital that judges must answer."""
        strategy = self.strategy(contender)
        rounds, episodes = strategy.num_rounds, self.sim.server.evaluation.final_episodes
        request = Request(rounds, strategy.desk, theta, episodes, strategy.run)
        answers, rejected = strategy.evaluate(self.grid, self.judging, request, all_needed=True)
        if rejected:
            raise QuorumError(
                f"final evaluation of {contender.name}: no scores from {reasons(rejected)}"
            )
        self._judged(contender)
        return Judged(contender.name, contender.learner.adapt_steps, answers)

    def _judged(self, contender: Contender) -> None:
        everyone = [self.own, *self.opponents]
        place = everyone.index(contender) + 1
        row = {"phase": "final", "round": place, "of": len(everyone), "learner": contender.name}
        self.observe(row)


def outer_of(run: Sim, setting: Setting) -> Outer:
    """The run's optimiser; where hospitals estimate in the first round, it settles theta."""
    first = run.desk().first
    if first is None:
        return run.strategies.outer

    def settle(theta: Vector, combined: Vector) -> Vector:
        pair = torch.from_numpy(theta), torch.from_numpy(combined)
        return np.asarray(first.settle(setting, *pair).numpy(), np.float32)

    return Settling(settle, run.strategies.outer)
