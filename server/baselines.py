"""What a run's learner is compared with, each under the same budget: one line a baseline here.

Same network, hospitals, records and privacy budget where something is trained; the same number of
adaptation steps on the same episodes at the unseen hospitals. The baselines' rate, steps, batch and
rounds are their own (``server.evaluation.fine_tune``), so that they need not run at a rate, or in
as few rounds, as suit another learner.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from metaward.client.desk import LEARNER
from metaward.client.inner import Algorithm
from metaward.client.inner.centroid import Centroid
from metaward.client.inner.fedavg import FedAvg
from metaward.client.inner.reptile import Reptile
from metaward.privacy import NoPrivacy
from metaward.sim import Sim
from metaward.strategies import Combine, Outer
from metaward.strategies.combine import Mean
from metaward.strategies.outer import Sgd


@dataclass(frozen=True)
class Contender:
    """One line of the final table: a learner, and how (or whether) it is trained.

    ``rounds``: how many rounds its training takes; None: as many as the run's.
    """

    name: str
    learner: Algorithm
    trained: bool = False
    key: str = ""
    private: bool = True
    combine: Combine = field(default_factory=Mean)
    outer: Outer = field(default_factory=lambda: Sgd(lr=1.0))
    rounds: int | None = None

    def within(self, run: Sim) -> Sim:
        """The run as this learner is trained in it: its own steps and rounds, its own protection
        or none."""
        return replace(
            run,
            client=replace(run.client, inner=self.learner),
            strategies=replace(run.strategies, combine=self.combine, outer=self.outer),
            server=replace(run.server, rounds=self.rounds or run.server.rounds),
            privacy=run.privacy if self.private else NoPrivacy(),
        )


def own(run: Sim) -> Contender:
    """The run's own learner."""
    learner = run.client.inner
    name = str(LEARNER.plain(learner)["algorithm"])
    parts = run.strategies
    return Contender(name, learner, True, name, True, parts.combine, parts.outer)


def no_privacy(run: Sim) -> list[Contender]:
    """The run's own learner without protection: what privacy costs. No row where there is none."""
    if not run.privacy.unit.protected:
        return []
    mine = own(run)
    return [replace(mine, name=f"{mine.name}, NO PRIVACY", key="no-privacy", private=False)]


def untrained(run: Sim) -> list[Contender]:
    """The run's own learner from where it began: what meta-training adds to its architecture.

    Prototypes in the features of a random network are a fair classifier already.
    """
    mine = own(run)
    return [replace(mine, name=f"{mine.name}, untrained", trained=False, key="untrained")]


def scratch(run: Sim) -> list[Contender]:
    """The same fresh network, adapted without any meta-training; also with as long as it likes."""
    learner = _fine_tuner(run)
    contenders = [Contender("from scratch", learner)]
    longer = run.server.evaluation.scratch_steps
    if longer:
        patient = replace(learner, adapt_steps=longer)
        contenders.append(Contender(f"from scratch, {longer} steps", patient))
    return contenders


def fedavg(run: Sim) -> list[Contender]:
    """Federated averaging (theta <- mean of the hospitals' phi), then the same fine-tuning."""
    return [_averaged(run, "FedAvg + fine-tune", "fedavg", names=False)]


def fedavg_names(run: Sim) -> list[Contender]:
    """The same with more knowledge: all hospitals agree on the name of every class.

    Without rows where there is nothing more to know: labels that mean the same everywhere, or
    tasks without classes.
    """
    spec = run.client.tasks.spec()
    if spec.canonical or not spec.kind.classes:
        return []
    return [_averaged(run, "FedAvg, names + fine-tune", "fedavg-names", names=True)]


def centroid(run: Sim) -> list[Contender]:
    """Nearest class mean in raw input space (nearest support point where there are no classes)."""
    classes = run.client.tasks.spec().kind.classes
    return [Contender("nearest centroid" if classes else "nearest support point", Centroid())]


BASELINES: dict[str, Callable[[Sim], list[Contender]]] = {
    "no_privacy": no_privacy,
    "untrained": untrained,
    "scratch": scratch,
    "fedavg": fedavg,
    "fedavg_names": fedavg_names,
    "centroid": centroid,
}


def opponents(run: Sim) -> list[Contender]:
    """All that this run is compared with."""
    return [one for name in run.server.evaluation.baselines for one in BASELINES[name](run)]


def _averaged(run: Sim, name: str, key: str, names: bool) -> Contender:
    """Under the run's own mechanism, where that can protect pooled tasks; else in the open."""
    learner, private = _averaging(run, names), not run.privacy.unit.clips_tasks
    rounds = run.server.evaluation.fine_tune.rounds
    label = name if private else f"{name}, NO PRIVACY"
    return Contender(label, learner, True, key, private, rounds=rounds)


def _averaging(run: Sim, names: bool) -> FedAvg:
    tuner = _fine_tuner(run)
    return FedAvg(
        lr=tuner.lr,
        steps=tuner.steps,
        adapt_steps=tuner.adapt_steps,
        batch=tuner.batch,
        names=names,
        head_seed=run.seed,
    )


def _fine_tuner(run: Sim) -> Reptile:
    """Plain fine-tuning for as many steps as the run's learner, at the baselines' own rate."""
    tune, learner = run.server.evaluation.fine_tune, run.client.inner
    own = {key: v for key, v in vars(learner).items() if key in ("lr", "steps", "batch")}
    chosen = {k: v for k, v in vars(tune).items() if v is not None and k != "rounds"}
    options = own | chosen
    if not options.get("steps", 1):  # prototypes alone take none; gradient descent takes one
        options["steps"] = 1
    return Reptile(adapt_steps=learner.adapt_steps, **options)
