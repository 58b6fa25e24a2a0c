"""The baselines that a run's learner is compared with, each under the same budget.

A new baseline is one function here and one entry of ``BASELINES``.

A baseline has the network, hospitals, records and privacy budget of the run where it is trained,
and the same number of adaptation steps on the same episodes at the unseen hospitals. The baselines'
rate, steps, batch and rounds are their own (``server.evaluation.fine_tune``), so that a rate or a
number of rounds that suits another learner does not hold them back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from metaward.client.desk import LEARNER
from metaward.client.inner import Algorithm
from metaward.client.inner.centroid import Centroid
from metaward.client.inner.fedavg import FedAvg
from metaward.client.inner.local import Local
from metaward.client.inner.metric import Metric
from metaward.client.inner.reptile import Reptile
from metaward.client.models import Architecture
from metaward.client.models.mlp import Mlp
from metaward.privacy import NoPrivacy
from metaward.sim import Sim
from metaward.strategies import Combine, Outer
from metaward.strategies.combine import Mean
from metaward.strategies.outer import Sgd


@dataclass(frozen=True)
class Contender:
    """A row of the final table: a learner, and how (or whether) it is trained.

    ``rounds``: how many rounds its training takes; None: as many as the run's. ``warms_up``:
    whether its first round learns the network's frame, if the run's does. ``network``: None takes
    the run's. ``fresh``: it starts as the network is drawn, whatever the run starts from.
    """

    name: str
    learner: Algorithm
    trained: bool = False
    key: str = ""
    private: bool = True
    combine: Combine = field(default_factory=Mean)
    outer: Outer = field(default_factory=lambda: Sgd(lr=1.0))
    rounds: int | None = None
    warms_up: bool = True
    network: Architecture | None = None
    fresh: bool = False

    def within(self, run: Sim) -> Sim:
        """The run in which this learner is trained, with its own steps, rounds and protection."""
        return replace(
            run,
            client=replace(
                run.client,
                model=self.network or run.client.model,
                inner=self.learner,
                warm_up=run.client.warm_up if self.warms_up else None,
            ),
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
    """The run's own learner without protection, which shows what privacy costs; else no row."""
    if not run.privacy.unit.protected:
        return []
    mine = own(run)
    return [replace(mine, name=f"{mine.name}, NO PRIVACY", key="no-privacy", private=False)]


def metric(run: Sim) -> list[Contender]:
    """One round of second moments under the run's mechanism: what gradients have to beat.

    There is no row where it is the run's own learner, or where tasks have no classes or are clipped
    alone.
    """
    learner = Metric(adapt_steps=run.client.inner.adapt_steps)
    unit, spec = run.privacy.unit, run.client.tasks.spec()
    if isinstance(run.client.inner, Metric) or unit.clips_tasks or not spec.kind.classes:
        return []
    return [Contender("metric", learner, True, "metric", rounds=1, warms_up=False)]


def untrained(run: Sim) -> list[Contender]:
    """The run's own learner at its start, which shows what meta-training adds to it.

    Prototypes in the features of a random network are already a fair classifier.
    """
    mine = own(run)
    return [replace(mine, name=f"{mine.name}, untrained", trained=False, key="untrained")]


def scratch(run: Sim) -> list[Contender]:
    """A fresh network adapted without meta-training, and again with ``scratch_steps`` steps."""
    learner = _fine_tuner(run)
    contenders = [Contender("from scratch", learner, fresh=True)]
    longer = run.server.evaluation.scratch_steps
    if longer:
        patient = replace(learner, adapt_steps=longer)
        contenders.append(Contender(f"from scratch, {longer} steps", patient, fresh=True))
    return contenders


def fedavg(run: Sim) -> list[Contender]:
    """Federated averaging (theta <- mean of the hospitals' phi), then the same fine-tuning."""
    return [_averaged(run, "FedAvg + fine-tune", "fedavg", names=False)]


def fedavg_names(run: Sim) -> list[Contender]:
    """The same with more knowledge: all hospitals agree on the name of every class.

    There is no row where names add nothing: if labels mean the same everywhere, or tasks have no
    classes.
    """
    spec = run.client.tasks.spec()
    if spec.canonical or not spec.kind.classes:
        return []
    return [_averaged(run, "FedAvg, names + fine-tune", "fedavg-names", names=True)]


def local(run: Sim) -> list[Contender]:
    """A model of its own at each hospital, pulled towards the mean of all.

    A new hospital gets the mean, and fine-tunes it. A second row has one vocabulary of class names,
    where ``fedavg_names`` has.
    """
    pull = run.server.evaluation.fine_tune.pull

    def pulled(averaged: Contender) -> Contender:
        name = averaged.name.replace("FedAvg", "local models")
        learner = Local(**vars(averaged.learner), pull=pull)
        key = averaged.key.replace("fedavg", "local-models")
        return replace(averaged, name=name, key=key, learner=learner)

    return [pulled(one) for one in (*fedavg(run), *fedavg_names(run))]


def centroid(run: Sim) -> list[Contender]:
    """Nearest class mean in raw input space (nearest support point where there are no classes)."""
    classes = run.client.tasks.spec().kind.classes
    name = "nearest centroid" if classes else "nearest support point"
    return [Contender(name, Centroid(), warms_up=False, network=Mlp(hidden=()))]  # raw records


BASELINES: dict[str, Callable[[Sim], list[Contender]]] = {
    "no_privacy": no_privacy,
    "metric": metric,
    "untrained": untrained,
    "scratch": scratch,
    "fedavg": fedavg,
    "fedavg_names": fedavg_names,
    "local": local,
    "centroid": centroid,
}


def opponents(run: Sim) -> list[Contender]:
    """All baselines of this run, in the order of the configuration."""
    return [one for name in run.server.evaluation.baselines for one in BASELINES[name](run)]


def claim(run: Sim) -> str:
    """The guarantee of the run's own learner in one line, and who else was trained on its records.

    Each baseline that is trained has an epsilon of its own, or none, so that "all that leaves the
    hospitals" is more than the guarantee covers.
    """
    trained = [one for one in opponents(run) if one.trained]
    if not (trained and run.privacy.unit.protected):
        return run.privacy.claim
    how = {True: "with noise and an epsilon of its own", False: "WITHOUT ANY PRIVACY"}
    others = "; ".join(f'"{one.name}" {how[one.private]}' for one in trained)
    return (
        f"{run.privacy.claim} This holds for what the run's own learner sends, and for nothing "
        f"else: the same records also train {others}."
    )


def _averaged(run: Sim, name: str, key: str, names: bool) -> Contender:
    """FedAvg under the run's mechanism if that can protect pooled tasks, else without privacy.

    Its rate is the baselines' own, which suits the features as they are and not in a frame.
    """
    learner, private = _averaging(run, names), not run.privacy.unit.clips_tasks
    rounds = run.server.evaluation.fine_tune.rounds
    label = name if private else f"{name}, NO PRIVACY"
    return Contender(label, learner, True, key, private, rounds=rounds, warms_up=False)


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


INNER = ("lr", "steps", "batch")
"""What training at a hospital has of its own, in ``fine_tune`` or else in the run's learner."""


def _fine_tuner(run: Sim) -> Reptile:
    """Plain fine-tuning for as many steps as the run's learner, at the baselines' own rate."""
    tune, learner = run.server.evaluation.fine_tune, run.client.inner
    own = {key: v for key, v in vars(learner).items() if key in INNER}
    chosen = {key: v for key, v in vars(tune).items() if key in INNER and v is not None}
    options = own | chosen
    if not options.get("steps", 1):  # prototypes alone take none; gradient descent takes one
        options["steps"] = 1
    return Reptile(adapt_steps=learner.adapt_steps, **options)
